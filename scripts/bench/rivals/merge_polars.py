"""merge_polars.py FOLDER OUT: all rows of the folder's files, each identity once, sorted, as one file; streaming.

POLARS_MAX_THREADS bounds its threads.
"""

import sys

import polars as pl
from common import IDENTITY, ROW_GROUP_ROWS, SORT_ORDER, measured, parquet_files, sync


def main() -> None:
    folder, out = sys.argv[1:]
    files = parquet_files(folder)

    def merge() -> None:
        rows = pl.scan_parquet(files, hive_partitioning=False).unique(IDENTITY, keep="any").sort(SORT_ORDER)
        rows.sink_parquet(out, compression="zstd", row_group_size=ROW_GROUP_ROWS, engine="streaming")
        sync(out)

    measured(merge)


main()
