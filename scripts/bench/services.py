"""The servers that are measured, and those that they need, each on a private port and in a private folder."""

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from . import scrape
from .cgroup import ControlGroup
from .processes import Child, Failed, Usage, wait_until

START_WITHIN_S = 60.0
# Between two looks at the metrics of what is measured, which cost it something.
POLL_S = 0.05
# Rate limits out of the way, yet at work: they are part of what a request costs.
FREE = tuple(f"--{what}=1000000000" for what in ("user-rate", "user-burst", "address-rate", "address-burst"))
# Room for all that comes, in each of the partitions.
ROOMY = ("--buffer-max-heartbeats=4000000000", "--buffer-max-bytes=256GiB")
# Nothing is claimed: a claim would be due in a year, or at more rows than come; the first, which is due at once, is of
# one frame for each partition.
HELD_BACK = ("--max-delay=300days", "--drain-lag=1year", "--claim-rows=1000000000", "--claim-bytes=1")
# A bucket waits for a second only, which makes more and smaller files.
PUBLISH_PROMPTLY = ("--publish-after=1s", "--publish-scan-every=200ms")
# Nothing is published.
UNPUBLISHED = ("--publish-after=300days", "--publish-rows=1000000000", "--publish-lag=1year")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """What runs in a process of its own until it is stopped; as a context, stopped at its end."""

    child: Child

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> Usage:
        return self.child.stop()


class Redis(Service):
    """A Redis with an append-only file in `folder`, where it finds what an earlier one left."""

    def __init__(self, folder: Path, fsync: str, *, cores: str | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        argv = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        argv += ["--appendonly", "yes", "--appendfsync", fsync, "--maxmemory-policy", "noeviction"]
        self.child = Child(argv, folder / "redis.log", cores=cores)
        wait_until("redis", START_WITHIN_S, lambda: self._ask("PING").strip() == "PONG", running=(self.child,))

    def info(self) -> dict[str, str]:
        return dict(line.split(":", 1) for line in self._ask("INFO").splitlines() if ":" in line)

    def waiting_frames(self, partitions: int) -> int:
        """Frames in its lists, claimed ones too."""
        lists = [f"systole:{{p{p}}}:{of}" for p in range(partitions) for of in ("pending", "processing")]
        script = "local n = 0; for _, key in ipairs(KEYS) do n = n + redis.call('LLEN', key) end; return n"
        return int(self._ask("EVAL", script, str(len(lists)), *lists))

    def _ask(self, *words: str) -> str:
        argv = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


class Server(Service):
    """A process that listens, from when it is ready on."""

    def __init__(self, argv: list[str], log: Path, address: str, *, cores: str | None = None, await_ready: bool = True):
        self.address = address
        self.child = Child(argv, log, cores=cores)
        if await_ready:
            wait_until(self.child.name, START_WITHIN_S, lambda: scrape.is_ready(address), running=(self.child,))

    def metrics(self) -> dict[str, float]:
        return scrape.metrics(self.address)

    def peak_rss_kib(self) -> int:
        return self.child.peak_rss_kib()


class Systole:
    """The binary, with each of its commands."""

    def __init__(self, binary: Path, logs: Path):
        self._binary = str(binary)
        self._logs = logs
        self._started = 0

    def serve(self, redis: Redis, *args: str) -> Server:
        return self._listen("serve", f"--buffer={redis.url}", *FREE, *ROOMY, *args)

    def batch(self, redis: Redis, data: Path, *args: str, cores: str | None = None, await_ready: bool = True) -> Server:
        words = ("batch", f"--buffer={redis.url}", f"--data={data}", *ROOMY, *args)
        return self._listen(*words, cores=cores, await_ready=await_ready)

    def watch(self, data: Path, *args: str) -> Server:
        return self._listen("compact", "--watch", f"--data={data}", *args)

    def up(self, data: Path, *args: str, within: ControlGroup | None = None) -> Server:
        return self._listen("up", f"--data={data}", *FREE, *ROOMY, *args, within=within)

    def compact(self, data: Path, *args: str) -> Child:
        """One pass, which ends by itself."""
        return Child([self._binary, "compact", f"--data={data}", *args], self._log("compact"))

    def _listen(
        self, *args: str, cores: str | None = None, within: ControlGroup | None = None, await_ready: bool = True
    ) -> Server:
        address = f"127.0.0.1:{free_port()}"
        argv = [self._binary, *args, f"--listen={address}", "--log=warn"]
        if within is not None:
            argv = within.wrap(argv)
        return Server(argv, self._log(args[0]), address, cores=cores, await_ready=await_ready)

    def _log(self, name: str) -> Path:
        self._started += 1
        return self._logs / f"{self._started:04}-{name}.log"


class LimitApp(Service):
    """The limit of the intake: see scripts/limit."""

    def __init__(self, binary: Path, log: Path):
        self.address = f"127.0.0.1:{free_port()}"
        self.child = Child([str(binary), self.address], log)
        wait_until("the limit app", START_WITHIN_S, self._listens, running=(self.child,))

    def _listens(self) -> bool:
        host, port = self.address.split(":")
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
            return True
        except OSError:
            return False


class Registered:
    """A Redis that belongs to a new dataset and holds nothing yet: to be copied, round by round."""

    def __init__(self, systole: Systole, folder: Path, *batch_args: str):
        self.redis, self.data = folder / "redis", folder / "data"
        redis = Redis(self.redis, "everysec")
        batch = systole.batch(redis, self.data, *batch_args)
        # It is ready to take heartbeats once a batcher has told it whose they are.
        systole.serve(redis).stop()
        batch.stop()
        redis.stop()


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def link(source: Path, target: Path) -> Path:
    """A copy by hard links: Systole never changes a file in place, but for its locks, which hold nothing."""
    shutil.copytree(source, target, copy_function=_link)
    return target


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def await_drained(batch: Server, redis: Redis, rows: int, partitions: int, *, within_s: float) -> float:
    """Waits until all of the buffer's heartbeats are in fragments and acknowledged; the moment, monotonic."""
    running = (batch.child, redis.child)

    def written() -> bool:
        try:
            return batch.metrics().get("batcher_rows_total", 0) >= rows
        except OSError:
            return False

    wait_until(f"{rows} rows in fragments", within_s, written, poll_s=POLL_S, running=running)
    wait_until("the last acknowledgement", within_s, lambda: redis.waiting_frames(partitions) == 0, running=running)
    done = time.monotonic()
    if (found := batch.metrics()["batcher_rows_total"]) != rows:
        raise Failed(f"{rows} heartbeats went in, {found:.0f} rows were written")
    return done
