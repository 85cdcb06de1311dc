"""Counts the rows and files of a dataset by date: count_days.py DATASET. Prints [[date, rows, files], …], oldest first."""

import json
import sys

import duckdb

QUERY = """
    SELECT date::VARCHAR, count(*), count(DISTINCT filename)
    FROM read_parquet(?, hive_partitioning = true, filename = true)
    GROUP BY 1 ORDER BY 1
"""
print(json.dumps(duckdb.execute(QUERY, [f"{sys.argv[1]}/heartbeats/**/*.parquet"]).fetchall()))
