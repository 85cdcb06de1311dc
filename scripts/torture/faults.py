"""What is done to the processes of a round, and how it is undone."""

import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .proxy import Weather

if TYPE_CHECKING:
    from .fleet import Fleet, Member

# A stop reaches all threads a moment after it was asked for.
STOP_TAKES_S = 0.02
Undo = Callable[[], object]


@dataclass(frozen=True)
class Fault:
    """One kind. `strike` does it to a victim of the fleet, and answers how it is undone; None where it had no victim."""

    name: str
    strike: Callable[["Fleet", int], Undo | None]
    lasts_s: tuple[float, float] = (0.0, 0.0)
    weight: float = 1.0


def _nothing() -> None:
    pass


def _kill(role: str) -> Callable[["Fleet", int], Undo | None]:
    def strike(fleet: "Fleet", n: int) -> Undo | None:
        victim = fleet.pick(role, n)
        if victim is None:
            return None
        victim.kill()
        # Whoever watches over the processes starts it again, a moment later.
        return _nothing

    return strike


def _stop(role: str) -> Callable[["Fleet", int], Undo | None]:
    def strike(fleet: "Fleet", n: int) -> Undo | None:
        return _by_signal(fleet.pick(role, n))

    return strike


def _by_signal(victim: "Member | None") -> Undo | None:
    if victim is None:
        return None
    pid = victim.pid
    victim.signal(signal.SIGSTOP, pid)
    return lambda: victim.signal(signal.SIGCONT, pid)


def _no_more_files(fleet: "Fleet", n: int) -> Undo | None:
    victim = fleet.pick(None, n)
    if victim is None:
        return None
    pid = victim.pid
    try:
        granted = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, granted[1]))
    except (ProcessLookupError, PermissionError):
        return None

    def give_back() -> None:
        if victim.pid == pid:
            try:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, granted)
            except ProcessLookupError:
                pass

    return give_back


def _full_disk(fleet: "Fleet", _: int) -> Undo:
    fleet.disk.fill()
    return fleet.disk.make_room


def _read_only_disk(fleet: "Fleet", _: int) -> Undo | None:
    if not fleet.disk.read_only(True):
        return None
    return lambda: fleet.disk.read_only(False)


def _power_cut(fleet: "Fleet", _: int) -> Undo:
    # The machine stops with its disk: nothing that a process sees after the cut can reach anybody.
    victims = [member for member in fleet.members if member.sees_disk and member.runs]
    for victim in victims:
        victim.signal(signal.SIGSTOP, victim.pid)
    time.sleep(STOP_TAKES_S)
    fleet.disk.cut_power()
    for victim in victims:
        victim.kill()
    fleet.disk.restore_power()
    return _nothing


def _clock(fleet: "Fleet", n: int) -> Undo:
    clock = fleet.clocks[n % len(fleet.clocks)]
    clock.set("+1d" if n // len(fleet.clocks) % 2 else "-1d")
    return lambda: clock.set("+0")


def _redis_killed(fleet: "Fleet", _: int) -> Undo:
    fleet.redis.kill()
    return _nothing


def _redis_stopped(fleet: "Fleet", _: int) -> Undo | None:
    return _by_signal(fleet.redis)


def _client_pause(fleet: "Fleet", n: int) -> Undo:
    fleet.redis_says("CLIENT", "PAUSE", str(300 + n), "ALL")
    return _nothing


def _script_flush(fleet: "Fleet", _: int) -> Undo:
    fleet.redis_says("SCRIPT", "FLUSH")
    return _nothing


def _weather(weather: Weather) -> Callable[["Fleet", int], Undo]:
    def strike(fleet: "Fleet", _: int) -> Undo:
        fleet.proxy.weather = weather

        def clear() -> None:
            fleet.proxy.weather = Weather.FAIR

        return clear

    return strike


# Longer and shorter than a lease, which lasts for 0.8 s here.
STOP_S = (0.3, 3.0)
ON_REDIS = [
    Fault("kill -9 of serve", _kill("serve"), weight=2),
    Fault("kill -9 of batch", _kill("batch"), weight=2),
    Fault("kill -9 of compact", _kill("compact"), weight=2),
    Fault("SIGSTOP of serve", _stop("serve"), STOP_S),
    Fault("SIGSTOP of batch", _stop("batch"), STOP_S, weight=2),
    Fault("SIGSTOP of compact", _stop("compact"), STOP_S),
    Fault("SIGKILL of Redis", _redis_killed),
    Fault("SIGSTOP of Redis", _redis_stopped, (0.2, 2.0)),
    Fault("CLIENT PAUSE", _client_pause, (1.3, 1.3)),
    Fault("SCRIPT FLUSH", _script_flush),
    Fault("connections cut", _weather(Weather.CUT), (0.2, 1.5)),
    Fault("replies swallowed", _weather(Weather.SWALLOWING), (0.2, 1.5)),
    Fault("replies late", _weather(Weather.SLOW), (0.5, 2.0)),
]
ON_EMBEDDED = [
    Fault("kill -9 of up", _kill("up"), weight=5),
    Fault("SIGSTOP of up", _stop("up"), STOP_S, weight=2),
]
ON_ANY = [Fault("no more files", _no_more_files, (0.3, 1.5))]
ON_A_SMALL_DISK = [
    Fault("disk full", _full_disk, (0.5, 2.5)),
]
# The embedded buffer always has a file open to be written: then a disk cannot be made read-only.
ON_A_SMALL_DISK_OF_ITS_OWN = [Fault("disk read-only", _read_only_disk, (0.5, 2.0))]
ON_EXT4 = [Fault("power cut of the disk", _power_cut, weight=2)]
WITH_CLOCKS = [Fault("clock off by a day", _clock, (0.5, 3.0))]
