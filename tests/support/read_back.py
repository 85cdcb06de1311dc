"""Reads heartbeats as other programs would, and prints them as JSON in one shape: what the tests of formats compare.

read_back.py FORMAT FILE; FORMAT is csv, json, ndjson, duckdb or pyarrow (the last two read Parquet).
"""

import csv
import json
import re
import sys
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def ms(time):
    # Not by floats: a millisecond more or less is another heartbeat.
    return (time.astimezone(timezone.utc) - EPOCH) // timedelta(milliseconds=1)


def text_ms(text):
    assert len(text) == len("2026-11-22T08:30:00.000Z") and text.endswith("Z"), text
    return ms(datetime.fromisoformat(text))


def unmarked(cell):
    pieces = re.split(r"(?<=[;\t])", cell)
    for piece in pieces:
        assert piece.lstrip(' "')[:1] not in tuple("=+-@\t\r＝＋－＠"), f"a spreadsheet would run {cell}"
    return "".join(piece.removeprefix("'") for piece in pieces)


def of_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        raw = file.read()
    assert raw.startswith("user_id,device_id,timestamp,received_at,id,attributes\r\n"), raw[:80]
    for line in raw.split("\r\n"):
        # As one that cuts at `;` and TAB reads it, to whom the quotes beside commas mean nothing.
        for row in (next(csv.reader([line], delimiter=other)) for other in ";\t"):
            assert not any(cell[:1] in tuple("=+-@\t＝＋－＠") for cell in row), f"a spreadsheet would run {row}"
    for row in csv.DictReader(raw.splitlines(keepends=True), strict=True):
        yield (
            unmarked(row["user_id"]),
            unmarked(row["device_id"]),
            text_ms(row["timestamp"]),
            text_ms(row["received_at"]),
            unmarked(row["id"]) or None,
            json.loads(row["attributes"]) if row["attributes"] else None,
        )


def of_objects(objects):
    names = ["user_id", "device_id", "timestamp", "received_at", "id", "attributes"]
    for row in objects:
        assert list(row) == names, row
        yield (row["user_id"], row["device_id"], text_ms(row["timestamp"]), text_ms(row["received_at"]), row["id"], row["attributes"])


def of_json(path):
    with open(path, encoding="utf-8") as file:
        return of_objects(json.load(file))


def of_ndjson(path):
    with open(path, encoding="utf-8", newline="\n") as file:
        return list(of_objects(json.loads(line) for line in file))


def of_columns(rows):
    for user, device, timestamp, received, id_, attributes in rows:
        yield (user, device, timestamp, received, id_, None if attributes is None else json.loads(attributes))


def of_duckdb(path):
    import duckdb

    query = (
        "SELECT user_id, device_id, epoch_ms(timestamp), epoch_ms(received_at), id, attributes "
        "FROM read_parquet(?, file_row_number = true) ORDER BY file_row_number"
    )
    return of_columns(duckdb.execute(query, [path]).fetchall())


def of_pyarrow(path):
    import pyarrow.parquet as parquet

    table = parquet.read_table(path)
    names = ["user_id", "device_id", "timestamp", "received_at", "id", "attributes"]
    assert table.column_names == names, table.column_names
    assert str(table.schema.field("timestamp").type) == "timestamp[ms, tz=UTC]", table.schema
    rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    return of_columns((u, d, ms(t), ms(r), i, a) for u, d, t, r, i, a in rows)


READERS = {"csv": of_csv, "json": of_json, "ndjson": of_ndjson, "duckdb": of_duckdb, "pyarrow": of_pyarrow}

if __name__ == "__main__":
    print(json.dumps(list(READERS[sys.argv[1]](sys.argv[2]))))
