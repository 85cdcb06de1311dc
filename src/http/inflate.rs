//! Undoing gzip and zstd, bounded.
//!
//! The framework's decoder has no bound within one chunk, and 200 bytes can hold a quarter of a gigabyte. This one
//! produces its output in small steps and stops at the first step that passes the limit or the byte budget.

use std::io::{self, Read};

use actix_web::http::header::{CONTENT_ENCODING, HeaderMap};
use flate2::read::MultiGzDecoder;

use super::budget::{BoundedBytes, Reservation, Stop};

/// zstd frames may ask for a window of 2^23 bytes (8 MiB, what RFC 8878 tells decoders to support), not for the 128 MiB
/// that the library would grant. Windows stand outside the byte budget: one a thread that inflates.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;

/// Output is produced in steps of this many bytes.
const STEP: usize = 16 * 1024;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it stands.
    Identity,
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 8878, one frame or several.
    Zstd,
}

impl Encoding {
    /// What the header says.
    ///
    /// # Errors
    /// It names something else, or more than one coding; the text is what stands there.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, String> {
        let mut lines = headers.get_all(CONTENT_ENCODING);
        let Some(line) = lines.next() else { return Ok(Self::Identity) };
        if lines.next().is_some() {
            return Err("several codings".to_owned());
        }
        let name = line.to_str().unwrap_or("unreadable").trim();
        if name.is_empty() || name.eq_ignore_ascii_case("identity") {
            Ok(Self::Identity)
        } else if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            Ok(Self::Gzip)
        } else if name.eq_ignore_ascii_case("zstd") {
            Ok(Self::Zstd)
        } else {
            Err(name.chars().take(64).collect())
        }
    }
}

/// Why a body could not be inflated.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InflateError {
    /// It passes a bound.
    Stopped(Stop),
    /// It is damaged, cut short, or followed by something else.
    Damaged(String),
}

impl From<io::Error> for InflateError {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Undoes `encoding`, to at most `limit` bytes, which are added to `reservation` as they come.
pub(super) fn inflate(
    body: &[u8],
    encoding: Encoding,
    limit: usize,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, InflateError> {
    let into = BoundedBytes::new(limit, 0, reservation);
    match encoding {
        Encoding::Identity => pump(body, into),
        Encoding::Gzip => pump(MultiGzDecoder::new(body), into),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
            pump(decoder, into)
        }
    }
}

fn pump(mut from: impl Read, mut into: BoundedBytes<'_>) -> Result<Vec<u8>, InflateError> {
    let mut step = [0_u8; STEP];
    loop {
        match from.read(&mut step) {
            Ok(0) => return Ok(into.into_bytes()),
            Ok(len) => into.extend(&step[..len]).map_err(InflateError::Stopped)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    use super::super::budget::ByteBudget;
    use super::*;

    const LIMIT: usize = 8 << 20;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 3).unwrap()
    }

    fn undo(body: &[u8], encoding: Encoding) -> Result<Vec<u8>, InflateError> {
        let budget = ByteBudget::new(64 << 20);
        let inflated = inflate(body, encoding, LIMIT, &mut Reservation::empty(&budget));
        assert_eq!(budget.used(), 0);
        inflated
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(parts in proptest::collection::vec(any::<Vec<u8>>(), 1..4)) {
            let whole = parts.concat();
            let members: Vec<u8> = parts.iter().flat_map(|part| gzip(part)).collect();
            prop_assert_eq!(undo(&members, Encoding::Gzip).unwrap(), whole.clone());
            let frames: Vec<u8> = parts.iter().flat_map(|part| zstd(part)).collect();
            prop_assert_eq!(undo(&frames, Encoding::Zstd).unwrap(), whole);
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(body: Vec<u8>) {
            let _ = undo(&body, Encoding::Gzip);
            let _ = undo(&body, Encoding::Zstd);
        }
    }

    #[test]
    fn cut_short_or_followed_by_garbage_is_damaged() {
        let text = b"heartbeats ".repeat(1000);
        for (encoding, whole) in [(Encoding::Gzip, gzip(&text)), (Encoding::Zstd, zstd(&text))] {
            for cut in 1..whole.len() {
                let outcome = undo(&whole[..cut], encoding);
                assert!(matches!(outcome, Err(InflateError::Damaged(_))), "{encoding:?} cut at {cut}: {outcome:?}");
            }
            let mut longer = whole.clone();
            longer.extend_from_slice(b"garbage behind it");
            assert!(matches!(undo(&longer, encoding), Err(InflateError::Damaged(_))), "{encoding:?}");
        }
    }

    /// Counts what a decoder hands out, to see that it is stopped early.
    struct Counting<R>(R, usize);

    impl<R: Read> Read for Counting<R> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let len = self.0.read(into)?;
            self.1 += len;
            Ok(len)
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let zeroes = vec![0_u8; 256 << 20];
        let bombs = [(Encoding::Gzip, gzip(&zeroes)), (Encoding::Zstd, zstd(&zeroes))];
        for (encoding, bomb) in &bombs {
            assert_eq!(undo(bomb, *encoding), Err(InflateError::Stopped(Stop::Limit)), "{encoding:?}");
        }
        let budget = ByteBudget::new(64 << 20);
        let mut reservation = Reservation::empty(&budget);
        let mut counting = Counting(zstd::stream::read::Decoder::with_buffer(&bombs[1].1[..]).unwrap(), 0);
        pump(&mut counting, BoundedBytes::new(LIMIT, 0, &mut reservation)).unwrap_err();
        assert!(counting.1 <= LIMIT + STEP, "{} bytes were made", counting.1);
        assert!(reservation.bytes() <= LIMIT);
    }

    #[test]
    fn a_frame_that_wants_a_huge_window_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        // Without a pledged size the frame asks for its whole window.
        encoder.write_all(b"{}").unwrap();
        let body = encoder.finish().unwrap();
        assert!(matches!(undo(&body, Encoding::Zstd), Err(InflateError::Damaged(_))));
    }

    #[test]
    fn the_byte_budget_stops_inflating_too() {
        let budget = ByteBudget::new(1 << 20);
        let mut reservation = Reservation::empty(&budget);
        let outcome = inflate(&gzip(&vec![0; 4 << 20]), Encoding::Gzip, LIMIT, &mut reservation);
        assert_eq!(outcome, Err(InflateError::Stopped(Stop::Budget)));
    }

    #[test]
    fn only_known_encodings_are_read() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(value));
            Encoding::of(&headers)
        };
        assert_eq!(Encoding::of(&HeaderMap::new()), Ok(Encoding::Identity));
        assert_eq!(of("GZip"), Ok(Encoding::Gzip));
        assert_eq!(of("zstd"), Ok(Encoding::Zstd));
        assert_eq!(of("identity"), Ok(Encoding::Identity));
        assert_eq!(of("br"), Err("br".to_owned()));
        assert_eq!(of("gzip, zstd"), Err("gzip, zstd".to_owned()));
    }
}
