//! Heartbeats in the formats that are read elsewhere, written row by row.
//!
//! Constraints: HTTP and the command line hand out the same bytes; an encoder holds what was not taken from it yet, and for
//! Parquet one row group; rows come in the sort order.
//!
//! Formats, each with the columns `user_id`, `device_id`, `timestamp`, `received_at`, `id`, `attributes` in this order,
//! times as RFC 3339 in UTC with milliseconds:
//! - JSON: one array of objects. `attributes` is the object that was sent, digit for digit; what is absent is null.
//! - NDJSON: the same objects, one a line. Line ends between the tokens of `attributes` become spaces.
//! - CSV: RFC 4180 with a header, a heartbeat a line; see `csv`. `attributes` is JSON text; what is absent is an empty cell.
//! - Parquet: as the dataset's own files.

mod csv;
mod json;
mod parquet;

pub use crate::dataset::ExportError;
use crate::heartbeat::HeartbeatRef;

/// A format to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One array.
    Json,
    /// An object a line.
    Ndjson,
    /// Comma-separated values.
    Csv,
    /// One Parquet file.
    Parquet,
}

impl Format {
    /// Every format, the most usual first.
    pub const ALL: [Self; 4] = [Self::Json, Self::Ndjson, Self::Csv, Self::Parquet];

    /// As it stands in `Content-Type`, without parameters.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// Writes heartbeats in one format. What it has written is to be [taken](Encoder::take) now and then.
#[derive(Debug)]
pub struct Encoder(Inner);

#[derive(Debug)]
enum Inner {
    Json(json::Array),
    Ndjson(json::Lines),
    Csv(csv::Table),
    Parquet(Box<parquet::File>),
}

impl Encoder {
    /// Begins an answer.
    ///
    /// # Errors
    /// The Parquet library gave up.
    pub fn new(format: Format) -> Result<Self, ExportError> {
        Ok(Self(match format {
            Format::Json => Inner::Json(json::Array::new()),
            Format::Ndjson => Inner::Ndjson(json::Lines::default()),
            Format::Csv => Inner::Csv(csv::Table::new()),
            Format::Parquet => Inner::Parquet(Box::new(parquet::File::new()?)),
        }))
    }

    /// Adds a heartbeat, which must not stand before the last one in the sort order.
    ///
    /// # Errors
    /// The row cannot be written.
    pub fn push(&mut self, row: HeartbeatRef<'_>) -> Result<(), ExportError> {
        match &mut self.0 {
            Inner::Json(array) => array.push(row),
            Inner::Ndjson(lines) => lines.push(row),
            Inner::Csv(table) => table.push(row),
            Inner::Parquet(file) => return file.push(row),
        }
        Ok(())
    }

    /// What was written since it was last asked.
    pub fn take(&mut self) -> Vec<u8> {
        match &mut self.0 {
            Inner::Json(array) => array.take(),
            Inner::Ndjson(lines) => lines.take(),
            Inner::Csv(table) => table.take(),
            Inner::Parquet(file) => file.take(),
        }
    }

    /// Ends the answer: the rest of what was written.
    ///
    /// # Errors
    /// What is left cannot be written.
    pub fn finish(self) -> Result<Vec<u8>, ExportError> {
        match self.0 {
            Inner::Json(array) => Ok(array.finish()),
            Inner::Ndjson(mut lines) => Ok(lines.take()),
            Inner::Csv(mut table) => Ok(table.take()),
            Inner::Parquet(file) => file.finish(),
        }
    }
}

/// Milliseconds since the Unix epoch as RFC 3339; as the number where the calendar has no such year.
pub fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => ms.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T08:30:00Z.
    const NOON: i64 = 1_795_336_200_000;

