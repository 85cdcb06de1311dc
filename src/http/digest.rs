//! From the bytes of a body to records: inflating and parsing, where they hurt nobody.
//!
//! Small bodies are worked on at once, on the thread that serves their connection: handing them over would cost more than
//! the work. Long ones, and short ones that turn out to be long when inflated, go to threads that may block, as many at a
//! time as there are cores: more would not be faster, and each that inflates zstd holds a window.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::budget::{NoRoom, Reservation, Stop};
use super::inflate::{Encoding, InflateError, inflate};
use super::problem::{Kind, Problem};
use super::split::{Format, SplitError, split};
use super::{body, options::Options};
use crate::heartbeat::{Limits as TimeLimits, Parsed};

/// Text up to this length is parsed on the spot: below half a millisecond.
const INLINE_BYTES: usize = 64 * 1024;

/// What a record takes beside its texts: itself, and what the allocator adds to its few texts.
const RECORD_OVERHEAD_BYTES: usize = size_of::<Parsed>() + 64;

/// How a body is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) encoding: Encoding,
    pub(super) format: Format,
}

/// Turns bodies into records.
#[derive(Debug)]
pub(super) struct Digester {
    rules: Rules,
    crew: Arc<Semaphore>,
}

#[derive(Debug, Clone, Copy)]
struct Rules {
    max_inflated: usize,
    max_bulk: usize,
    times: TimeLimits,
}

/// What becomes of an attempt on the spot.
enum OnTheSpot {
    Done(Result<Vec<Parsed>, Problem>),
    TooMuch,
}

impl Digester {
    pub(super) fn new(options: &Options) -> Self {
        let ms = |duration: humantime::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let rules = Rules {
            max_inflated: size(options.max_inflated_body),
            max_bulk: options.max_bulk as usize,
            times: TimeLimits { max_clock_skew_ms: ms(options.max_clock_skew), max_age_ms: ms(options.max_age) },
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { rules, crew: Arc::new(Semaphore::new(cores)) }
    }

    /// The records of `body`. What they take is added to the reservation, which is handed back to be held until the
    /// request is answered. `now` is the server's time in milliseconds.
    pub(super) async fn digest(
        &self,
        body: Bytes,
        form: Form,
        now: i64,
        mut reservation: Reservation,
    ) -> Result<(Vec<Parsed>, Reservation), Problem> {
        let records = match self.rules.on_the_spot(&body, form, now, &mut reservation) {
            OnTheSpot::Done(outcome) => outcome?,
            OnTheSpot::TooMuch => {
                let (outcome, held) = self.hand_over(body, form, now, reservation).await?;
                reservation = held;
                outcome?
            }
        };
        // The text is gone now; its share of the reservation stands for the texts of the records.
        reservation.grow(records.len() * RECORD_OVERHEAD_BYTES).map_err(|NoRoom| body::overloaded())?;
        Ok((records, reservation))
    }

    async fn hand_over(
        &self,
        body: Bytes,
        form: Form,
        now: i64,
        mut reservation: Reservation,
    ) -> Result<(Result<Vec<Parsed>, Problem>, Reservation), Problem> {
        let internal = |cause: &dyn ToString| {
            Problem::new(Kind::Internal, "The body could not be worked on.").with_cause(cause.to_string())
        };
        let permit = Arc::clone(&self.crew).acquire_owned().await.map_err(|closed| internal(&closed))?;
        let rules = self.rules;
        let work = move || {
            let outcome = rules.whole(&body, form, now, &mut reservation);
            drop(permit);
            (outcome, reservation)
        };
        tokio::task::spawn_blocking(work).await.map_err(|died| internal(&died))
    }
}

impl Rules {
    fn on_the_spot(&self, body: &[u8], form: Form, now: i64, reservation: &mut Reservation) -> OnTheSpot {
        if body.len() > INLINE_BYTES {
            return OnTheSpot::TooMuch;
        }
        if form.encoding == Encoding::Identity {
            return OnTheSpot::Done(self.split(body, form.format, now));
        }
        let before = reservation.bytes();
        match inflate(body, form.encoding, INLINE_BYTES.min(self.max_inflated), reservation) {
            Err(InflateError::Stopped(Stop::Limit)) => {
                // Begun anew over there: a half-done state would hold its window while it waits for a thread.
                reservation.shrink_to(before);
                OnTheSpot::TooMuch
            }
            Err(error) => OnTheSpot::Done(Err(self.not_inflated(error))),
            Ok(text) => OnTheSpot::Done(self.split(&text, form.format, now)),
        }
    }

