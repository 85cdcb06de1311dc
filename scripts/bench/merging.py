"""Scenarios 6 and 10: many sorted files of one bucket into one, against DuckDB and Polars on the same files.

`systole compact` is timed from its start to its end, a process and all; the rivals' clock starts once they have
imported what they need. Memory is that of the whole process, for each. The rivals write a file and sync it. Systole
also checks hashes of what it reads, verifies what it wrote, builds the identity index, renames, and deletes what it
merged.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from .bench import Bench
from .load import BULKS, Load
from .processes import Failed
from .result import Line, Round
from .services import Redis, Registered, await_drained, link

THREADS = 2
ROWS = 2_000_000
WITHIN_S = 300.0
# A heartbeat of each of 5,000 devices every ten seconds.
BEAT_MS = 10_000
# One file comes of it, which is then large enough to be left alone.
ONE_FILE = ("--publish-rows=1000000000", "--large-file-rows=1000000")


@dataclass(frozen=True)
class Job:
    """What is merged."""

    name: str
    # How the files to merge are made: rows of a claim, hence of a fragment; the share of doubles.
    claim_rows: int
    doubles: float
    # Whether each fragment is published first, as a file of its own.
    published: bool
    # What is merged lies there.
    tree: str


PUBLISH = Job("publish 200 fragments of 10,000 rows, 5 % doubles", 10_000, 0.05, False, "staging")
CONSOLIDATE = Job("consolidate 20 published files of 100,000 rows", 100_000, 0.0, True, "heartbeats")


def run(bench: Bench) -> None:
    for job in (PUBLISH, CONSOLIDATE):
        if not bench.wants(6) and not (job is PUBLISH and bench.wants(10)):
            continue
        with bench.folder("merging") as folder:
            bench.say(f"{job.name}: making the files")
            data = _make(bench, job, folder)
            if bench.wants(6):
                _measure(bench, job, data)
            if job is PUBLISH and bench.wants(10):
                _measure_bytes(bench, data)


def yesterday_at(hour: int) -> int:
    """In milliseconds: a date that is over, so that no midnight comes in between."""
    day = (datetime.now(UTC) - timedelta(days=1)).date()
    return int(datetime.combine(day, time(hour), UTC).timestamp() * 1000)


def fill(bench: Bench, registered: Registered, redis: Redis, load: Load, claim_rows: int) -> None:
    """Posts the load and writes it into fragments of the one partition."""
    server = bench.systole.serve(redis)
    sent = int(bench.load.post(server.address, load)["sent"])
    server.stop()
    batch = bench.systole.batch(redis, registered.data, f"--claim-rows={claim_rows}", "--claim-bytes=256MiB")
    await_drained(batch, redis, sent, 1, within_s=WITHIN_S)
    batch.stop()


def _make(bench: Bench, job: Job, folder: Path) -> Path:
    registered = Registered(bench.systole, folder, "--partitions=1")
    redis = Redis(registered.redis, "everysec")
    beats = (f"--from={yesterday_at(6)}", f"--beat-ms={BEAT_MS}", f"--doubles={job.doubles}")
    fill(bench, registered, redis, BULKS.exactly(ROWS, *beats), job.claim_rows)
    redis.stop()
    if job.published:
        # As many rows as a fragment has are published at once, and count as a large file, which is left alone.
        by_one = (f"--publish-rows={job.claim_rows}", f"--large-file-rows={job.claim_rows // 2}")
        bench.systole.compact(registered.data, *by_one).wait()
    files = len(list((registered.data / job.tree).rglob("*.parquet")))
    if not 0.9 <= files / (ROWS / job.claim_rows) <= 1.1:
        raise Failed(f"{files} files were made, not {ROWS // job.claim_rows}")
    return registered.data


def _measure(bench: Bench, job: Job, data: Path) -> None:
    line = bench.report.line(6, job.name, "rows/s", "fsync of each file", "> 1.00")
    for number in range(bench.rounds):
        bench.say(f"{job.name}: round {number + 1} of {bench.rounds}")
        with bench.folder("merge") as work:
            _round(bench, job, data, work, line, check=number == 0)


def _round(bench: Bench, job: Job, template: Path, work: Path, line: Line, *, check: bool) -> None:
    data = link(template, work / "data")
    by_duckdb, by_polars = work / "duckdb.parquet", work / "polars.parquet"
    duckdb = bench.rival("merge_duckdb", data / job.tree, by_duckdb, THREADS, threads=THREADS)
    polars = bench.rival("merge_polars", data / job.tree, by_polars, threads=THREADS)
    ours = bench.systole.compact(data, *ONE_FILE).wait()
    published = list((data / "heartbeats").rglob("*.parquet"))
    if len(published) != 1:
        raise Failed(f"{len(published)} files are left of {job.name}")
    if check:
        bench.rival("check_merged", data / "heartbeats", by_duckdb, by_polars, threads=THREADS)
    more = {
        "s": ours.wall_s,
        "duckdb_s": duckdb["seconds"],
        "polars_s": polars["seconds"],
        "cpu_s": ours.cpu_s,
        "duckdb_cpu_s": duckdb["cpu_s"],
        "polars_cpu_s": polars["cpu_s"],
        "duckdb_MiB": duckdb["peak_rss_kib"] / 1024,
        "polars_MiB": polars["peak_rss_kib"] / 1024,
    }
    faster = min(duckdb["seconds"], polars["seconds"])
    line.add(Round(ROWS / ours.wall_s, ROWS / faster, ours.max_rss_kib, more))


def _measure_bytes(bench: Bench, template: Path) -> None:
    """One round: the same rows make the same bytes."""
    line = bench.report.line(10, "bytes of a heartbeat in published files", "bytes", "", "<= 1.00")
    bench.say(line.name)
    with bench.folder("bytes") as work:
        data = link(template, work / "data")
        bench.systole.compact(data, *ONE_FILE).wait()
        [published] = (data / "heartbeats").rglob("*.parquet")
        by_duckdb, by_polars = work / "duckdb.parquet", work / "polars.parquet"
        rows = bench.rival("rewrite", data / "heartbeats", by_duckdb, by_polars, threads=THREADS)["rows"]
        ours, duckdb, polars = (path.stat().st_size / rows for path in (published, by_duckdb, by_polars))
        line.add(Round(ours, min(duckdb, polars), more={"duckdb": duckdb, "polars": polars}))
