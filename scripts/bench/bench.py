"""What the scenarios share: programs, folders, and how many rounds."""

import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .load import Generator
from .result import Report
from .services import LimitApp, Systole


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

    @contextmanager
    def folder(self, name: str):
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
