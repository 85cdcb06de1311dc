"""The verdict: the ledger against the published files, read by DuckDB; Systole's own books and files beside it."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from .clients import Beats, Ledger
from .fleet import Fleet

# Faults shown of one kind before the rest is only counted.
SHOWN = 5


@dataclass
class Verdict:
    """What a round came to. `wrong` says in words what must not be."""

    kept: int = 0
    published: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)


def published(data: Path) -> list[tuple]:
    """Every row that a reader sees, and how often its identity stands there."""
    if not any((data / "heartbeats").rglob("*.parquet")):
        return []
    glob = str(data / "heartbeats/**/*.parquet")
    query = """
        select user_id, device_id, epoch_ms(timestamp), id, any_value(attributes), count(*)
        from read_parquet($glob, hive_partitioning = true)
        group by 1, 2, 3, 4
    """
    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        return connection.execute(query, {"glob": glob}).fetchall()


def judge(data: Path, beats: Beats, ledger: Ledger) -> Verdict:
    try:
        rows = published(data)
    except duckdb.Error as error:
        # What a reader cannot read is there for nobody.
        return Verdict(kept=len(ledger.kept), lost=len(ledger.kept), wrong=[f"the published files: {error}"])
    verdict = Verdict(kept=len(ledger.kept), published=sum(row[-1] for row in rows))
    numbers: set[int] = set()
    doubled, strange = [], []
    for user, device, timestamp, key, attributes, count in rows:
        said = json.loads(attributes or '{"n": -1}')
        n = said["n"]
        if (user, device, timestamp, key, said) != (*beats.identity(n), beats.attributes(n)) or n in numbers:
            strange.append(f"changed: {(user, device, timestamp, key, attributes)}")
        elif n not in ledger.kept and n not in ledger.maybe:
            strange.append(f"invented: {(user, device, timestamp, key, attributes)}")
        numbers.add(n)
        if count > 1:
            doubled.append(f"doubled: {count} times {(user, device, timestamp, key)}")
    lost = sorted(ledger.kept - numbers)
    verdict.lost, verdict.doubled = len(lost), len(doubled)
    verdict.wrong += some([f"lost: {beats.identity(n)}" for n in lost]) + some(doubled) + some(strange)
    verdict.wrong += some(ledger.wrong)
    return verdict


def some(faults: list[str]) -> list[str]:
    more = len(faults) - SHOWN
    return faults[:SHOWN] + ([f"… and {more} more"] if more > 0 else [])


def audit(fleet: Fleet) -> tuple[dict, str]:
    """What the audit found; nothing, and why, when it could not look."""
    ended = fleet.command("audit", "--json")
    try:
        return json.loads(ended.stdout), ""
    except ValueError:
        return {}, f"audit: exit code {ended.returncode}: {ended.stdout}{ended.stderr}"


def settled(found: dict) -> bool:
    """Everything is written and merged; nothing waits."""
    waiting = sum(
        books["ledger"]["pending"] + books["ledger"]["claimed"] + books["files"]["staged"]
        for books in found.get("partitions", ())
    )
    return bool(found) and waiting == 0


def check_books(fleet: Fleet, verdict: Verdict) -> None:
    found, why = audit(fleet)
    if found.get("verdict") != "balanced":
        verdict.wrong.append(f"the books: {found.get('verdict')} {why or json.dumps(found)[:2_000]}")
    ended = fleet.command("verify")
    if ended.returncode != 0:
        verdict.wrong.append(f"verify: exit code {ended.returncode}: {(ended.stdout + ended.stderr)[:2_000]}")
    verdict.wrong += some(fleet.complaints())
