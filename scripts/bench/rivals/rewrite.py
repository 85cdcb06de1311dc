"""rewrite.py FOLDER DUCKDB_OUT POLARS_OUT: the rows of a folder's one file again, in that order, by either engine."""

import sys

import duckdb
import polars as pl
from common import ROW_GROUP_ROWS, measured, parquet_files


def main() -> None:
    folder, by_duckdb, by_polars = sys.argv[1:]
    [path] = parquet_files(folder)

    def rewrite() -> int:
        duckdb.execute("SET preserve_insertion_order = true")
        duckdb.execute(
            f"COPY (FROM read_parquet('{path}', hive_partitioning = false)) TO '{by_duckdb}' "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
        )
        frame = pl.read_parquet(path, hive_partitioning=False)
        frame.write_parquet(by_polars, compression="zstd", row_group_size=ROW_GROUP_ROWS)
        return frame.height

    measured(rewrite)


main()
