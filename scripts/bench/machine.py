"""What this ran on."""

import os
import platform
from pathlib import Path


def describe(work: Path) -> dict[str, str | int | float]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": file_system(work),
        "load_before": round(os.getloadavg()[0], 2),
    }


def file_system(path: Path) -> str:
    """Type and options of the mount that holds it."""
    best, found = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount_point, kind, options, *_ = line.split()
        if path.resolve().is_relative_to(mount_point) and len(mount_point) >= len(best):
            best, found = mount_point, f"{kind} ({options})"
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
