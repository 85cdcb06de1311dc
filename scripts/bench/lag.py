"""The rest of 11: from the 202 to the published row, with Redis, `batch` and `compact --watch` at their defaults.

One heartbeat a second from one device, for about as long as the longest wait that the defaults allow
(`publish-after` is 60 s, `max-delay` 5 s). The rows that are published at some moment are the oldest of those that
were answered, so each one's time can be told from the count.
"""

import http.client
import json
import time
from collections import deque

from .bench import Bench
from .intake import LATENCIES
from .processes import Failed, wait_until
from .result import Line, Report, Round
from .services import Redis, Registered, Server

POSTS = 58
EVERY_S = 1.0
POLL_S = 0.05
WITHIN_S = 90.0


def run(bench: Bench) -> None:
    if not bench.wants(LATENCIES):
        return
    bench.say("scenario 11: from the 202 to the published row")
    with bench.folder("lag") as folder:
        registered = Registered(bench.systole, folder)
        redis = Redis(registered.redis, "always")
        door = bench.systole.serve(redis)
        batch = bench.systole.batch(redis, registered.data)
        compact = bench.systole.watch(registered.data)
        lags = _lags(door, compact)
        for server in (door, batch, compact):
            server.stop()
        redis.stop()
    lags_after_first = sorted(lags[1:])
    first = _line(bench.report, "from 202 to published: the first heartbeat")
    first.add(Round(lags[0]))
    steady = _line(bench.report, "from 202 to published: one a second, the median")
    most = {"least_s": lags_after_first[0], "most_s": lags_after_first[-1]}
    steady.add(Round(lags_after_first[len(lags_after_first) // 2], more=most))


def _line(report: Report, name: str) -> Line:
    return report.line(LATENCIES, name, "s", "Redis always")


def _lags(door: Server, compact: Server) -> list[float]:
    """Seconds that each heartbeat took, in the order in which they were answered."""
    waiting: deque[float] = deque()
    lags: list[float] = []

    def look() -> None:
        rows = int(compact.metrics().get("compactor_rows_published_total", 0))
        while len(lags) < rows and waiting:
            lags.append(time.monotonic() - waiting.popleft())

    began = time.monotonic()
    for number in range(POSTS):
        _post_one(door.address)
        waiting.append(time.monotonic())
        while time.monotonic() < began + (number + 1) * EVERY_S:
            look()
            time.sleep(POLL_S)

    def all_published() -> bool:
        look()
        return not waiting

    wait_until("the last row", WITHIN_S, all_published, poll_s=POLL_S, running=(door.child, compact.child))
    return lags


def _post_one(address: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=10.0)
    beat = {"user_id": "ada", "device_id": "laptop", "timestamp": int(time.time() * 1000)}
    connection.request("POST", "/v1/heartbeats", json.dumps(beat), {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 202:
        raise Failed(f"a heartbeat was answered with {answer.status}")
