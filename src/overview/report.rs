//! What is told, as it stands in JSON. Absent parts are null. Times are ms since the Unix epoch, spans are seconds.

use serde::Serialize;
use utoipa::ToSchema;

/// Which process tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// `systole up`: everything, on the embedded buffer.
    Up,
    /// `systole serve`: a door to Redis.
    Serve,
}

impl Role {
    /// The kind of its buffer.
    pub(super) const fn buffer(self) -> &'static str {
        match self {
            Self::Up => "embedded",
            Self::Serve => "redis",
        }
    }
}

/// The flow as it is now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Status {
    /// When it was gathered.
    pub now: i64,
    /// Of this binary.
    pub version: &'static str,
    /// Which process tells.
    pub role: Role,
    /// Since the process started.
    pub uptime_s: u64,
    /// Whether all is well, and what is not.
    pub verdict: Verdict,
    /// Heartbeats a second.
    pub rates: Rates,
    /// What this process refused since it started, by reason, the most first.
    pub refused: Vec<Refused>,
    /// Null before the buffer was looked at for the first time.
    pub buffer: Option<BufferState>,
    /// Everyone who takes heartbeats out of the buffer, by id. Null while the buffer cannot be looked at.
    pub batchers: Option<Vec<BatcherState>>,
    /// Null where they are not known: see `files_unknown`.
    pub files: Option<Files>,
    /// Why `files` is null.
    pub files_unknown: Option<String>,
    /// Null where they cannot be listed.
    pub dead_letters: Option<DeadLetters>,
    /// Null where they cannot be listed.
    pub silent: Option<Silent>,
    /// Null before the buffer was looked at for the first time.
    pub books: Option<Books>,
}

/// Whether all is well.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Verdict {
    /// Whether there is no problem.
    pub well: bool,
    /// Every part of `/health` that matters and is not well, causes before their effects, none that only repeats another; and
    /// what this answer alone tells of: heartbeats that the buffer refused within the last ten to twenty seconds, files that
    /// wait for too long, and a disk with too little room.
    pub problems: Vec<UnwellPart>,
}

impl Verdict {
    /// The same with more problems, but those of a part that has told its own.
    pub(super) fn and(mut self, mut more: Vec<UnwellPart>) -> Self {
        more.retain(|one| self.problems.iter().all(|told| told.part != one.part));
        self.problems.append(&mut more);
        self.well = self.problems.is_empty();
        self
    }
}

/// A part that is not well.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UnwellPart {
    /// As `/health` names it, if it is there.
    pub part: String,
    /// What is wrong.
    pub detail: String,
    /// Where to look and what to do.
    pub advice: &'static str,
}

/// Heartbeats a second. Null where nobody knows: the buffer cannot be looked at, or was for the first time.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub struct Rates {
    /// Accepted by the buffer, from every server, over the last ten seconds.
    pub r#in: Option<f64>,
    /// Written to files and acknowledged, by every batcher, over the last ten seconds.
    pub out: Option<f64>,
    /// Published, over the last minute, since it goes by whole files. Null where this process sees no files.
    pub published: Option<f64>,
}

/// Heartbeats that were refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Refused {
    /// The code of a record that an answer listed, or `buffer_` and why the buffer took none.
    pub reason: String,
    /// How many, as in `/metrics`.
    pub heartbeats: u64,
}

/// The buffer at the last look.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BufferState {
    /// `embedded` or `redis`.
    pub kind: &'static str,
    /// What an acknowledged heartbeat survives, as `/health` names it.
    pub durability: &'static str,
    /// How long ago it was looked at; more than some seconds where it cannot be.
    pub looked_s: u64,
    /// Pending, claimed and dead.
    pub heartbeats: u64,
    /// Beyond it new ones are refused.
    pub heartbeats_max: u64,
    /// Of their frames.
    pub bytes: u64,
    /// Beyond it new ones are refused.
    pub bytes_max: u64,
    /// How long the oldest has waited.
    pub oldest_pending_s: Option<f64>,
    /// Each of them, in order. One that is full refuses its users, whatever the others hold.
    pub partitions: Vec<PartitionState>,
}

/// A partition of the buffer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PartitionState {
    /// Its number.
    pub partition: u16,
    /// Pending, claimed and dead.
    pub heartbeats: u64,
    /// Its share of the buffer's.
    pub heartbeats_max: u64,
    /// Of their frames.
    pub bytes: u64,
    /// Its share of the buffer's.
    pub bytes_max: u64,
    /// How long the oldest has waited.
    pub oldest_pending_s: Option<f64>,
    /// How long the claim has stood that is being written.
    pub claim_age_s: Option<f64>,
    /// The batcher that drains it.
    pub owner: Option<String>,
    /// Of its heartbeats, those in dead letters.
    pub dead: u64,
}

