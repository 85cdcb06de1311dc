"""Readers: what was answered 202 must be in the very next answer to a question, whatever breaks meanwhile, once and in order;
and in the end, when each device was last seen.

An answer may fail, but what it says must be right.
"""

import http.client
import json
import random
import threading
from collections import Counter
from datetime import datetime
from urllib.parse import urlencode

from .clients import TIMEOUT_S, USERS, Beats, Ledger

BETWEEN_READINGS_S = 0.05
SMALLEST_PAGE, LARGEST_PAGE = 50, 1_000


class Refused(Exception):
    """No answer, or none that says anything."""


class Readers:
    """Threads that read one user after the other; told to finish, they read all of them and all devices once more."""

    def __init__(self, doors: list[str], beats: Beats, ledger: Ledger, dice: random.Random, count: int = 2):
        self._doors, self._beats, self._ledger = doors, beats, ledger
        self.readings = self.looked_for = 0
        # By status; 0 is no answer at all.
        self.answers: Counter = Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        self._finish, self._give_up = threading.Event(), threading.Event()
        seeds = [dice.random() for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed), range(number, USERS, count)), daemon=True)
            for number, seed in enumerate(seeds)
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        self._finish.set()

    def are_home(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def give_up(self) -> None:
        self._give_up.set()

    def _run(self, dice: random.Random, users: range) -> None:
        connections: dict[str, http.client.HTTPConnection] = {}
        while not self._finish.is_set():
            self._try(self._read, dice, connections, dice.choice(users))
            self._finish.wait(BETWEEN_READINGS_S)
        for user in users:
            for ask in (self._read, self._ask_for_devices):
                while not self._try(ask, dice, connections, user):
                    if self._give_up.wait(BETWEEN_READINGS_S):
                        return

    def _try(self, ask, dice: random.Random, connections: dict[str, http.client.HTTPConnection], user: int) -> bool:
        """Whether there was an answer."""
        door = dice.choice(self._doors)
        connection = connections.setdefault(door, http.client.HTTPConnection(door, timeout=TIMEOUT_S))
        try:
            ask(connection, dice, user)
        except Refused:
            return False
        except (OSError, http.client.HTTPException):
            connection.close()
            self.answers[0] += 1
            return False
        return True

    def _read(self, connection: http.client.HTTPConnection, dice: random.Random, user: int) -> None:
        expected = self._ledger.kept_of(user)
        found: list[int] = []
        last, cursor = None, {}
        while cursor is not None:
            page = self._get(connection, user, "heartbeats", limit=dice.randint(SMALLEST_PAGE, LARGEST_PAGE), **cursor)
            if page["covers"] != "all":
                # A door that has not found the dataset yet.
                raise Refused
            for heartbeat in page["heartbeats"]:
                last = self._check(user, heartbeat, last, found)
            cursor = {"cursor": page["next"]} if page.get("next") else None
        missed = set(expected).difference(found)
        with self._lock:
            self.readings += 1
            self.looked_for += len(expected)
            self.wrong += [f"missed by a reader: {self._beats.identity(n)}" for n in sorted(missed)]

    def _check(self, user: int, heartbeat: dict, last: tuple | None, found: list[int]) -> tuple:
        """Whether it was sent so, and stands in its order. Gives its place in that."""
        n = heartbeat["attributes"]["n"]
        identity = (heartbeat["user_id"], heartbeat["device_id"], milliseconds(heartbeat["timestamp"]), heartbeat.get("id"))
        place = (identity[2], identity[1], identity[3] or "")
        sent = (self._beats.identity(n), self._beats.attributes(n))
        if (identity, heartbeat["attributes"]) != sent or n % USERS != user or not self._ledger.was_sent(n):
            self.wrong.append(f"invented for a reader: {heartbeat}")
        if last is not None and place <= last:
            self.wrong.append(f"out of order for a reader, or twice: {heartbeat} behind {last}")
        found.append(n)
        return place

    def _ask_for_devices(self, connection: http.client.HTTPConnection, _: random.Random, user: int) -> None:
        expected: dict[str, int] = {}
        for n in self._ledger.kept_of(user):
            _, device, timestamp, _ = self._beats.identity(n)
            expected[device] = max(timestamp, expected.get(device, 0))
        answer = self._get(connection, user, "devices")
        found = {device["device_id"]: milliseconds(device["last_seen"]) for device in answer["devices"]}
        for device, timestamp in expected.items():
            # Something of it may have been kept that was not answered 202.
            if not self._ledger.was_sent(found.get(device, -1) - self._beats.base_ms) or found[device] < timestamp:
                self.wrong.append(f"user-{user} {device}: last seen {found.get(device)}, not {timestamp}")

    def _get(self, connection: http.client.HTTPConnection, user: int, what: str, **query: object) -> dict:
        connection.request("GET", f"/v1/users/user-{user}/{what}?{urlencode(query)}")
        answer = connection.getresponse()
        body = answer.read()
        self.answers[answer.status] += 1
        if 400 <= answer.status < 500:
            self.wrong.append(f"a sound question was answered {answer.status} {body[:300]!r}")
        if answer.status != 200:
            raise Refused
        return json.loads(body)


def milliseconds(timestamp: str) -> int:
    return round(datetime.fromisoformat(timestamp).timestamp() * 1_000)
