"""write_polars.py FRAGMENTS OUT: writes each fragment's rows again, as columns that are in memory and sorted already.

The same number of files, rows and row groups, the same compression and statistics, each file synced. It is what writing
costs when nothing else has to be done. POLARS_MAX_THREADS bounds its threads.
"""

import sys

import duckdb
import polars as pl
from common import measured, parquet_files, sync


def largest_row_group(path: str) -> int:
    query = "SELECT max(row_group_num_rows) FROM parquet_metadata(?)"
    return duckdb.execute(query, [path]).fetchone()[0]


def main() -> None:
    fragments, out = sys.argv[1:]
    frames = [(pl.read_parquet(path), largest_row_group(path)) for path in parquet_files(fragments)]

    def write() -> int:
        for number, (frame, row_group_rows) in enumerate(frames):
            path = f"{out}/{number}.parquet"
            frame.write_parquet(
                path, compression="zstd", compression_level=3, statistics="full", row_group_size=row_group_rows
            )
            sync(path)
        return sum(frame.height for frame, _ in frames)

    measured(write)


main()