/// A batcher.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BatcherState {
    /// Its id.
    pub id: String,
    /// Since its last sign of life.
    pub seen_s: f64,
    /// Whether that is not too long ago.
    pub alive: bool,
    /// Those that it drains.
    pub partitions: Vec<u16>,
}

/// What stands in the files.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Files {
    /// Whether every bucket was looked at. A large dataset takes some looks, the newest days first.
    pub complete: bool,
    /// Written, and not published yet.
    pub fragments: u64,
    /// In them.
    pub fragment_rows: u64,
    /// Of them.
    pub fragment_bytes: u64,
    /// Since the oldest was written.
    pub oldest_fragment_s: Option<u64>,
    /// What readers see.
    pub published_files: u64,
    /// In them.
    pub published_rows: u64,
    /// Of them.
    pub published_bytes: u64,
    /// Damaged fragments that were laid aside.
    pub quarantined: u64,
    /// The newest first.
    pub last_publishes: Vec<Publish>,
    /// The last 30 by UTC, oldest first.
    pub days: Vec<Day>,
    /// Where they stand.
    pub disk: Disk,
}

/// A file that was published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub struct Publish {
    /// When.
    pub at: i64,
    /// Of its heartbeats, by UTC.
    pub date: String,
    /// Of their users.
    pub partition: u16,
    /// In it; none where all stood already.
    pub rows: u64,
    /// Of it.
    pub bytes: u64,
}

/// What was published of one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Day {
    /// Of the heartbeats, by UTC.
    pub date: String,
    /// Heartbeats.
    pub rows: u64,
    /// Of the files.
    pub bytes: u64,
    /// Files.
    pub files: u64,
}

/// The disk of the files.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Disk {
    /// For this process.
    pub free_bytes: u64,
    /// Of all.
    pub total_bytes: u64,
    /// Below it nothing new is claimed.
    pub min_free_bytes: u64,
}

/// What can never be written.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeadLetters {
    /// In all of them.
    pub heartbeats: u64,
    /// The newest, first.
    pub letters: Vec<Letter>,
    /// Whether there are more.
    pub more: bool,
}

/// A dead letter.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Letter {
    /// As `systole dead-letters show` takes it.
    pub id: String,
    /// Where it lies.
    pub partition: u16,
    /// Heartbeats in it.
    pub rows: u64,
    /// When it was laid aside.
    pub since: i64,
    /// Why.
    pub reason: String,
}

/// Devices that have stopped beating.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Silent {
    /// Silent for longer than this.
    pub after_s: u64,
    /// The longest silent first.
    pub devices: Vec<StoppedDevice>,
    /// Whether there are more.
    pub more: bool,
}

/// A device that has stopped beating.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StoppedDevice {
    /// Whose.
    pub user_id: String,
    /// Which.
    pub device_id: String,
    /// When.
    pub last_seen: i64,
}

/// The books, in heartbeats.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Books {
    /// Ever accepted by the buffer.
    pub accepted: u64,
    /// Waiting for a batcher.
    pub pending: u64,
    /// Being written.
    pub claimed: u64,
    /// Written to files.
    pub acked: u64,
    /// In dead letters.
    pub dead: u64,
    /// In dead letters that a person dropped.
    pub dropped: u64,
    /// `accepted = pending + claimed + acked + dead + dropped`, in every partition.
    pub balanced: bool,
    /// What stands opposite `acked`. Null where it is not known: see `files_unknown`.
    pub files: Option<BooksOfFiles>,
    /// Why `files` is null.
    pub files_unknown: Option<&'static str>,
}

/// The books of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct BooksOfFiles {
    /// When they were counted: about once a minute.
    pub at: i64,
    /// In fragments.
    pub staged: u64,
    /// In fragments that were merged into published files.
    pub merged: u64,
    /// In damaged fragments that were laid aside.
    pub quarantined: u64,
    /// As `systole audit` judges: nothing that was acknowledged is missing, and nothing is there that the buffer does not know of.
    pub balanced: bool,
}

/// The last hour, step by step, the oldest first, all lists of one length. Null where this process did not run or could not
/// look.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct History {
    /// A step.
    pub step_s: u64,
    /// The end of the last step.
    pub until: i64,
    /// Heartbeats a second that the buffer accepted.
    pub r#in: Vec<Option<f64>>,
    /// Heartbeats a second that were written to files.
    pub out: Vec<Option<f64>>,
    /// Heartbeats a second that this process refused.
    pub refused: Vec<Option<f64>>,
    /// Heartbeats pending or claimed at the end of the step.
    pub waiting: Vec<Option<u64>>,
}
