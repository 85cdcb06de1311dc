"""Scenario 8: the whole in one process, `up`: bulks in, published files out.

*Whole* is the number of heartbeats, divided by the time from the first POST until all of them are published,
everything at work side by side. A *stage alone* is the same number through that stage while the others have nothing
to do, in the same round:

  intake     posted as bulks, nothing claimed: from the first POST to the last answer
  drain      what then waits into fragments, nothing published: from the start until the buffer is empty
  publish    those fragments into published files, by one pass of `systole compact`: from its start to its end

The limit is the slowest of the three. Each of them has all cores to itself, which the whole has to share out: with
`cpu_bound` cores divided by the sum of the stages' CPU seconds a heartbeat is what the same stages can carry side by
side. Waits that are there to make fewer files are a second at most here: they are no work.
"""

import os
import time
from pathlib import Path

from .bench import Bench
from .load import BULKS
from .processes import wait_until
from .result import Round
from .services import HELD_BACK, POLL_S, PUBLISH_PROMPTLY, UNPUBLISHED, Server

HEARTBEATS = 2_000_000
WITHIN_S = 120.0
CLAIM_PROMPTLY = ("--max-delay=500ms", "--monitor-every=100ms")
# Every request is made before the clock starts, and is sent once.
LOAD = BULKS.exactly(HEARTBEATS).prepared()


def run(bench: Bench) -> None:
    if not bench.wants(8):
        return
    line = bench.report.line(
        8, "the whole: bulks in, published out, `up`", "heartbeats/s", "embedded, fsync", ">= 0.80"
    )
    for number in range(bench.rounds):
        bench.say(f"scenario 8: round {number + 1} of {bench.rounds}")
        with bench.folder("whole") as work:
            line.add(_round(bench, work))


def _round(bench: Bench, work: Path) -> Round:
    stages = _stages(bench, work / "apart")
    whole, cpu_s, peak_rss_kib = _whole(bench, work / "whole")
    stages_cpu_s = sum(cpu_s for _, cpu_s in stages.values())
    slowest = min(rate for rate, _ in stages.values())
    bound = len(os.sched_getaffinity(0)) * HEARTBEATS / stages_cpu_s
    more = {f"{name}_alone": rate for name, (rate, _) in stages.items()}
    more |= {"cpu_bound": bound, "of_cpu_bound": whole / bound, "cpu_us_each": cpu_s / HEARTBEATS * 1e6}
    return Round(whole, slowest, peak_rss_kib, more)


def _stages(bench: Bench, data: Path) -> dict[str, tuple[float, float]]:
    """Heartbeats a second and CPU seconds of each stage alone."""
    server = bench.systole.up(data, *HELD_BACK)
    intake = bench.load.post(server.address, LOAD)["per_s"], server.stop().cpu_s

    began = time.monotonic()
    server = bench.systole.up(data, *CLAIM_PROMPTLY, *UNPUBLISHED)
    wait_until("an empty buffer", WITHIN_S, lambda: _is_drained(server), poll_s=POLL_S, running=(server.child,))
    drain = HEARTBEATS / (time.monotonic() - began), server.stop().cpu_s

    used = bench.systole.compact(data).wait()
    return {"intake": intake, "drain": drain, "publish": (HEARTBEATS / used.wall_s, used.cpu_s)}


def _whole(bench: Bench, data: Path) -> tuple[float, float, int]:
    server = bench.systole.up(data, *CLAIM_PROMPTLY, *PUBLISH_PROMPTLY)
    # Made beforehand, which is not the server's time: the clock starts with the first answer but for its own latency.
    generator = bench.load.start(server.address, LOAD)
    wait_until("the first heartbeat", WITHIN_S, lambda: server.metrics()["heartbeats_accepted_total"] > 0)
    began = time.monotonic()
    _await(server, "compactor_rows_published_total", HEARTBEATS)
    took_s = time.monotonic() - began
    bench.load.figures(generator)
    peak_rss_kib = server.peak_rss_kib()
    return HEARTBEATS / took_s, server.stop().cpu_s, peak_rss_kib


def _is_drained(server: Server) -> bool:
    seen = server.metrics()
    return seen["buffer_reachable"] == 1 and seen["batcher_rows_total"] > 0 and seen["buffer_heartbeats"] == 0


def _await(server: Server, counter: str, count: int) -> None:
    what = f"{counter} of {count}"
    wait_until(what, WITHIN_S, lambda: server.metrics()[counter] >= count, poll_s=POLL_S, running=(server.child,))
