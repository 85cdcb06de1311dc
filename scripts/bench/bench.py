"""What the scenarios share: programs, folders, and how many rounds."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .load import Generator
from .processes import Child
from .result import Report
from .services import LimitApp, Systole

RIVALS = Path(__file__).parent / "rivals"


@dataclass(frozen=True)
class Programs:
    systole: Path
    load: Path
    limit: Path
    # The Python that has polars and duckdb.
    python: Path


class Bench:
    """One run."""

    def __init__(self, programs: Programs, work: Path, rounds: int, only: frozenset[int]):
        self.programs = programs
        self.rounds = rounds
        self.only = only
        self.report = Report()
        self.load = Generator(str(programs.load))
        self._work = work
        self._folders = 0
        self.logs = work / "logs"
        self.logs.mkdir()
        self.systole = Systole(programs.systole, self.logs)

    def wants(self, *scenarios: int) -> bool:
        return not self.only.isdisjoint(scenarios)

    def limit_app(self) -> LimitApp:
        return LimitApp(self.programs.limit, self.logs / "limit.log")

    def rival(self, name: str, *args: Path | str, cores: str | None = None, threads: int) -> dict[str, float]:
        """Runs a program of rivals/; what it prints, and the most that was resident."""
        self._folders += 1
        log = self.logs / f"{name}-{self._folders:03}.log"
        env = {"POLARS_MAX_THREADS": str(threads)}
        argv = [str(self.programs.python), str(RIVALS / f"{name}.py"), *map(str, args)]
        used = Child(argv, log, cores=cores, env=env).wait()
        return json.loads(log.read_text().splitlines()[-1]) | {"peak_rss_kib": used.max_rss_kib}

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """A folder that is gone afterwards."""
        self._folders += 1
        path = self._work / f"{self._folders:03}-{name}"
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @staticmethod
    def say(text: str) -> None:
        print(f"==> {text}", file=sys.stderr, flush=True)