    fn whole(&self, body: &[u8], form: Form, now: i64, reservation: &mut Reservation) -> Result<Vec<Parsed>, Problem> {
        if form.encoding == Encoding::Identity {
            return self.split(body, form.format, now);
        }
        let text =
            inflate(body, form.encoding, self.max_inflated, reservation).map_err(|error| self.not_inflated(error))?;
        self.split(&text, form.format, now)
    }

    fn split(&self, text: &[u8], format: Format, now: i64) -> Result<Vec<Parsed>, Problem> {
        split(text, format, self.times, now, self.max_bulk).map_err(|error| match error {
            SplitError::Empty => Problem::new(
                Kind::Empty,
                "The body holds no heartbeat; send one JSON object, an array of them, or one a line.",
            ),
            SplitError::TooMany => {
                let detail = format!("A request may hold at most {} heartbeats; send smaller bulks.", self.max_bulk);
                Problem::new(Kind::TooManyHeartbeats, detail)
            }
            SplitError::Malformed(detail) => Problem::new(Kind::MalformedBody, detail),
        })
    }

    fn not_inflated(&self, error: InflateError) -> Problem {
        match error {
            InflateError::Stopped(Stop::Limit) => {
                let limit = self.max_inflated;
                let detail = format!("A body may inflate to at most {limit} bytes; send smaller bulks.");
                Problem::new(Kind::BodyTooLarge, detail)
            }
            InflateError::Stopped(Stop::Budget) => body::overloaded(),
            InflateError::Damaged(reason) => {
                Problem::new(Kind::MalformedEncoding, format!("The body cannot be inflated: {reason}."))
            }
        }
    }
}

/// The most that one request can reserve: a budget below it would refuse the largest allowed body for ever.
pub(super) fn largest_request(options: &Options) -> usize {
    let records = (options.max_bulk as usize).saturating_mul(RECORD_OVERHEAD_BYTES);
    size(options.max_body).saturating_add(size(options.max_inflated_body)).saturating_add(records)
}

/// A size as memory counts it.
pub(super) fn size(size: bytesize::ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::budget::ByteBudget;
    use super::*;

    const NOW: i64 = 1_795_000_000_000;
    const JSON: Form = Form { encoding: Encoding::Identity, format: Format::Json };

    fn bulk(count: usize) -> Vec<u8> {
        let record = format!(r#"{{"user_id":"u","device_id":"d","timestamp":{NOW}}}"#);
        format!("[{}]", vec![record; count].join(",")).into_bytes()
    }

    async fn reserved_for(body: Vec<u8>, encoding: Encoding) -> (usize, usize) {
        let budget = ByteBudget::new(64 << 20);
        let digester = Digester::new(&Options::default());
        let reservation = Reservation::empty(&budget);
        let form = Form { encoding, ..JSON };
        let (records, held) = digester.digest(body.into(), form, NOW, reservation).await.unwrap();
        (records.len(), held.bytes())
    }

    #[tokio::test]
    async fn what_a_body_becomes_is_reserved_once_wherever_it_is_worked_on() {
        for count in [1, 10, 5_000] {
            let text = bulk(count);
            let records = count * RECORD_OVERHEAD_BYTES;
            assert_eq!(reserved_for(text.clone(), Encoding::Identity).await, (count, records));
            let compressed = zstd::encode_all(&text[..], 3).unwrap();
            let (len, reserved) = reserved_for(compressed, Encoding::Zstd).await;
            assert_eq!(len, count);
            // A growing vector holds up to twice its text, and at least one step.
            let most = records + (2 * text.len()).max(INLINE_BYTES);
            assert!((records + text.len()..=most).contains(&reserved), "{count}: {reserved}");
        }
    }

    #[tokio::test]
    async fn records_that_find_no_room_are_overload_not_a_fault_of_the_client() {
        let budget = ByteBudget::new(100);
        let digester = Digester::new(&Options::default());
        let outcome = digester.digest(bulk(10).into(), JSON, NOW, Reservation::empty(&budget)).await;
        assert_eq!(outcome.unwrap_err().kind, Kind::Overloaded);
        assert_eq!(budget.used(), 0);
    }
}
