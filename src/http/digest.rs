//! From the bytes of a body to what the buffer is given: inflating, parsing, judging and encoding, in one go, so that
//! records never leave the text that they stand in; and where it hurts nobody.
//!
//! Small bodies are worked on at once, on the thread that serves their connection: handing them over would cost more than
//! the work. Long ones, and short ones that turn out to be long when inflated, go to threads that may block, as many at a
//! time as there are cores: more would not be faster, and each that inflates zstd holds a window.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::auth::Pass;
use super::budget::{NoRoom, Reservation, Stop};
use super::inflate::{Encoding, InflateError, inflate};
use super::keep::{Handling, Kept, keep};
use super::limits::Limits;
use super::problem::{Kind, Problem};
use super::split::{Format, SplitError, split};
use super::{body, options::Options};
use crate::buffer::Intake;
use crate::heartbeat::{Limits as TimeLimits, Parsed};

/// Text up to this length is worked on on the spot: a millisecond, and the most usual bulks. Handing them over cost a tenth of
/// what came in through Redis, and a quarter of it on the embedded buffer, whose commits share the threads that may block.
const INLINE_BYTES: usize = 256 * 1024;
/// The same for text that is to be inflated first.
const INLINE_INFLATED_BYTES: usize = 64 * 1024;

/// What a record takes beside the text: itself, twice while the good ones are parted from the bad.
const RECORD_OVERHEAD_BYTES: usize = 2 * size_of::<Parsed<'_>>();

/// How a body is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) encoding: Encoding,
    pub(super) format: Format,
}

/// What is to be done with a body.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) form: Form,
    /// The server's time in milliseconds.
    pub(super) now: i64,
    pub(super) handling: Handling,
    /// Whose heartbeats are taken.
    pub(super) pass: Pass,
}

/// Turns bodies into parcels.
#[derive(Debug)]
pub(super) struct Digester {
    rules: Arc<Rules>,
    crew: Arc<Semaphore>,
}

#[derive(Debug)]
struct Rules {
    max_inflated: usize,
    max_bulk: usize,
    times: TimeLimits,
    limits: Arc<Limits>,
    /// Told of the users that are over their limit.
    intake: Arc<dyn Intake>,
}

/// What becomes of an attempt on the spot.
enum OnTheSpot {
    Done(Result<Kept, Problem>),
    TooMuch,
}

impl Digester {
    pub(super) fn new(options: &Options, limits: Arc<Limits>, intake: Arc<dyn Intake>) -> Self {
        let ms = |duration: humantime::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let rules = Rules {
            max_inflated: size(options.max_inflated_body),
            max_bulk: options.max_bulk as usize,
            times: TimeLimits { max_clock_skew_ms: ms(options.max_clock_skew), max_age_ms: ms(options.max_age) },
            limits,
            intake,
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { rules: Arc::new(rules), crew: Arc::new(Semaphore::new(cores)) }
    }

    /// What is kept of `body`. The reservation then stands for the parcels and is handed back, to be held until the
    /// request is answered.
    pub(super) async fn digest(
        &self,
        body: Bytes,
        task: Task,
        mut reservation: Reservation,
    ) -> Result<(Kept, Reservation), Problem> {
        let outcome = match self.rules.on_the_spot(&body, &task, &mut reservation) {
            OnTheSpot::Done(outcome) => outcome,
            OnTheSpot::TooMuch => {
                let (outcome, held) = self.hand_over(body, task, reservation).await?;
                reservation = held;
                outcome
            }
        };
        match outcome {
            // Parcels are mostly shorter than their text; what is said of bad records may be longer.
            Ok(kept) => match reservation.resize(kept.bytes()) {
                Ok(()) => Ok((kept, reservation)),
                Err(NoRoom) => Err(body::overloaded()),
            },
            Err(problem) => Err(problem.holding(reservation)),
        }
    }

    async fn hand_over(
        &self,
        body: Bytes,
        task: Task,
        mut reservation: Reservation,
    ) -> Result<(Result<Kept, Problem>, Reservation), Problem> {
        let internal = |cause: &dyn ToString| {
            Problem::new(Kind::Internal, "The body could not be worked on.").with_cause(cause.to_string())
        };
        let permit = Arc::clone(&self.crew).acquire_owned().await.map_err(|closed| internal(&closed))?;
        let rules = Arc::clone(&self.rules);
        let work = move || {
            let outcome = rules.whole(&body, &task, &mut reservation);
            drop((body, permit));
            (outcome, reservation)
        };
        tokio::task::spawn_blocking(work).await.map_err(|died| internal(&died))
    }
}

impl Rules {
    fn on_the_spot(&self, body: &[u8], task: &Task, reservation: &mut Reservation) -> OnTheSpot {
        let packed = task.form.encoding != Encoding::Identity;
        if body.len() > if packed { INLINE_INFLATED_BYTES } else { INLINE_BYTES } {
            return OnTheSpot::TooMuch;
        }
        if !packed {
            return OnTheSpot::Done(self.keep(body, task, reservation));
        }
        let before = reservation.bytes();
        match inflate(body, task.form.encoding, INLINE_INFLATED_BYTES.min(self.max_inflated), reservation) {
            Err(InflateError::Stopped(Stop::Limit)) => {
                // Begun anew over there: a half-done state would hold its window while it waits for a thread.
                reservation.shrink_to(before);
                OnTheSpot::TooMuch
            }
            Err(error) => OnTheSpot::Done(Err(self.not_inflated(error))),
            Ok(text) => OnTheSpot::Done(self.keep(&text, task, reservation)),
        }
    }

