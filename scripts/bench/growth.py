"""Scenario 7: what a batch and a publish of 100,000 new rows cost, when the bucket's day holds 0, 1 and 10 million
rows.

One percent of the new rows are late: they lie among the rows that are there. Bytes are what the process asked the
kernel to read and write, from its start to its end; they are held against those of the empty day. One dataset is
filled from size to size; each round works on a copy of it by hard links, with a copy of the same Redis, which holds
the new rows.
"""

from pathlib import Path

from .bench import Bench
from .load import BULKS
from .merging import BEAT_MS, WITHIN_S, fill, yesterday_at
from .processes import Usage
from .result import Line, Round
from .services import Redis, Registered, await_drained, copy, link

SIZES = (0, 1_000_000, 10_000_000)
NEW_ROWS = 100_000
LATE_SHARE = 0.01
DEVICES = 5_000
# The day is filled from six o'clock on, with ten million heartbeats of 5,000 devices until half past eleven.
FILLED_FROM_HOUR, NEW_FROM_HOUR = 6, 18
LATE_BEATS = 10
# Files of the size that a publish makes in a day under load, none of which is merged again.
FILL = ("--publish-rows=1000000", "--large-file-rows=500000")
CLAIM_ROWS = 100_000
# They wait in the memory of a Redis.
FILL_AT_ONCE = 2_000_000
STEPS = ("batch", "publish")


def run(bench: Bench) -> None:
    if not bench.wants(7):
        return
    with bench.folder("growth") as folder:
        registered = Registered(bench.systole, folder / "day", "--partitions=1")
        new = copy(registered.redis, folder / "new")
        _post_new(bench, new)
        lines = {(size, step): _line(bench, size, step) for size in SIZES for step in STEPS}
        templates = {}
        for size, before in zip(SIZES, (0, *SIZES[:-1]), strict=True):
            bench.say(f"scenario 7: filling a day with {size:,} rows")
            _fill(bench, registered, before, size)
            templates[size] = link(registered.data, folder / f"data-{size}")
        for number in range(bench.rounds):
            bench.say(f"scenario 7: round {number + 1} of {bench.rounds}")
            _round(bench, new, templates, lines, folder)


def _line(bench: Bench, size: int, step: str) -> Line:
    return bench.report.line(
        7, f"{step} of 100,000 rows into a day of {size:,}", "MB read+written", "fsync of each file", "<= 1.10"
    )


def _post_new(bench: Bench, redis_folder: Path) -> None:
    redis = Redis(redis_folder, "everysec")
    server = bench.systole.serve(redis)
    late = int(NEW_ROWS * LATE_SHARE)
    devices = late // LATE_BEATS
    # From the same devices, half a beat beside the heartbeats that are there, and from all over the filled time.
    spread_ms = SIZES[-1] // DEVICES * BEAT_MS // LATE_BEATS
    filled_from = yesterday_at(FILLED_FROM_HOUR)
    among = (
        f"--from={filled_from + BEAT_MS // 2}",
        f"--beat-ms={spread_ms}",
        f"--devices={devices}",
        f"--users={devices}",
    )
    bench.load.post(server.address, BULKS.exactly(late, *among))
    on_time = (f"--from={yesterday_at(NEW_FROM_HOUR)}", f"--beat-ms={BEAT_MS}")
    bench.load.post(server.address, BULKS.exactly(NEW_ROWS - late, *on_time))
    server.stop()
    redis.stop()


def _fill(bench: Bench, registered: Registered, before: int, size: int) -> None:
    beats = (f"--from={yesterday_at(FILLED_FROM_HOUR)}", f"--beat-ms={BEAT_MS}")
    for first in range(before, size, FILL_AT_ONCE):
        rows = min(FILL_AT_ONCE, size - first)
        redis = Redis(registered.redis, "everysec")
        fill(bench, registered, redis, BULKS.exactly(rows, *beats, f"--first={first}"), CLAIM_ROWS)
        redis.stop()
        bench.systole.compact(registered.data, *FILL).wait()


def _round(bench: Bench, new: Path, templates: dict[int, Path], lines: dict, folder: Path) -> None:
    empty: dict[str, float] = {}
    for size in SIZES:
        with bench.folder("grown") as work:
            data = link(templates[size], work / "data")
            redis = Redis(copy(new, work / "redis"), "everysec")
            batch = bench.systole.batch(redis, data, f"--claim-rows={CLAIM_ROWS}", "--claim-bytes=256MiB")
            await_drained(batch, redis, NEW_ROWS, 1, within_s=WITHIN_S)
            used = {"batch": batch.stop()}
            redis.stop()
            used["publish"] = bench.systole.compact(data, *FILL).wait()
        for step in STEPS:
            cost = _cost(used[step])
            # The empty day comes first.
            limit = empty.setdefault(step, cost["read_MB"] + cost["written_MB"])
            figure = cost["read_MB"] + cost["written_MB"]
            lines[size, step].add(Round(figure, limit, used[step].max_rss_kib, cost))


def _cost(used: Usage) -> dict[str, float]:
    names = {"rchar": "read_MB", "wchar": "written_MB", "read_bytes": "from_disk_MB", "write_bytes": "to_disk_MB"}
    return {short: used.io[name] / 1e6 for name, short in names.items()} | {"cpu_s": used.cpu_s}
