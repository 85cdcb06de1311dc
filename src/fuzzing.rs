//! What must hold whatever bytes come in: one function a decoder, called by the fuzz targets (`fuzz/`, which sets `fuzzing`)
//! and by the tests, which replay the corpus (`fuzz/corpus/`) and mutate it for a moment.
//!
//! Each takes any bytes, and panics where something does not hold.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "it is there to stop where something does not hold"
)]

use bytes::Bytes;
use clap::CommandFactory;
use xxhash_rust::xxh3::Xxh3;

use crate::buffer::letter;
use crate::cli::Cli;
use crate::config;
use crate::dataset::paths::{self, Staged};
use crate::dataset::{Bucket, ContentHash, FragmentName, PublishedName};
use crate::heartbeat::{
    Frame, FrameError, FrameHeader, Heartbeat, HeartbeatRef, Limits, OpenFrame, Parsed, RejectCode, parse_array,
    parse_one, parse_text,
};
use crate::http::split::{Format, SplitError, split};

/// A name and its property, which panics where it does not hold.
pub type Target = (&'static str, fn(&[u8]));

/// The functions by the names of their targets and corpora.
pub const TARGETS: [Target; 6] =
    [("record", record), ("lines", lines), ("frame", frame), ("path", path), ("config", config), ("letter", letter)];

const NOW: i64 = 1_795_000_000_000;
/// Everything passes, so that what is behind the judgement of times is reached.
const LIMITS: Limits = Limits { max_clock_skew_ms: i64::MAX, max_age_ms: i64::MAX };
const MAX_RECORDS: usize = 50;

/// The parser of records: what passes is within all bounds, and comes back from a frame and from JSON as it went in.
pub fn record(text: &[u8]) {
    let parsed = parse_one(text, LIMITS, NOW);
    if let Ok(utf8) = std::str::from_utf8(text) {
        assert_eq!(outcome(&parse_text(utf8, LIMITS, NOW)), outcome(&parsed));
    }
    let Ok(beat) = parsed else { return };
    let beat = beat.as_ref();
    for (name, most) in [(beat.user_id, 128), (beat.device_id, 128), (beat.id.unwrap_or("-"), 64)] {
        assert!((1..=most).contains(&name.len()) && !name.chars().any(char::is_control), "{name:?}");
    }
    let attributes = beat.attributes.map(|text| {
        assert!(text.len() <= 4_096);
        // A reader's own JSON parser; a number beyond all doubles is kept as text, which this one refuses.
        serde_json::from_str::<serde_json::Value>(text)
    });
    let frame = Frame::encode([beat]).unwrap();
    assert_eq!(OpenFrame::open(frame.bytes()).unwrap().all_rows().unwrap(), [beat]);

    let array = [b"[", text, b"]"].concat();
    let records = parse_array(&array, LIMITS, NOW, MAX_RECORDS).unwrap();
    assert_eq!(records.iter().map(outcome).collect::<Vec<_>>(), [Ok(beat)]);
    if let Some(Err(error)) = &attributes {
        assert!(error.to_string().starts_with("number out of range"), "{error}");
        return;
    }
    let json = serde_json::json!({
        "user_id": beat.user_id, "device_id": beat.device_id, "timestamp": beat.timestamp, "id": beat.id,
    });
    // An integer below March 1973 is taken for seconds; it may have come as a text.
    let again = json.to_string();
    let again = parse_one(again.as_bytes(), LIMITS, NOW);
    let seconds = (0..100_000_000_000).contains(&beat.timestamp);
    match outcome(&again) {
        Ok(again) => assert_eq!(again, HeartbeatRef { attributes: None, ..beat }),
        Err(code) => assert!(seconds && code == RejectCode::TimestampInSeconds, "{code:?}"),
    }
}

fn outcome<'a>(parsed: &'a Parsed<'_>) -> Result<HeartbeatRef<'a>, RejectCode> {
    parsed.as_ref().map(|beat| beat.as_ref()).map_err(|rejection| rejection.code)
}

/// The splitter of lines agrees with one that is plainly right; as JSON, the same bytes are split within the limit.
pub fn lines(body: &[u8]) {
    let split_up = split(body, Format::Lines, LIMITS, NOW, MAX_RECORDS);
    let lines: Vec<&[u8]> =
        body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect();
    match (&split_up, lines.len()) {
        (Err(SplitError::Empty), 0) => {}
        (Err(SplitError::TooMany), many) => assert!(many > MAX_RECORDS),
        (Ok(records), count) => {
            assert!((1..=MAX_RECORDS).contains(&count));
            let alone: Vec<_> = lines.iter().map(|line| parse_one(line, LIMITS, NOW)).collect();
            let (together, alone): (Vec<_>, Vec<_>) =
                (records.iter().map(outcome).collect(), alone.iter().map(outcome).collect());
            assert_eq!(together, alone);
        }
        (other, count) => panic!("{count} lines: {other:?}"),
    }
    if let Ok(records) = split(body, Format::Json, LIMITS, NOW, MAX_RECORDS) {
        assert!((1..=MAX_RECORDS).contains(&records.len()));
    }
}

/// Frames as they come, and sealed: with the length and checksum that make what follows be read.
pub fn frame(bytes: &[u8]) {
    opened(bytes);
    opened(&sealed(bytes));
}

fn opened(bytes: &[u8]) {
    if let Ok(frame) = Frame::from_bytes(Bytes::copy_from_slice(bytes)) {
        assert_eq!(frame.bytes(), bytes, "handed on as it is");
    }
    let _ = FrameHeader::plausible(bytes);
    let verified = FrameHeader::verify(bytes);
    let open = match OpenFrame::open(bytes) {
        Ok(open) => open,
        Err(error) => {
            let damaged = !matches!(error, FrameError::Payload { .. });
            assert_eq!(verified.is_err(), damaged, "{error}");
            return;
        }
    };
    let header = verified.unwrap();
    let Ok(rows) = open.all_rows() else { return };
    assert_eq!(rows.len(), header.count as usize);
    // Rows of a frame that passed validation are within the bounds of their lengths; others are not written again.
    let writable = rows.iter().all(|row| row.attributes.is_none_or(|text| text.len() <= 4_096));
    if let Some(again) = Frame::encode(rows.iter().copied()).filter(|_| writable) {
        let reopened = OpenFrame::open(again.bytes()).unwrap();
        assert_eq!(reopened.all_rows().unwrap(), rows);
        assert_eq!(Frame::encode(reopened.all_rows().unwrap()).unwrap(), again, "the same rows make the same bytes");
    }
    let owned: Vec<Heartbeat> = rows.iter().map(HeartbeatRef::to_heartbeat).collect();
    assert_eq!(owned.iter().map(Heartbeat::as_ref).collect::<Vec<_>>(), rows);
}

/// The same bytes as a frame that says the truth about its length and checksum.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut frame = bytes.to_vec();
    let header = if frame.first() == Some(&1) { 25 } else { 29 };
    if frame.len() < header {
        return frame;
    }
    let length = u32::try_from(frame.len() - header).unwrap();
    frame[5..9].copy_from_slice(&length.to_le_bytes());
    let mut hash = Xxh3::new();
    hash.update(&frame[..9]);
    hash.update(&frame[17..]);
    let sum = hash.digest();
    frame[9..17].copy_from_slice(&sum.to_le_bytes());
    frame
}

