"""Clients, and the ledger: what was answered 202 must be published once, what got no clear answer may be.

Every heartbeat is made from its number alone, so that a published row tells whether it is what was sent.
"""

import http.client
import json
import random
import threading
from dataclasses import dataclass, field

TIMEOUT_S = 10.0
BETWEEN_TRIES_S = 0.1
USERS = 40
DEVICES = 3
# One user in so many says so much with each heartbeat that a reader meets more of it than is collected at a time.
WORDY_ONE_IN = 20
WORDY_BYTES = 3_000
LARGEST_BULK = 60
# The share of bulks that are sent once more although they were answered 202.
AGAIN = 0.05


@dataclass(frozen=True)
class Beats:
    """Where the numbers of a round begin in time: ms since the epoch."""

    base_ms: int

    def identity(self, n: int) -> tuple[str, str, int, str | None]:
        # A third has an id; without one, no two have the same millisecond.
        return f"user-{n % USERS}", f"device-{n // USERS % DEVICES}", self.base_ms + n, f"id-{n}" if n % 3 == 0 else None

    def attributes(self, n: int) -> dict[str, object]:
        return {"n": n} | ({"words": f"{n} " * (WORDY_BYTES // len(f"{n} "))} if n % USERS % WORDY_ONE_IN == 0 else {})

    def record(self, n: int) -> dict[str, object]:
        user, device, timestamp, key = self.identity(n)
        record = {"user_id": user, "device_id": device, "timestamp": timestamp, "attributes": self.attributes(n)}
        return record | ({"id": key} if key else {})


@dataclass
class Ledger:
    """Shared by all clients of a round."""

    kept: set[int] = field(default_factory=set)
    maybe: set[int] = field(default_factory=set)
    # Requests by what they were answered; 0 is no answer at all.
    answers: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    _kept_of: dict[int, list[int]] = field(default_factory=lambda: {user: [] for user in range(USERS)})
    _next: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, count: int) -> range:
        with self._lock:
            first, self._next = self._next, self._next + count
        return range(first, first + count)

    def kept_of(self, user: int) -> list[int]:
        """What this user was answered 202 by now."""
        with self._lock:
            return self._kept_of[user].copy()

    def was_sent(self, n: int) -> bool:
        return 0 <= n < self._next

    def enter(self, bulk: range, status: int, body: bytes) -> bool:
        """Whether all of the bulk is kept."""
        with self._lock:
            self.answers[status] = self.answers.get(status, 0) + 1
            if status == 202:
                answer = json.loads(body)
                refused = {entry["index"] for entry in answer.get("rejected", ())}
                for n in (n for index, n in enumerate(bulk) if index not in refused and n not in self.kept):
                    self.kept.add(n)
                    self._kept_of[n % USERS].append(n)
                if refused or answer["accepted"] != len(bulk):
                    self.wrong.append(f"a sound bulk was answered {body[:300]!r}")
                return True
            if status in (400, 404, 405, 413, 415, 422):
                self.wrong.append(f"a sound bulk was answered {status} {body[:300]!r}")
            self.maybe.update(bulk)
            return False


class Clients:
    """Threads that post to the doors until they are told to stop."""

    def __init__(self, doors: list[str], beats: Beats, ledger: Ledger, dice: random.Random, count: int = 6):
        self._doors, self._beats, self._ledger = doors, beats, ledger
        self._stop = threading.Event()
        self._give_up = threading.Event()
        seeds = [dice.random() for _ in range(count)]
        self._threads = [threading.Thread(target=self._run, args=(random.Random(seed),), daemon=True) for seed in seeds]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Lets each bring home the bulk that it has in hand, and no more."""
        self._stop.set()

    def are_home(self) -> bool:
        """Whether all of them did."""
        return not any(thread.is_alive() for thread in self._threads)

    def give_up(self) -> None:
        """Ends those that have not."""
        self._stop.set()
        self._give_up.set()

    def _run(self, dice: random.Random) -> None:
        connections: dict[str, http.client.HTTPConnection] = {}
        while True:
            bulk = self._ledger.take(1 if dice.random() < 0.3 else dice.randint(2, LARGEST_BULK))
            tries = 2 if dice.random() < AGAIN else 1
            while tries and not self._give_up.is_set():
                if self._post(dice.choice(self._doors), connections, bulk):
                    tries -= 1
                else:
                    self._give_up.wait(BETWEEN_TRIES_S)
            # Looked at last: each posts one bulk at least.
            if self._stop.is_set():
                return

    def _post(self, door: str, connections: dict[str, http.client.HTTPConnection], bulk: range) -> bool:
        records = [self._beats.record(n) for n in bulk]
        connection = connections.setdefault(door, http.client.HTTPConnection(door, timeout=TIMEOUT_S))
        headers = {"content-type": "application/json"}
        try:
            connection.request("POST", "/v1/heartbeats", json.dumps(records if len(bulk) > 1 else records[0]), headers)
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            status, body = 0, b""
        return self._ledger.enter(bulk, status, body)
