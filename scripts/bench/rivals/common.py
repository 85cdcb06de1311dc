"""What the rivals share. Nothing here is measured but `measured`."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

# Systole's: see src/dataset/rows/writer.rs.
ROW_GROUP_ROWS = 128 * 1024
IDENTITY = ["user_id", "device_id", "timestamp", "id"]
SORT_ORDER = ["user_id", "timestamp", "device_id", "id", "received_at", "attributes"]


def sync(path: str) -> None:
    """To the disk, as Systole's files are before they count."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def measured(work: Callable[[], object]) -> None:
    """Does it, and prints what it took."""
    began, cpu_began = time.perf_counter(), time.process_time()
    rows = work()
    took = {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu_began}
    print(json.dumps(took | ({"rows": rows} if isinstance(rows, int) else {})))


def parquet_files(folder: str) -> list[str]:
    """Fragments begin with a dot, so they are named one by one."""
    return sorted(str(path) for path in Path(folder).rglob("*.parquet"))