/// A text that is a name of ours is exactly what the same name prints, and leaves no folder.
pub fn path(text: &[u8]) {
    fn same<T: std::str::FromStr + std::fmt::Display>(text: &str, slashes: usize) {
        if let Ok(name) = text.parse::<T>() {
            assert_eq!(name.to_string(), text);
            assert!(text.matches('/').count() == slashes && !text.contains("..") && !text.contains('\0'), "{text:?}");
        }
    }
    let Ok(text) = std::str::from_utf8(text) else { return };
    same::<FragmentName>(text, 0);
    same::<PublishedName>(text, 0);
    same::<Staged>(text, 0);
    same::<ContentHash>(text, 0);
    same::<Bucket>(text, 1);
    if let Ok(date) = paths::parse_date_folder(text) {
        assert_eq!(format!("date={date}"), text);
    }
    if let Ok(partition) = paths::parse_partition_folder(text) {
        assert_eq!(format!("partition={partition}"), text);
    }
}

/// A file of settings that is read is printed and read again as the same; a command line on top of it is judged in words.
pub fn config(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let command = Cli::command();
    match config::File::parse(text, &command) {
        Ok(file) => {
            let printed = file.print();
            assert_eq!(config::File::parse(&printed, &command).as_ref(), Ok(&file), "{printed}");
            for name in ["up", "serve", "batch", "compact"] {
                let _ = file.apply(command.clone()).try_get_matches_from(["systole", name]);
            }
        }
        Err(error) => assert!(!error.contains('\n'), "{error:?}"),
    }
}

