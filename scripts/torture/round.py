"""One round: a new dataset on one of the buffers, faults under load, then everything is healed, drained and judged."""

import heapq
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import Failed

from . import faults, schedule
from .clients import Beats, Clients, Ledger
from .disk import Disk
from .fleet import Fleet
from .judge import Verdict, audit, check_books, judge, settled, some
from .readers import Readers

POLL_S = 0.02
# By then every bulk in hand has been brought home, and everything is published: on a busy machine, by a debug build.
HOME_WITHIN_S = 60.0
DRAINED_WITHIN_S = 180.0
DISK_MIB = 192
DAY_MS = 86_400_000


@dataclass
class Outcome:
    """A round that is over."""

    struck: Counter = field(default_factory=Counter)
    requests: int = 0
    readings: int = 0
    looked_for: int = 0
    restarts: int = 0
    retried_letters: int = 0
    verdict: Verdict = field(default_factory=Verdict)


class Round:
    """See the module. Its folder is left to whoever made it."""

    def __init__(self, systole: Path, folder: Path, seed: str, on_redis: bool, seconds: float, faketime: Path | None):
        self._dice = random.Random(seed)
        self._seconds = seconds
        self._outcome = Outcome()
        self._undo: list[tuple[float, int, faults.Undo]] = []
        self.disk = Disk(folder / "disk", DISK_MIB)
        try:
            self.fleet = Fleet(systole, folder, self.disk, on_redis, faketime)
        except BaseException:
            self.disk.unmount()
            raise
        # More than a day ago: seen then, also by a clock that is a day behind.
        self._beats = Beats(int(time.time() * 1_000) - DAY_MS * 3 // 2)
        self._ledger = Ledger()
        kinds = [*(faults.ON_REDIS if on_redis else faults.ON_EMBEDDED), *faults.ON_ANY]
        kinds += faults.ON_A_SMALL_DISK if self.disk.kind != "folder" else []
        kinds += faults.ON_A_SMALL_DISK_OF_ITS_OWN if self.disk.kind != "folder" and on_redis else []
        kinds += faults.ON_EXT4 if self.disk.kind == "ext4" else []
        kinds += faults.WITH_CLOCKS if self.fleet.clocks else []
        self._strokes = schedule.roll(self._dice, kinds, seconds)
        (folder / "schedule.txt").write_text("".join(f"{stroke}\n" for stroke in self._strokes))

    def run(self) -> Outcome:
        self._await_first()
        clients = Clients(self.fleet.doors, self._beats, self._ledger, self._dice)
        readers = Readers(self.fleet.reading_doors, self._beats, self._ledger, self._dice)
        self._strike_all()
        self._heal()
        clients.stop()
        if not self._while_looking_after(clients.are_home, HOME_WITHIN_S):
            clients.give_up()
            self._outcome.verdict.wrong.append(f"some bulks found no 202 in {HOME_WITHIN_S:.0f} s after all was healed")
        # They go on while everything moves to its place, and read all of it in the end.
        drained = self._while_looking_after(self._is_drained, DRAINED_WITHIN_S, every_s=0.5)
        readers.finish()
        if not self._while_looking_after(readers.are_home, HOME_WITHIN_S):
            readers.give_up()
            self._outcome.verdict.wrong.append(f"not everything could be read in {HOME_WITHIN_S:.0f} s: {readers.answers}")
        self.fleet.stop_roles()
        found = judge(self.fleet.data, self._beats, self._ledger)
        found.wrong += self._outcome.verdict.wrong + some(readers.wrong)
        if not drained:
            found.wrong.append(f"not drained {DRAINED_WITHIN_S:.0f} s after all was healed: {json.dumps(audit(self.fleet))}")
        check_books(self.fleet, found)
        self._outcome.verdict = found
        self._outcome.requests = sum(self._ledger.answers.values())
        self._outcome.readings, self._outcome.looked_for = readers.readings, readers.looked_for
        self._outcome.restarts = sum(member.restarts for member in self.fleet.members)
        return self._outcome

    def close(self) -> None:
        """Ends what may still run."""
        self._heal()
        self.fleet.stop_all()
        self.disk.unmount()

    def _await_first(self) -> None:
        """A round counts from the first 202 on."""
        first = Clients(self.fleet.doors, self._beats, self._ledger, self._dice, count=1)
        first.stop()
        if not self._while_looking_after(first.are_home, HOME_WITHIN_S):
            first.give_up()
            raise Failed(f"no 202 within {HOME_WITHIN_S:.0f} s of the start: {self._ledger.answers}")

    def _strike_all(self) -> None:
        began = time.monotonic()
        strokes = list(self._strokes)
        while (now := time.monotonic() - began) < self._seconds:
            self.fleet.look_after()
            while self._undo and self._undo[0][0] <= now:
                heapq.heappop(self._undo)[2]()
            while strokes and strokes[0].at_s <= now:
                stroke = strokes.pop(0)
                undo = stroke.fault.strike(self.fleet, stroke.victim)
                if undo is not None:
                    self._outcome.struck[stroke.fault.name] += 1
                    heapq.heappush(self._undo, (now + stroke.lasts_s, len(strokes), undo))
            time.sleep(POLL_S)

    def _heal(self) -> None:
        while self._undo:
            heapq.heappop(self._undo)[2]()

    def _while_looking_after(self, condition, within_s: float, *, every_s: float = POLL_S) -> bool:
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.fleet.look_after()
            time.sleep(every_s)
        return True

    def _is_drained(self) -> bool:
        found, _ = audit(self.fleet)
        dead = sum(books["ledger"]["dead"] for books in found.get("partitions", ()))
        if dead:
            # Whoever kills a batcher over and over may have a frame condemned that only happened to be in hand.
            self.fleet.command("dead-letters", "retry", "--all")
            self._outcome.retried_letters += dead
            return False
        return settled(found)
