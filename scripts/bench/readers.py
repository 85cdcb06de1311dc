"""Scenario 12: single POSTs to `up` while 8 readers stream what a user's devices have sent, as NDJSON, over and over.

Each round fills a collector with heartbeats, most of them published, and posts alternately without readers and with
them. The limit of a figure is what was posted without, right before. The readers are processes of the lowest priority: what
they themselves take of the CPU is not the server's doing.
"""

import json
import sys
from pathlib import Path

from .bench import Bench
from .load import BULKS, SINGLES
from .processes import Child, Failed, wait_until
from .result import Line, Round
from .services import POLL_S, PUBLISH_PROMPTLY, Server

READERS = 8
HEARTBEATS = 1_000_000
USERS = 1_000
TURNS = 2
SECONDS, WARM_UP_S = 2.0, 0.4
WITHIN_S = 120.0
# What a reader does, as a program of its own.
READER = Path(__file__).parent / "reader.py"
# Room at the door for all of them: one address has half of the places.
PLACES = (f"--read-streams={2 * READERS}",)


def run(bench: Bench) -> None:
    if not bench.wants(12):
        return
    line = bench.report.line(
        12, f"single POSTs, 64 connections, beside {READERS} readers", "heartbeats/s", "embedded, fsync", ">= 0.70"
    )
    for number in range(bench.rounds):
        bench.say(f"scenario 12: round {number + 1} of {bench.rounds}")
        with bench.folder("readers") as folder:
            _round(bench, folder, line)


def _round(bench: Bench, folder: Path, line: Line) -> None:
    with bench.systole.up(folder / "data", *PUBLISH_PROMPTLY, *PLACES) as server:
        filling = BULKS.exactly(HEARTBEATS, f"--users={USERS}")
        bench.load.post(server.address, filling)
        wait_until("most to be published", WITHIN_S, lambda: _published(server) >= HEARTBEATS * 0.9, poll_s=POLL_S)
        singles = SINGLES.for_(SECONDS, WARM_UP_S)
        for _ in range(TURNS):
            without = bench.load.post(server.address, singles)
            readers = [_reader(server, folder / f"reader-{number}") for number in range(READERS)]
            beside = bench.load.post(server.address, singles)
            rows = sum(_ended(reader) for reader in readers)
            if rows == 0:
                raise Failed("the readers read nothing")
            more = {"p99_ms": beside["p99_ms"], "p99_without_ms": without["p99_ms"], "read_rows": float(rows)}
            line.add(Round(beside["per_s"], without["per_s"], server.peak_rss_kib(), more))


def _published(server: Server) -> float:
    return server.metrics().get("compactor_rows_published_total", 0)


def _reader(server: Server, log: Path) -> Child:
    argv = ["nice", "-n", "19", sys.executable, str(READER), server.address, str(USERS), str(SECONDS + WARM_UP_S)]
    return Child(argv, log)


def _ended(reader: Child) -> int:
    """Rows that it has read."""
    reader.wait()
    return json.loads(reader.log.read_text().splitlines()[-1])["rows"]
