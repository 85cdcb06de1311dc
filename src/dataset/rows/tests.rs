//! Rows through Parquet and back, by our own reader and by others.

use std::io;
use std::process::Command;

use proptest::prelude::*;

use super::super::test_support::{beats, rows_of};
use super::super::{Error, encode_fragment};
use super::*;
use crate::heartbeat::{Heartbeat, HeartbeatRef};

fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    let name = "[a-zé🦀0-9/.]{1,128}";
    let attributes = proptest::option::of(r#"\{"k":"[a-z]{0,300}"\}"#);
    (name, name, any::<i64>(), proptest::option::of("[a-z]{1,64}"), any::<i64>(), attributes).prop_map(
        |(user_id, device_id, timestamp, id, received_at, attributes)| Heartbeat {
            user_id,
            device_id,
            timestamp,
            id,
            received_at,
            attributes,
        },
    )
}

fn encode(rows: &[Heartbeat]) -> Vec<u8> {
    encode_fragment(&rows.iter().map(Heartbeat::as_ref).collect::<Vec<_>>()).unwrap().bytes
}

fn read(bytes: Vec<u8>) -> super::super::Result<RowReader> {
    RowReader::from_bytes("test.parquet".as_ref(), bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_in_comes_out(mut rows in proptest::collection::vec(heartbeat(), 0..40)) {
        rows.sort_by(|a, b| a.as_ref().cmp(&b.as_ref()));
        let bytes = encode(&rows);
        prop_assert_eq!(&encode(&rows), &bytes, "the same rows make the same bytes");
        let mut reader = read(bytes).unwrap();
        prop_assert_eq!(reader.rows() as usize, rows.len());
        prop_assert_eq!(rows_of(&mut reader), rows);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        let damaged = matches!(read(bytes), Err(Error::Damaged { .. }));
        prop_assert!(damaged);
    }
}

#[test]
fn even_without_the_hash_of_the_file_no_flipped_bit_makes_a_wrong_row() {
    let rows = beats(2);
    let mut bytes = encode(&rows);
    for bit in 0..8 * bytes.len() {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let batch = read(bytes.clone()).and_then(|mut reader| reader.next_batch());
        match batch {
            Ok(batch) => assert!(batch.is_some_and(|batch| batch.rows().eq(rows.iter().map(Heartbeat::as_ref)))),
            Err(error) => assert!(matches!(error, Error::Damaged { .. } | Error::NewerFormat { .. }), "{error}"),
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_row_group_ends_at_128k_rows_or_8_mib() {
    let row = |n: i64, attributes| HeartbeatRef {
        user_id: "u",
        timestamp: n,
        device_id: "d",
        id: None,
        received_at: 0,
        attributes,
    };
    let small: Vec<_> = (0..131_073).map(|n| row(n, None)).collect();
    let mut reader = read(encode_fragment(&small).unwrap().bytes).unwrap();
    assert_eq!(reader.row_group_starts(), [0, 131_072]);
    reader.turn_to(1).unwrap();
    assert_eq!(reader.next_batch().unwrap().unwrap().row(0).timestamp, 131_072);
    assert!(matches!(reader.turn_to(2), Err(Error::Damaged { .. })));

    let text = "x".repeat(4096 - 18);
    let large: Vec<_> = (0..2_049).map(|n| row(n, Some(text.as_str()))).collect();
    let reader = read(encode_fragment(&large).unwrap().bytes).unwrap();
    assert_eq!(reader.row_group_starts(), [0, 2_048]);
}

#[test]
fn rows_come_out_in_windows_small_by_rows_and_by_bytes() {
    let row = |n: usize, attributes: Option<String>| Heartbeat {
        user_id: format!("user {:03}", n / 100),
        device_id: format!("device {}", n % 7),
        timestamp: n as i64,
        id: n.is_multiple_of(3).then(|| format!("id {n}")),
        received_at: -(n as i64),
        attributes,
    };
    let small: Vec<_> = (0..20_000).map(|n| row(n, (n % 5 > 0).then(|| format!("{{\"n\":{n}}}")))).collect();
    let large: Vec<_> = (0..3_000).map(|n| row(n, Some(format!("{n:04000}")))).collect();
    for (rows, most) in [(small, 16 * 1024), (large, 150)] {
        let mut reader = read(encode(&rows)).unwrap();
        let mut seen = Vec::new();
        while let Some(batch) = reader.next_batch().unwrap() {
            assert!((1..=most).contains(&batch.len()), "{}", batch.len());
            seen.extend(batch.rows().map(|row| row.to_heartbeat()));
        }
        assert!(seen == rows);
    }
}

#[test]
fn a_reader_weighs_little_more_than_its_file_and_a_window() {
    let rows: Vec<_> =
        (0..60_000).map(|n| HeartbeatRef { timestamp: n, ..beats(1)[0].as_ref() }.to_heartbeat()).collect();
    let bytes = encode(&rows);
    let len = bytes.len() as u64;
    let weight = read(bytes).unwrap().weight();
    assert!((len..len + (3 << 20)).contains(&weight), "{weight} for {len} bytes");
}

#[test]
fn readers_and_batches_may_change_threads() {
    fn moves<T: Send>() {}
    moves::<RowReader>();
    moves::<RowBatch>();
    moves::<super::super::PublishedBuilder>();
    moves::<super::super::Prepared>();
    moves::<super::super::Replacement>();
    moves::<super::super::IdentityLookup>();
}

#[test]
fn a_sink_that_fails_is_the_worlds_fault() {
    #[derive(Debug)]
    struct Full(usize);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for room in [0, 4, 100, 400, 600] {
        let mut writer = RowWriter::new(Full(room)).unwrap();
        let written = beats(2).iter().try_for_each(|row| writer.push(row.as_ref()));
        let error = written.and_then(|()| writer.finish("test", Vec::new()).map(|_| ())).unwrap_err();
        assert!(matches!(&error, WriteError::Sink(error) if error.kind() == io::ErrorKind::StorageFull), "{error:?}");
    }
}

#[test]
fn another_library_sees_the_columns_that_the_contract_names() {
    use parquet::basic::{LogicalType, TimeUnit, Type};
    use parquet::file::reader::{FileReader, SerializedFileReader};

    let file = SerializedFileReader::new(bytes::Bytes::from(encode(&beats(10)))).unwrap();
    let schema = file.metadata().file_metadata().schema_descr_ptr();
    let names: Vec<_> = schema.columns().iter().map(|column| column.name().to_owned()).collect();
    assert_eq!(names, ["user_id", "device_id", "timestamp", "received_at", "id", "attributes"]);
    for column in schema.columns() {
        let is_time = ["timestamp", "received_at"].contains(&column.name());
        assert_eq!(column.physical_type(), if is_time { Type::INT64 } else { Type::BYTE_ARRAY });
        match column.logical_type_ref() {
            Some(LogicalType::Timestamp(time)) if is_time => {
                assert!(time.is_adjusted_to_u_t_c && time.unit == TimeUnit::MILLIS);
            }
            Some(LogicalType::String) if !is_time => {}
            other => panic!("{}: {other:?}", column.name()),
        }
    }
    let group = file.metadata().row_group(0);
    assert!(group.columns().iter().all(|column| column.statistics().is_some_and(|all| all.min_bytes_opt().is_some())));
    assert!(matches!(group.column(0).compression(), parquet::basic::Compression::ZSTD(_)));
    let pairs = file.metadata().file_metadata().key_value_metadata().unwrap();
    assert!(pairs.iter().any(|pair| pair.key == VERSION_KEY && pair.value.as_deref() == Some("1")));
}

/// PyArrow and DuckDB read a file of rows and one of no rows, with the same types. Skipped where Python lacks them.
#[test]
fn duckdb_and_pyarrow_read_a_file_of_rows_and_one_of_none() {
    if !Command::new("python3").args(["-c", "import duckdb, pyarrow"]).status().is_ok_and(|status| status.success()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rows.parquet"), encode(&beats(10))).unwrap();
    std::fs::write(dir.path().join("none.parquet"), encode(&[])).unwrap();
    let script = r#"
import duckdb, pyarrow.parquet as pq, sys
for name, rows in (("rows", 10), ("none", 0)):
    path = f"{sys.argv[1]}/{name}.parquet"
    table = pq.read_table(path)
    assert table.num_rows == rows, table
    assert [str(t) for t in table.schema.types] == ["string", "string", "timestamp[ms, tz=UTC]", "timestamp[ms, tz=UTC]", "string", "string"], table.schema
    got = duckdb.sql(f"select count(*), count(distinct user_id), min(epoch_ms(timestamp)) from '{path}'").fetchall()[0]
    assert got[0] == rows, got
    assert rows == 0 or got[2] == 1795305600000, got
types = [str(t) for t in duckdb.sql(f"select * from '{sys.argv[1]}/*.parquet'").types]
assert types == ["VARCHAR", "VARCHAR", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITH TIME ZONE", "VARCHAR", "VARCHAR"], types
assert duckdb.sql(f"select count(*) from '{sys.argv[1]}/*.parquet'").fetchall()[0][0] == 10
assert pq.read_table(sys.argv[1]).num_rows == 10
"#;
    let output = Command::new("python3").args(["-c", script]).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_file_of_a_newer_format_or_another_schema_is_told_apart() {
    let write = |version: &str| {
        let mut bytes = encode(&beats(1));
        // The version is a Thrift string of one byte behind its key.
        let key = bytes.windows(VERSION_KEY.len()).rposition(|window| window == VERSION_KEY.as_bytes()).unwrap();
        let at = key + VERSION_KEY.len() + 2;
        assert_eq!(bytes[at], b'1');
        bytes[at] = version.as_bytes()[0];
        bytes
    };
    assert!(matches!(read(write("2")), Err(Error::NewerFormat { found: 2, known: 1, .. })));
    assert!(matches!(read(write("x")), Err(Error::Damaged { .. })));
    let renamed = {
        let bytes = encode(&beats(1));
        let text = bytes.iter().map(|byte| *byte as char).collect::<String>().replace("device_id", "device_ix");
        text.chars().map(|char| char as u8).collect::<Vec<_>>()
    };
    let error = read(renamed).unwrap_err();
    assert!(error.to_string().contains("device_ix"), "{error}");
}

/// What a reader that seeks gives is what stands at or behind the place, in a file of several row groups and many pages.
#[test]
fn seeking_leads_to_the_first_row_at_or_behind_a_place_and_leaves_out_none() {
    let attributes = "a".repeat(1_000);
    let names: Vec<String> = (0..40).map(|user| format!("user-{:02}", user * 2)).collect();
    let rows: Vec<HeartbeatRef<'_>> = names
        .iter()
        .flat_map(|user_id| {
            // The tenth fills row groups of its own.
            let many = if user_id == "user-20" { 20_000 } else { 150 };
            (0..many).map(|n| HeartbeatRef {
                user_id,
                timestamp: n * 10,
                device_id: "d",
                id: (n % 7 == 0).then_some("i"),
                received_at: n,
                attributes: (n % 3 > 0).then_some(attributes.as_str()),
            })
        })
        .collect();
    let mut reader = read(encode_fragment(&rows).unwrap().bytes).unwrap();
    assert!(reader.row_groups() > 2, "{}", reader.row_groups());
    let all = reader.bytes_read();
    assert_eq!(all, 0, "opening reads no row");
    let mut seek = |user_id: &str, timestamp: i64| {
        let before = reader.bytes_read();
        reader.seek(user_id, timestamp).unwrap();
        let batch = reader.next_batch().unwrap();
        let read = reader.bytes_read() - before;
        let expected = rows.iter().position(|row| (row.user_id, row.timestamp) >= (user_id, timestamp));
        match (batch, expected) {
            (None, None) => {}
            (Some(batch), Some(at)) => {
                assert!(batch.rows().eq(rows[at..at + batch.len()].iter().copied()), "{user_id} {timestamp}");
                let mut rest = batch.len();
                while let Some(batch) = reader.next_batch().unwrap() {
                    assert_eq!(batch.row(0), rows[at + rest]);
                    rest += batch.len();
                }
                assert_eq!(at + rest, rows.len(), "{user_id} {timestamp}");
            }
            (found, expected) => panic!("{user_id} {timestamp}: {found:?} {expected:?}"),
        }
        read
    };
    for name in ["", "user-00", "user-01", "user-18", "user-20", "user-21", "user-40", "user-78", "user-79", "v"] {
        for timestamp in [i64::MIN, -1, 0, 1, 690, 700, 1_490, 1_491, 99_990, 123_455, 199_990, 199_991, i64::MAX] {
            seek(name, timestamp);
        }
    }
    let one_group = seek("user-78", 0);
    let first = seek("", i64::MIN);
    assert!(one_group > 0 && one_group <= first, "only what can hold it is read: {one_group} of {first} bytes");
    assert_eq!(seek("v", 0), 0, "nothing can hold it");
    for (name, may) in [("user-20", true), ("user-78", true), ("v", false), ("", false)] {
        assert_eq!(reader.may_hold_user(name), may, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn seeking_anywhere_leaves_out_none(
        mut rows in proptest::collection::vec(heartbeat(), 1..40),
        (user, timestamp) in ("[a-zé]{0,2}", any::<i64>()),
        known in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        rows.sort_by(|a, b| a.as_ref().cmp(&b.as_ref()));
        let (user, timestamp) = match known {
            Some(known) => { let row = known.get(&rows); (row.user_id.clone(), row.timestamp) }
            None => (user, timestamp),
        };
        let mut reader = read(encode(&rows)).unwrap();
        reader.seek(&user, timestamp).unwrap();
        let expected: Vec<_> =
            rows.iter().filter(|row| (&row.user_id, row.timestamp) >= (&user, timestamp)).cloned().collect();
        let holds = rows.iter().any(|row| row.user_id == user);
        prop_assert!(!holds || reader.may_hold_user(&user));
        prop_assert_eq!(rows_of(&mut reader), expected);
    }
}
