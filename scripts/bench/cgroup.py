"""A control group with little CPU and memory, by the first or the second version of the kernel's interface."""

import os
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
GONE_WITHIN_S = 5.0


class Unavailable(Exception):
    """No such group can be made here; the text says why."""


class ControlGroup:
    """Processes in it share `cores` of CPU and `memory_bytes`."""

    def __init__(self, cores: float, memory_bytes: int):
        quota_us = str(int(cores * PERIOD_US))
        name = f"systole-bench-{os.getpid()}"
        if (ROOT / "cgroup.controllers").exists():
            limits = {ROOT / name: {"cpu.max": f"{quota_us} {PERIOD_US}", "memory.max": str(memory_bytes)}}
        else:
            cpu = {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": quota_us}
            memory = {"memory.limit_in_bytes": str(memory_bytes)}
            limits = {ROOT / "cpu" / name: cpu, ROOT / "memory" / name: memory}
        self._folders: list[Path] = []
        try:
            self._make(limits)
        except OSError as error:
            self.remove()
            raise Unavailable(f"no control group with limits can be made: {error}") from error

    def _make(self, limits: dict[Path, dict[str, str]]) -> None:
        for folder, settings in limits.items():
            folder.mkdir()
            self._folders.append(folder)
            for file, value in settings.items():
                (folder / file).write_text(value)

    def wrap(self, argv: list[str]) -> list[str]:
        """A command that enters the group, then becomes `argv`."""
        enter = "; ".join(f"echo $$ > '{folder / 'cgroup.procs'}' || exit 1" for folder in self._folders)
        return ["sh", "-c", f'{enter}; exec "$@"', "sh", *argv]

    def remove(self) -> None:
        """Once nobody is left in it; the kernel may take a moment to see that."""
        deadline = time.monotonic() + GONE_WITHIN_S
        for folder in self._folders:
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        return
                    time.sleep(0.05)
