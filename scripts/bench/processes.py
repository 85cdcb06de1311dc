"""Child processes: started, watched by the kernel's own counts, and ended whatever happens."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

STOP_WITHIN_S = 30.0
POLL_S = 0.005
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_running: set["Child"] = set()


class Failed(Exception):
    """The bench cannot go on; the text says why."""


@dataclass(frozen=True)
class Usage:
    """What a process took from its start to its end."""

    wall_s: float
    cpu_s: float
    max_rss_kib: int
    # Of /proc/PID/io: rchar, wchar (asked of the kernel), read_bytes, write_bytes (of the disk).
    io: dict[str, int]


class Child:
    """A process of ours, in a group of its own: Ctrl-C reaches the bench, which ends it in order. In a session of its own
    the kernel would weigh its threads against those of others (autogroup) whatever their niceness."""

    def __init__(self, argv: list[str], log: Path, *, cores: str | None = None, env: dict[str, str] | None = None):
        self.name = " ".join(Path(word).name if n == 0 else word for n, word in enumerate(argv[:2]))
        self.log = log
        if cores is not None:
            argv = ["taskset", "--cpu-list", cores, *argv]
        with log.open("ab") as output:
            self._began = time.monotonic()
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                env=_environment() | (env or {}),
                preexec_fn=os.setpgrp,
            )
        self.pid = self._process.pid
        self.usage: Usage | None = None
        _running.add(self)

    def wait(self) -> Usage:
        """Until it ends by itself, which it must do well."""
        self._reap()
        if self._process.returncode != 0:
            raise Failed(f"{self.name} ended with {self._process.returncode}: {self.last_words()}")
        return self.usage

    def stop(self) -> Usage:
        """Asks it to end, and sees to it."""
        if self.usage is None:
            os.kill(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_WITHIN_S
            while not self.ended():
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
                    break
                time.sleep(POLL_S)
            self._reap()
        return self.usage

    def kill(self) -> None:
        """Ends it at once."""
        if self.usage is None:
            os.kill(self.pid, signal.SIGKILL)
            self._reap()

    def ended(self) -> bool:
        return self.usage is not None or os.waitid(os.P_PID, self.pid, _LOOK | os.WNOHANG) is not None

    def must_run(self) -> None:
        if self.ended():
            raise Failed(f"{self.name} ended: {self.last_words()}")

    def peak_rss_kib(self) -> int:
        """The most that was resident, by the kernel's mark."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
        return 0

    def cpu_s(self) -> float:
        """Of all its threads, user and system, so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def io(self) -> dict[str, int]:
        pairs = (line.split(": ") for line in Path(f"/proc/{self.pid}/io").read_text().splitlines())
        return {name: int(value) for name, value in pairs}

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return " | ".join(lines[-3:]) or "it said nothing"

    def _reap(self) -> None:
        # Looked at first: /proc of a process is there until its end has been taken note of.
        os.waitid(os.P_PID, self.pid, _LOOK)
        wall_s = time.monotonic() - self._began
        io = self.io()
        _, status, used = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.usage = Usage(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss, io)
        _running.discard(self)


_LOOK = os.WEXITED | os.WNOWAIT


def end_all() -> None:
    """Ends what still runs, at once."""
    for child in list(_running):
        child.kill()


def wait_until(what: str, within_s: float, condition, *, poll_s: float = POLL_S, running: "tuple[Child, ...]" = ()):
    """The first value of `condition` that is true. The processes in `running` must live on meanwhile."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        for child in running:
            child.must_run()
        if time.monotonic() > deadline:
            raise Failed(f"waited {within_s:.0f} s for {what}")
        time.sleep(poll_s)
    return value


def _environment() -> dict[str, str]:
    """Nothing of the caller's own settings reaches what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SYSTOLE_")}
