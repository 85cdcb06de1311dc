"""Scenario 5: a backlog from Redis into fragments, on one core.

The batcher has one core, Redis the other. It is timed from its start until everything is acknowledged. Its limit is
Polars on one core, which writes the very same rows, sorted and as columns in memory already: see
rivals/write_polars.py.
"""

import time
from pathlib import Path

from .bench import Bench
from .load import BULKS
from .result import Round
from .services import Redis, Registered, await_drained, copy

BACKLOG = 2_000_000
WITHIN_S = 300.0
PARTITIONS = 16
BATCHER_CORE, REDIS_CORE = "0", "1"


def run(bench: Bench) -> None:
    if not bench.wants(5):
        return
    line = bench.report.line(5, "backlog of 2 M into fragments, one core", "rows/s", "Redis everysec", ">= 0.60")
    with bench.folder("backlog") as folder:
        bench.say("scenario 5: filling a Redis with 2 million heartbeats")
        registered = Registered(bench.systole, folder)
        _fill(bench, registered)
        for number in range(bench.rounds):
            bench.say(f"scenario 5: round {number + 1} of {bench.rounds}")
            with bench.folder("drain") as work:
                line.add(_round(bench, registered, work))


def _fill(bench: Bench, registered: Registered) -> None:
    redis = Redis(registered.redis, "everysec")
    server = bench.systole.serve(redis)
    bench.load.post(server.address, BULKS.exactly(BACKLOG))
    server.stop()
    redis.stop()


def _round(bench: Bench, registered: Registered, work: Path) -> Round:
    redis = Redis(copy(registered.redis, work / "redis"), "everysec", cores=REDIS_CORE)
    data = copy(registered.data, work / "data")
    began = time.monotonic()
    batch = bench.systole.batch(redis, data, cores=BATCHER_CORE, await_ready=False)
    took_s = await_drained(batch, redis, BACKLOG, PARTITIONS, within_s=WITHIN_S) - began
    used = batch.stop()
    redis_cpu_s = redis.stop().cpu_s
    rival = bench.rival("write_polars", data / "staging", work, cores=BATCHER_CORE, threads=1)
    more = {
        "cpu_us_each": used.cpu_s / BACKLOG * 1e6,
        "limit_cpu_us_each": rival["cpu_s"] / BACKLOG * 1e6,
        "ratio_by_cpu": rival["cpu_s"] / used.cpu_s,
        "redis_cpu_us_each": redis_cpu_s / BACKLOG * 1e6,
    }
    return Round(BACKLOG / took_s, BACKLOG / rival["seconds"], used.max_rss_kib, more)
