"""merge_duckdb.py FOLDER OUT THREADS: all rows of the folder's files, each identity once, sorted, as one file."""

import sys

import duckdb
from common import IDENTITY, ROW_GROUP_ROWS, SORT_ORDER, measured, parquet_files, sync


def main() -> None:
    folder, out, threads = sys.argv[1:]
    order = ", ".join(f"{column} NULLS FIRST" for column in SORT_ORDER)
    query = f"""
        COPY (
            SELECT DISTINCT ON ({", ".join(IDENTITY)}) {", ".join(COLUMNS)}
            FROM read_parquet({parquet_files(folder)}, hive_partitioning = false) ORDER BY {order}
        ) TO '{out}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})
    """
    connection = duckdb.connect(config={"threads": int(threads), "temp_directory": f"{out}.tmp"})

    def merge() -> None:
        connection.execute(query)
        sync(out)

    measured(merge)


COLUMNS = ["user_id", "device_id", "timestamp", "received_at", "id", "attributes"]
main()