    fn rows() -> [HeartbeatRef<'static>; 3] {
        let plain = HeartbeatRef {
            user_id: "ada",
            timestamp: NOON,
            device_id: "laptop",
            id: None,
            received_at: NOON + 7,
            attributes: None,
        };
        let odd = HeartbeatRef {
            device_id: "=cmd|'/c calc'!A1",
            id: Some("a \"b\", c\\"),
            attributes: Some("{\n  \"n\": 1.00e2, \"t\":\"é\\n\"\r\n}"),
            ..plain
        };
        [odd, plain, HeartbeatRef { timestamp: NOON + 1, id: Some("'twas"), ..plain }]
    }

    fn written(format: Format, rows: &[HeartbeatRef<'_>]) -> Vec<u8> {
        let mut encoder = Encoder::new(format).unwrap();
        let mut bytes = Vec::new();
        for row in rows {
            encoder.push(*row).unwrap();
            bytes.extend(encoder.take());
        }
        bytes.extend(encoder.finish().unwrap());
        bytes
    }

    fn text(format: Format, rows: &[HeartbeatRef<'_>]) -> String {
        String::from_utf8(written(format, rows)).unwrap()
    }

    #[test]
    fn json_hands_attributes_on_as_they_were_sent() {
        let value: serde_json::Value = serde_json::from_str(&text(Format::Json, &rows())).unwrap();
        assert_eq!(value.as_array().unwrap().len(), 3);
        assert_eq!(value[0]["timestamp"], "2026-11-22T08:30:00.000Z");
        assert_eq!(value[0]["received_at"], "2026-11-22T08:30:00.007Z");
        assert_eq!(value[0]["attributes"]["t"], "é\n");
        assert_eq!((&value[0]["id"], &value[1]["id"]), (&"a \"b\", c\\".into(), &serde_json::Value::Null));
        assert!(text(Format::Json, &rows()).contains("1.00e2"), "digit for digit");
        assert_eq!(text(Format::Json, &[]), "[]");
    }

    #[test]
    fn ndjson_has_a_heartbeat_a_line_whatever_stands_in_its_attributes() {
        let lines = text(Format::Ndjson, &rows());
        assert!(lines.ends_with('\n'));
        let ids: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].clone()).collect();
        assert_eq!(ids.len(), 3);
        assert_eq!(text(Format::Ndjson, &[]), "");
    }

    #[test]
    fn csv_is_rfc_4180_and_runs_nothing_in_a_spreadsheet() {
        let expected = "user_id,device_id,timestamp,received_at,id,attributes\r\n\
            ada,'=cmd|'/c calc'!A1,2026-11-22T08:30:00.000Z,2026-11-22T08:30:00.007Z,\"a \"\"b\"\", c\\\",\
            \"{   \"\"n\"\": 1.00e2, \"\"t\"\":\"\"é\\n\"\"  }\"\r\n\
            ada,laptop,2026-11-22T08:30:00.000Z,2026-11-22T08:30:00.007Z,,\r\n\
            ada,laptop,2026-11-22T08:30:00.001Z,2026-11-22T08:30:00.007Z,''twas,\r\n";
        assert_eq!(text(Format::Csv, &rows()), expected);
        assert_eq!(text(Format::Csv, &[]), "user_id,device_id,timestamp,received_at,id,attributes\r\n");
    }

    #[test]
    fn parquet_comes_in_pieces_that_make_one_file() {
        let bytes = written(Format::Parquet, &rows());
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
        let long: Vec<HeartbeatRef<'_>> =
            (0..100_000).map(|n| HeartbeatRef { timestamp: NOON + n, ..rows()[1] }).collect();
        let mut encoder = Encoder::new(Format::Parquet).unwrap();
        let mut before_the_end = 0;
        for row in &long {
            encoder.push(*row).unwrap();
            before_the_end += encoder.take().len();
        }
        assert!(before_the_end > 1000, "row groups are handed out as they end: {before_the_end}");
        let mut misplaced = Encoder::new(Format::Parquet).unwrap();
        misplaced.push(long[1]).unwrap();
        assert!(misplaced.push(long[0]).is_err());
    }

    #[test]
    fn a_time_beyond_the_calendar_is_no_reason_to_fail() {
        assert_eq!(time(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
    }
}
