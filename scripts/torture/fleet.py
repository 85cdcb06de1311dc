"""The processes of a round, each started again when it dies, as systemd or a container's runtime would."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from bench.processes import Child, Failed, wait_until
from bench.services import free_port

from .clock import Clock
from .disk import Disk
from .proxy import Proxy

RESTART_AFTER_S = 0.3
START_WITHIN_S = 60.0
# More than all kills of a round: a process that ends more often does not come up at all.
MOST_RESTARTS = 60
# Limits of the door off, waits short; leases that run out within a stop.
DOOR = ("--user-rate=0", "--address-rate=0", "--max-clock-skew=3days", "--listen={listen}")
BATCHER = (
    "--max-delay=100ms",
    "--look-every=50ms",
    "--retry-first=50ms",
    "--retry-most=500ms",
    "--lock-deadline=1s",
    "--min-free=1MiB",
    "--partitions=4",
)
COMPACTOR = (
    "--publish-after=100ms",
    "--publish-scan-every=50ms",
    "--max-files=4",
    "--small-file-share=0",
    "--large-file-rows=2000",
    "--reader-grace=0s",
)
ON_REDIS = ("--push-deadline=600ms", "--step-deadline=600ms", "--connect-timeout=300ms")
LEASES = ("--lease-ttl=800ms", "--renew-every=150ms", "--announce-every=150ms", "--batcher-ttl=800ms")
UP = ("--monitor-every=100ms", "--buffer-min-free=16MiB")


class Member:
    """One process, through all its lives."""

    def __init__(self, role: str, argv: list[str], logs: Path, number: int, env: dict[str, str] | None = None):
        self.role, self.name = role, f"{role}-{number}"
        # On the machine of the disk, then.
        self.sees_disk = any(arg.startswith("--data=") for arg in argv)
        self._argv, self._logs, self._env = argv, logs, env
        self._lives = 0
        self._down_since: float | None = None
        self.restarts = 0
        self._start()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def runs(self) -> bool:
        return not self._child.ended()

    def signal(self, number: signal.Signals, pid: int) -> None:
        """To the life with this process id, if that is not over."""
        if pid == self.pid and self.runs:
            os.kill(pid, number)

    def kill(self) -> None:
        self._child.kill()

    def look_after(self) -> None:
        """Starts it again a moment after it ended, whatever ended it."""
        if self.runs:
            return
        now = time.monotonic()
        if self._down_since is None:
            self._down_since = now
        elif now - self._down_since >= RESTART_AFTER_S:
            self.restarts += 1
            if self.restarts > MOST_RESTARTS:
                raise Failed(f"{self.name} does not stay up: {self._child.last_words()}")
            self._start()

    def stop(self) -> None:
        """In order, if it runs."""
        if self.runs:
            self._child.stop()

    def _start(self) -> None:
        self._lives += 1
        self._down_since = None
        log = self._logs / f"{self.name}-{self._lives:03}.log"
        self._child = Child(self._argv, log, env=self._env)


class Fleet:
    """All processes of a round."""

    def __init__(self, systole: Path, folder: Path, disk: Disk, on_redis: bool, faketime: Path | None):
        self.disk, self.data = disk, disk.folder / "data"
        self._systole, self._folder, self._logs = str(systole), folder, folder / "logs"
        self._logs.mkdir()
        self.clocks: list[Clock] = []
        self._faketime = faketime
        self.redis: Member | None = None
        self.proxy: Proxy | None = None
        self.doors: list[str] = []
        # Those that see the files.
        self.reading_doors: list[str] = []
        self.members: list[Member] = []
        if on_redis:
            self._start_redis()
            self._start_roles()
        else:
            args = ["up", f"--data={self.data}", *DOOR, *BATCHER, *COMPACTOR, *UP]
            self.members.append(self._member("up", args, 1, self._clock("up")))

    # Each with a door is started with the address of its first life; so clients find it again.
    def _member(self, role: str, args: list[str], number: int, env: dict[str, str] | None) -> Member:
        address = f"127.0.0.1:{free_port()}"
        argv = [self._systole, *(arg.format(listen=address) for arg in args), "--log=info", "--log-format=json"]
        member = Member(role, argv, self._logs, number, env)
        if any("{listen}" in arg for arg in args):
            self.doors.append(address)
            if member.sees_disk:
                self.reading_doors.append(address)
        return member

    def _clock(self, name: str) -> dict[str, str] | None:
        if self._faketime is None:
            return None
        folder = self._folder / f"clock-{name}"
        folder.mkdir()
        self.clocks.append(Clock(folder, self._faketime))
        return self.clocks[-1].env()

    def _start_redis(self) -> None:
        folder = self._folder / "redis"
        folder.mkdir()
        self._redis_port = free_port()
        argv = ["redis-server", "--port", str(self._redis_port), "--bind", "127.0.0.1", "--dir", str(folder)]
        argv += ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
        self.redis = Member("redis", argv, self._logs, 1)
        wait_until("redis", START_WITHIN_S, lambda: self.redis_says("PING") == "PONG")
        self.proxy = Proxy(self._redis_port)

    def _start_roles(self) -> None:
        direct = f"--buffer=redis://127.0.0.1:{self._redis_port}"
        ways = [f"--buffer={self.proxy.url}", direct]
        # The second of each goes by a clock of its own; the first is behind the proxy.
        for number, way in enumerate(ways, 1):
            env = [self._clock(role) if number == 2 else None for role in ("batch", "compact", "serve")]
            own = "--listen=127.0.0.1:0"
            batch = ["batch", f"--data={self.data}", way, own, *BATCHER, *ON_REDIS, *LEASES]
            compact = ["compact", "--watch", f"--data={self.data}", own, "--lock-deadline=1s", *COMPACTOR]
            self.members.append(self._member("batch", batch, number, env[0]))
            self.members.append(self._member("compact", compact, number, env[1]))
            files = [f"--data={self.data}"] if number == 1 else []
            self.members.append(self._member("serve", ["serve", way, *files, *DOOR, *ON_REDIS], number, env[2]))

    def pick(self, role: str | None, n: int) -> Member | None:
        """One of those that run, of this role or of any."""
        able = [member for member in self.members if member.runs and role in (None, member.role)]
        return able[n % len(able)] if able else None

    def look_after(self) -> None:
        for member in (*self.members, *([self.redis] if self.redis else [])):
            member.look_after()

    def redis_says(self, *words: str) -> str:
        argv = ["redis-cli", "-p", str(self._redis_port), *words]
        try:
            return subprocess.run(argv, capture_output=True, text=True, timeout=2.0, check=False).stdout.strip()
        except subprocess.TimeoutExpired:
            return ""

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One of Systole's commands for people, on this round's buffer and data."""
        where = [f"--data={self.data}"] if words[0] != "dead-letters" or self.redis is None else []
        if self.redis is not None and words[0] in ("audit", "dead-letters"):
            where.append(f"--buffer=redis://127.0.0.1:{self._redis_port}")
        return subprocess.run(
            [self._systole, *words, *where], capture_output=True, text=True, timeout=120.0, check=False
        )

    def stop_roles(self) -> None:
        for member in self.members:
            member.stop()

    def stop_all(self) -> None:
        self.stop_roles()
        if self.redis is not None:
            self.redis.stop()
        if self.proxy is not None:
            self.proxy.close()

    def complaints(self) -> list[str]:
        """What no fault of the world excuses: a panic, in any log."""
        found = []
        for log in sorted(self._logs.iterdir()):
            for line in log.read_text(errors="replace").splitlines():
                if re.search(r"panicked at|a mistake in Systole", line):
                    found.append(f"{log.name}: {line[:300]}")
        return found
