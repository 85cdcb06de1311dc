"""Reads a dataset in a loop with an engine that users have, and reports what went wrong.

    readers.py duckdb|pyarrow DATASET

Reads `DATASET/heartbeats/**/*.parquet` from the first published file on until a line comes on standard input, then once
more. Prints one JSON object: reads, rows of the last read, reads that failed, and reads that gave a wrong answer (a row
twice, or a row gone that an earlier read saw).
"""

import glob
import json
import sys
import threading
import time


def duckdb_reader(dataset):
    import duckdb

    connection = duckdb.connect()
    query = (
        "SELECT user_id, device_id, epoch_ms(timestamp), id, date, partition "
        f"FROM read_parquet('{dataset}/heartbeats/**/*.parquet', hive_partitioning = true)"
    )
    return lambda: connection.execute(query).fetchall()


def pyarrow_reader(dataset):
    import pyarrow.dataset

    columns = ["user_id", "device_id", "timestamp", "id", "date", "partition"]

    def read():
        # Opened anew each time: the list of files is part of what is tested.
        tree = pyarrow.dataset.dataset(f"{dataset}/heartbeats", format="parquet", partitioning="hive")
        table = tree.to_table(columns=columns)
        return list(zip(*(table.column(name).cast(kind).to_pylist() for name, kind in zip(columns, KINDS))))

    return read


KINDS = ["string", "string", "int64", "string", "string", "string"]
ENGINES = {"duckdb": duckdb_reader, "pyarrow": pyarrow_reader}


def main():
    engine, dataset = sys.argv[1:]
    read = ENGINES[engine](dataset)
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()

    # Before the first publish the glob matches nothing, which engines call an error.
    while not stop.is_set() and not glob.glob(f"{dataset}/heartbeats/**/*.parquet", recursive=True):
        time.sleep(0.01)

    report = {"engine": engine, "reads": 0, "rows": 0, "failed": [], "wrong": []}
    seen = set()
    last = False
    while not last:
        last = stop.is_set()
        report["reads"] += 1
        try:
            rows = read()
        except Exception as error:
            report["failed"].append(f"{type(error).__name__}: {error}"[:300])
            continue
        now = set(rows)
        if len(now) != len(rows):
            report["wrong"].append(f"read {report['reads']}: {len(rows) - len(now)} rows doubled")
        if seen - now:
            report["wrong"].append(f"read {report['reads']}: {len(seen - now)} rows gone, such as {min(seen - now, key=str)}")
        seen |= now
        report["rows"] = len(rows)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
