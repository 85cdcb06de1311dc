"""Scenarios 1 to 4, and the latencies at half load of 11: the door alone, with nobody who takes anything out behind it.

Each round starts every server afresh on an empty buffer, so that no round pays for the one before it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .bench import Bench
from .load import BULKS, SINGLES, Load
from .result import Line, Round
from .services import HELD_BACK, Redis, Registered, Server, copy

WARM_UP_S = 0.4
SINGLES_S = 2.0
BULKS_S = 1.5
HALF_LOAD_S = 2.0
# At least once in a run.
LOOK = "--monitor-every=1s"

EVERYSEC, ALWAYS, EMBEDDED = "everysec", "always", "embedded"
BUFFERS = (EVERYSEC, ALWAYS, EMBEDDED)
DURABILITY = {EVERYSEC: "Redis everysec", ALWAYS: "Redis always", EMBEDDED: "embedded, fsync"}
LATENCIES = 11


@dataclass(frozen=True)
class Shape:
    """A form of load, and how long it is measured."""

    name: str
    load: Load
    # Which scenario it is on each buffer, and what the ratio is meant to be there.
    scenarios: dict[str, int]
    aims: dict[str, float]


SHAPES = (
    Shape(
        "single POSTs, 64 connections",
        SINGLES.for_(SINGLES_S, WARM_UP_S),
        {EVERYSEC: 1, ALWAYS: 2, EMBEDDED: 3},
        {EVERYSEC: 0.85, ALWAYS: 0.70, EMBEDDED: 0.70},
    ),
    *(
        Shape(
            f"bulks of 1,000 ({name}), 8 connections",
            replace(BULKS, form=form).for_(BULKS_S, WARM_UP_S),
            dict.fromkeys(BUFFERS, 4),
            {EVERYSEC: 0.60, ALWAYS: 0.40, EMBEDDED: 0.40},
        )
        for form, name in (("array", "array"), ("ndjson", "NDJSON"))
    ),
)


@dataclass
class Door:
    """A server that is ready, and its buffer: a Redis, or the embedded one in a folder."""

    server: Server
    redis: Redis | None
    folder: Path

    def cpu_s(self) -> dict[str, float]:
        used = {"cpu": self.server.child.cpu_s()}
        return used if self.redis is None else used | {"redis_cpu": self.redis.child.cpu_s()}

    def bytes_held(self) -> dict[str, float]:
        """What the buffer takes. A file that was allocated ahead counts as a whole."""
        if self.redis is None:
            return {"disk": float(sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()))}
        info = self.redis.info()
        return {"redis": float(info["used_memory"]), "aof": float(info["aof_current_size"])}

    def frame_bytes_each(self) -> dict[str, float]:
        """By the monitor, which looks every second: a little old, yet bytes and heartbeats are of one moment."""
        seen = self.server.metrics()
        heartbeats = seen.get("buffer_heartbeats")
        return {"frame_bytes_each": seen["buffer_bytes"] / heartbeats} if heartbeats else {}


def run(bench: Bench) -> None:
    shapes = [(shape, [b for b in BUFFERS if _wanted(bench, shape, b)]) for shape in SHAPES]
    if not any(buffers for _, buffers in shapes):
        return
    with bench.folder("registered") as folder:
        registered = Registered(bench.systole, folder)
        for shape, buffers in shapes:
            if buffers:
                _measure(bench, registered, shape, buffers)


def _wanted(bench: Bench, shape: Shape, buffer: str) -> bool:
    return bench.wants(shape.scenarios[buffer]) or (shape.load.bulk == 1 and bench.wants(LATENCIES))


def _measure(bench: Bench, registered: Registered, shape: Shape, buffers: list[str]) -> None:
    lines = {
        buffer: bench.report.line(
            shape.scenarios[buffer], shape.name, "heartbeats/s", DURABILITY[buffer], f">= {shape.aims[buffer]:.2f}"
        )
        for buffer in buffers
    }
    halves = {
        buffer: bench.report.line(LATENCIES, f"p99 of the 202 at half load, {shape.name}", "ms", DURABILITY[buffer])
        for buffer in buffers
        if shape.load.bulk == 1 and bench.wants(LATENCIES)
    }
    for number in range(bench.rounds):
        bench.say(f"{shape.name}: round {number + 1} of {bench.rounds}")
        for buffer in buffers:
            limit = _limit(bench, shape.load)
            with _door(bench, registered, buffer) as door:
                _one_round(bench, door, shape, limit, lines[buffer], halves.get(buffer))


def _limit(bench: Bench, load: Load) -> tuple[float, float]:
    """Heartbeats a second of the limit app, and its CPU time for each, in microseconds."""
    with bench.limit_app() as app:
        seen = bench.load.post(app.address, load)
        return seen["per_s"], app.child.cpu_s() / seen["sent"] * 1e6


def _one_round(
    bench: Bench, door: Door, shape: Shape, limit: tuple[float, float], line: Line, half: Line | None
) -> None:
    bytes_before, cpu_before = door.bytes_held(), door.cpu_s()
    seen = bench.load.post(door.server.address, shape.load)
    sent, more = seen["sent"], {"p99_ms": seen["p99_ms"]}
    more |= {f"{what}_us_each": (cpu_s - cpu_before[what]) / sent * 1e6 for what, cpu_s in door.cpu_s().items()}
    limit_per_s, more["limit_cpu_us_each"] = limit
    more |= {f"{what}_bytes_each": (held - bytes_before[what]) / sent for what, held in door.bytes_held().items()}
    more |= door.frame_bytes_each()
    line.add(Round(seen["per_s"], limit_per_s, door.server.peak_rss_kib(), more))
    if half is not None:
        load = shape.load.for_(HALF_LOAD_S, WARM_UP_S).at(seen["per_s"] / 2)
        at_half = bench.load.post(door.server.address, load)
        names = ("p50_ms", "p999_ms", "per_s")
        half.add(Round(at_half["p99_ms"], more={name: at_half[name] for name in names}))


@contextmanager
def _door(bench: Bench, registered: Registered, buffer: str) -> Iterator[Door]:
    with bench.folder(buffer) as folder, ExitStack() as servers:
        if buffer == EMBEDDED:
            server = servers.enter_context(bench.systole.up(folder / "data", *HELD_BACK, LOOK))
            yield Door(server, None, folder / "data" / "buffer")
        else:
            redis = servers.enter_context(Redis(copy(registered.redis, folder / "redis"), buffer))
            server = servers.enter_context(bench.systole.serve(redis, LOOK))
            yield Door(server, redis, folder / "redis")