    fn whole(&self, body: &[u8], task: &Task, reservation: &mut Reservation) -> Result<Kept, Problem> {
        if task.form.encoding == Encoding::Identity {
            return self.keep(body, task, reservation);
        }
        let text = inflate(body, task.form.encoding, self.max_inflated, reservation)
            .map_err(|error| self.not_inflated(error))?;
        self.keep(&text, task, reservation)
    }

    fn keep(&self, text: &[u8], task: &Task, reservation: &mut Reservation) -> Result<Kept, Problem> {
        let records = self.split(text, task)?;
        reservation.grow(records.len() * RECORD_OVERHEAD_BYTES).map_err(|NoRoom| body::overloaded())?;
        keep(records, text.len(), &self.limits, task.handling, &task.pass, &*self.intake)
    }

    fn split<'a>(&self, text: &'a [u8], task: &Task) -> Result<Vec<Parsed<'a>>, Problem> {
        split(text, task.form.format, self.times, task.now, self.max_bulk).map_err(|error| match error {
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
            InflateError::Stopped(Stop::Budget | Stop::Sender) => body::overloaded(),
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
    use std::sync::Mutex;

    use super::super::limits;
    use super::*;
    use crate::buffer::{self, Parcel, TurnedAway};
    use crate::heartbeat::Partition;

    const NOW: i64 = 1_795_000_000_000;

    fn bulk(count: usize) -> Vec<u8> {
        let record = format!(r#"{{"user_id":"u","device_id":"d","timestamp":{NOW}}}"#);
        format!("[{}]", vec![record; count].join(",")).into_bytes()
    }

    fn task(encoding: Encoding) -> Task {
        let handling = Handling { strict: false, partitions: 4 };
        Task { form: Form { encoding, format: Format::Json }, now: NOW, handling, pass: Pass::Anybody }
    }

    /// Remembers who was turned away.
    #[derive(Debug, Default)]
    struct Nowhere(Mutex<Vec<String>>);

    #[async_trait::async_trait]
    impl Intake for Nowhere {
        async fn partitions(&self) -> buffer::Result<Partition> {
            Ok(4)
        }

        async fn accept(&self, _: Vec<Parcel>) -> buffer::Result<()> {
            Ok(())
        }

        fn turned_away(&self, whose: TurnedAway<'_>) {
            let TurnedAway::Users(users) = whose else { panic!("users are known") };
            self.0.lock().unwrap().extend(users.iter().map(|user| (*user).to_owned()));
        }
    }

    fn digester() -> Digester {
        let unlimited = limits::Options { user_rate: 0, ..limits::Options::default() };
        Digester::new(&Options::default(), Arc::new(Limits::new(&unlimited)), Arc::<Nowhere>::default())
    }

    #[tokio::test]
    async fn what_a_body_becomes_is_reserved_wherever_it_is_worked_on() {
        for count in [1, 10, 5_000] {
            let text = bulk(count);
            for (encoding, body) in
                [(Encoding::Identity, text.clone()), (Encoding::Zstd, zstd::encode_all(&text[..], 3).unwrap())]
            {
                let budget = ByteBudget::new(64 << 20);
                let mut reservation = Reservation::empty(&budget);
                reservation.grow(body.len()).unwrap();
                let (kept, held) = digester().digest(body.into(), task(encoding), reservation).await.unwrap();
                assert_eq!(kept.accepted, count);
                assert!(held.bytes() <= kept.bytes() && kept.bytes() <= text.len() + 512);
                assert_eq!(budget.used(), held.bytes(), "what reading took is given back");
                assert!(encoding != Encoding::Identity || held.bytes() == kept.bytes());
            }
        }
    }

    #[tokio::test]
    async fn the_intake_hears_of_those_whom_a_rate_limit_turns_away() {
        let limits = limits::Options { user_rate: 1, user_burst: 2, ..limits::Options::default() };
        let intake = Arc::<Nowhere>::default();
        let digester = Digester::new(&Options::default(), Arc::new(Limits::new(&limits)), intake.clone());
        let send = async |users: &[&str], strict: bool| {
            let record = |user: &&str| format!(r#"{{"user_id":"{user}","device_id":"d","timestamp":{NOW}}}"#);
            let text = format!("[{}]", users.iter().map(record).collect::<Vec<_>>().join(","));
            let mut task = task(Encoding::Identity);
            task.handling.strict = strict;
            let budget = ByteBudget::new(1 << 20);
            let outcome = digester.digest(text.into(), task, Reservation::empty(&budget)).await;
            let accepted = outcome.map(|(kept, _)| kept.accepted).map_err(|problem| problem.kind);
            (accepted, std::mem::take(&mut *intake.0.lock().unwrap()))
        };
        assert_eq!(send(&["ada", "ada"], false).await, (Ok(2), vec![]));
        assert_eq!(send(&["bob", "ada", "ada"], false).await, (Ok(1), vec!["ada".to_owned()]));
        assert_eq!(send(&["ada", "ada"], false).await, (Err(Kind::RateLimited), vec!["ada".to_owned()]));
        let both = vec!["ada".to_owned(), "cyd".to_owned()];
        assert_eq!(send(&["cyd", "ada", "ada"], true).await, (Err(Kind::RateLimited), both), "all of a strict request");
    }

    #[tokio::test]
    async fn records_that_find_no_room_are_overload_not_a_fault_of_the_client() {
        let budget = ByteBudget::new(100);
        let outcome = digester().digest(bulk(10).into(), task(Encoding::Identity), Reservation::empty(&budget)).await;
        assert_eq!(outcome.unwrap_err().kind, Kind::Overloaded);
        assert_eq!(budget.used(), 0);
    }
}
