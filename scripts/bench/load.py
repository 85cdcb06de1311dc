"""The load: scripts/load, and the forms of it that the scenarios share."""

import subprocess
from dataclasses import dataclass, replace

from .processes import Failed

# Requests that are made before the clock starts. Many enough that no cache holds them all, few enough for the memory.
SINGLE_POOL = 20_000
BULK_POOL = 100
BULK = 1_000


@dataclass(frozen=True)
class Load:
    """Arguments of the load generator."""

    connections: int
    bulk: int = 1
    form: str = "array"
    pool: int = 0
    warm_up_s: float = 0.0
    seconds: float = 600.0
    heartbeats: int | None = None
    rate: float | None = None
    more: tuple[str, ...] = ()

    def for_(self, seconds: float, warm_up_s: float = 0.0) -> "Load":
        return replace(self, seconds=seconds, warm_up_s=warm_up_s)

    def at(self, rate: float) -> "Load":
        return replace(self, rate=rate)

    def exactly(self, heartbeats: int, *more: str) -> "Load":
        """So many, each of them once (but for wanted doubles), made as they are sent."""
        return replace(self, heartbeats=heartbeats, pool=0, more=self.more + more)

    def prepared(self) -> "Load":
        """Every request made before the clock starts."""
        return replace(self, pool=-(-self.heartbeats // self.bulk))

    def argv(self, address: str) -> list[str]:
        words = [f"--address={address}", f"--connections={self.connections}", f"--bulk={self.bulk}"]
        words += [f"--form={self.form}", f"--pool={self.pool}"]
        words += [f"--warm-up={self.warm_up_s}", f"--seconds={self.seconds}", *self.more]
        if self.heartbeats is not None:
            words.append(f"--heartbeats={self.heartbeats}")
        if self.rate is not None:
            words.append(f"--rate={self.rate}")
        return words


SINGLES = Load(connections=64, pool=SINGLE_POOL)
BULKS = Load(connections=8, bulk=BULK, pool=BULK_POOL)


class Generator:
    """The load generator's binary."""

    def __init__(self, binary: str):
        self._binary = binary

    def post(self, address: str, load: Load, *, may_be_put_off: bool = False) -> dict[str, float]:
        """Posts to the end; the figures that the generator prints."""
        return self.figures(self.start(address, load), may_be_put_off=may_be_put_off)

    def start(self, address: str, load: Load) -> subprocess.Popen[str]:
        # In the bench's own group: Ctrl-C ends it, and it keeps nothing.
        argv = [self._binary, *load.argv(address)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @staticmethod
    def figures(generator: subprocess.Popen[str], *, may_be_put_off: bool = False) -> dict[str, float]:
        line, complaint = generator.communicate()
        if generator.returncode != 0:
            raise Failed(f"the load generator failed: {complaint.strip()}")
        figures = {name: float(value) for name, value in (pair.split("=") for pair in line.split())}
        if figures["refused"] or (figures["put_off"] and not may_be_put_off):
            raise Failed(f"requests were not taken: {line.strip()}")
        return figures