/// A dead letter that is read is written and read again as the same.
pub fn letter(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(letter) = letter::read(&bytes) {
        let written = letter::write(&letter, 7);
        assert_eq!(letter::read(&written.into()).unwrap(), letter);
    }
    // As the entries of a claim: place and letter by turns.
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let entry: Vec<Bytes> = parts.by_ref().map(Bytes::copy_from_slice).collect();
    if let Ok(condemned) = letter::read_condemned(&entry) {
        assert_eq!(condemned.len() * 2, entry.len());
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::*;

    /// How long each corpus is mutated, in seconds, instead of the moment that it usually is.
    const SECONDS: &str = "SYSTOLE_FUZZ_SECONDS";
    const MOMENT: Duration = Duration::from_millis(300);

    fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus")).join(target);
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut corpus: Vec<_> = files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        corpus.sort();
        corpus
    }

    #[test]
    fn the_corpus_holds() {
        for (target, check) in TARGETS {
            let corpus = corpus(target);
            assert!(corpus.len() >= 5, "{target} has {} files", corpus.len());
            for (path, bytes) in corpus {
                let held = std::panic::catch_unwind(|| check(&bytes));
                assert!(held.is_ok(), "{} does not hold", path.display());
            }
        }
    }

    /// A generator of small numbers: the same ones every time.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, below: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % below.max(1)
        }
    }

    /// Some bytes of one file in the place of some of another, with a few of them changed.
    fn mutated(corpus: &[(PathBuf, Vec<u8>)], dice: &mut Dice) -> Vec<u8> {
        let mut bytes = corpus[dice.roll(corpus.len())].1.clone();
        for _ in 0..=dice.roll(4) {
            let at = dice.roll(bytes.len());
            let other = &corpus[dice.roll(corpus.len())].1;
            let from = dice.roll(other.len());
            let piece = &other[from..(from + dice.roll(24)).min(other.len())];
            match dice.roll(6) {
                0 if at < bytes.len() => bytes[at] ^= 1_u8 << dice.roll(8),
                1 if at < bytes.len() => {
                    bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'\n', b'{', b'['][dice.roll(10)]
                }
                2 => drop(bytes.splice(at..at, piece.iter().copied())),
                3 => drop(bytes.splice(at..(at + dice.roll(16)).min(bytes.len()), piece.iter().copied())),
                4 => bytes.truncate(at),
                _ => drop(bytes.drain(at..(at + dice.roll(8)).min(bytes.len()))),
            }
        }
        bytes
    }

    #[test]
    fn what_is_like_the_corpus_holds() {
        let seconds = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok());
        let span = seconds.map_or(MOMENT, Duration::from_secs);
        for (target, check) in TARGETS {
            let corpus = corpus(target);
            let (mut dice, began, mut runs) = (Dice(7), Instant::now(), 0_u64);
            while began.elapsed() < span {
                let bytes = mutated(&corpus, &mut dice);
                runs += 1;
                if std::panic::catch_unwind(|| check(&bytes)).is_err() {
                    let path = std::env::temp_dir().join(format!("systole-{target}-{runs}"));
                    std::fs::write(&path, &bytes).unwrap();
                    panic!("{target} does not hold for {bytes:?}, in {}", path.display());
                }
            }
            if seconds.is_some() {
                tracing::info!(target, runs, "held");
                #[allow(clippy::print_stderr, reason = "what somebody asked for")]
                {
                    eprintln!("{target}: {runs} runs");
                }
            }
        }
    }
}
