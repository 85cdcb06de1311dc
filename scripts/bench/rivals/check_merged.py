"""check_merged.py FOLDER_OR_FILE…: rows and distinct identities of each; all must agree, and none stand twice."""

import json
import sys
from pathlib import Path

import duckdb
from common import IDENTITY, parquet_files


def main() -> None:
    counts = set()
    for place in sys.argv[1:]:
        files = parquet_files(place) if Path(place).is_dir() else [place]
        identities = f"count(DISTINCT ({', '.join(IDENTITY)}))"
        query = f"SELECT count(*), {identities} FROM read_parquet({files}, hive_partitioning = false)"
        counts.add(duckdb.execute(query).fetchone())
    if len(counts) != 1 or len(set(*counts)) != 1:
        sys.exit(f"the merged files differ: {counts}")
    print(json.dumps({"rows": counts.pop()[0]}))


main()
