"""Scenario 9: `up` with the CPU and the memory of a small pod, the load generator outside of it.

Sustained: what comes in while batcher and compactor work behind it, all defaults. Then 24,000 records in bulks of
100, from the first POST until all are published, with `publish-after` at a second: at its default of a minute it is up
to a minute more, in which nothing is done.
"""

import time
from dataclasses import replace

from .bench import Bench
from .cgroup import ControlGroup, Unavailable
from .load import BULKS, SINGLES
from .processes import wait_until
from .result import Round
from .services import PUBLISH_PROMPTLY, Server

CORES = 0.2
MEMORY_BYTES = 256 << 20
RECORDS = 24_000
SUSTAINED_S = 8.0
WARM_UP_S = 1.0
WITHIN_S = 600.0
# Behind a fifth of a core, more connections would only wait for each other.
SMALL_BULKS = replace(BULKS, bulk=100, pool=1_000)
LOADS = {
    "single POSTs, 64 connections": SINGLES.for_(SUSTAINED_S, WARM_UP_S),
    "bulks of 100, 8 connections": SMALL_BULKS.for_(SUSTAINED_S, WARM_UP_S),
}
DURABILITY = "embedded, fsync"


def run(bench: Bench) -> None:
    """One round each: it is a statement, held against nothing."""
    if not bench.wants(9):
        return
    try:
        group = ControlGroup(CORES, MEMORY_BYTES)
    except Unavailable as why:
        bench.report.skipped[9] = str(why)
        return
    try:
        for name, load in LOADS.items():
            bench.say(f"scenario 9: {name}")
            with bench.folder("pod") as work, bench.systole.up(work / "data", within=group) as server:
                seen = bench.load.post(server.address, load, may_be_put_off=True)
                line = bench.report.line(9, f"0.2 cores, 256 MiB: {name}", "heartbeats/s", DURABILITY)
                more = {name: seen[name] for name in ("p50_ms", "p99_ms", "put_off")}
                line.add(Round(seen["per_s"], None, server.peak_rss_kib(), more))
        bench.say(f"scenario 9: {RECORDS:,} records until they are published")
        with bench.folder("pod") as work, bench.systole.up(work / "data", *PUBLISH_PROMPTLY, within=group) as server:
            line = bench.report.line(9, f"0.2 cores, 256 MiB: {RECORDS:,} records until published", "s", DURABILITY)
            line.add(_until_published(bench, server))
    finally:
        group.remove()


def _until_published(bench: Bench, server: Server) -> Round:
    began = time.monotonic()
    bench.load.post(server.address, SMALL_BULKS.exactly(RECORDS), may_be_put_off=True)
    taken_s = time.monotonic() - began

    def published() -> bool:
        return server.metrics()["compactor_rows_published_total"] >= RECORDS

    wait_until(f"{RECORDS} published rows", WITHIN_S, published, poll_s=0.2, running=(server.child,))
    return Round(time.monotonic() - began, None, server.peak_rss_kib(), {"until_the_last_202_s": taken_s})
