//! Why a record was refused, in words that the sender can act on.

/// A stable, machine-readable reason. It stands in answers and as a metric label: never rename one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectCode {
    /// Not JSON.
    MalformedJson,
    /// JSON, but no object.
    NotAnObject,
    /// A top-level field that the format does not know.
    UnknownField,
    /// A field given twice.
    DuplicateField,
    /// A required field is absent or null.
    MissingField,
    /// A field of the wrong JSON type.
    WrongType,
    /// A text that is empty or too long.
    InvalidLength,
    /// A control character in an id.
    ControlCharacter,
    /// A timestamp that is neither RFC 3339 with offset nor integer milliseconds.
    TimestampFormat,
    /// An integer timestamp that looks like seconds.
    TimestampInSeconds,
    /// Further in the future than `max_clock_skew`.
    TimestampInFuture,
    /// Older than `max_age`.
    TimestampTooOld,
    /// Attributes over 4 KiB.
    AttributesTooLarge,
    /// Attributes nested deeper than 8 levels.
    AttributesTooDeep,
    /// Text that is no valid Unicode (a lone surrogate escape).
    InvalidUnicode,
    /// The token may not write heartbeats of this user.
    ForbiddenUser,
    /// The user's rate limit. The only retryable one.
    RateLimited,
}

impl RejectCode {
    /// Every code, for metrics that must show a zero before the first case.
    pub const ALL: [Self; 17] = [
        Self::MalformedJson,
        Self::NotAnObject,
        Self::UnknownField,
        Self::DuplicateField,
        Self::MissingField,
        Self::WrongType,
        Self::InvalidLength,
        Self::ControlCharacter,
        Self::TimestampFormat,
        Self::TimestampInSeconds,
        Self::TimestampInFuture,
        Self::TimestampTooOld,
        Self::AttributesTooLarge,
        Self::AttributesTooDeep,
        Self::InvalidUnicode,
        Self::ForbiddenUser,
        Self::RateLimited,
    ];

    /// The code as it stands in answers and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::NotAnObject => "not_an_object",
            Self::UnknownField => "unknown_field",
            Self::DuplicateField => "duplicate_field",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::InvalidLength => "invalid_length",
            Self::ControlCharacter => "control_character",
            Self::TimestampFormat => "timestamp_format",
            Self::TimestampInSeconds => "timestamp_in_seconds",
            Self::TimestampInFuture => "timestamp_in_future",
            Self::TimestampTooOld => "timestamp_too_old",
            Self::AttributesTooLarge => "attributes_too_large",
            Self::AttributesTooDeep => "attributes_too_deep",
            Self::InvalidUnicode => "invalid_unicode",
            Self::ForbiddenUser => "forbidden_user",
            Self::RateLimited => "rate_limited",
        }
    }

    /// Whether the same record can succeed later.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::RateLimited)
    }
}

/// A refused record: the code, and a sentence that names the field, what was wrong and how to mend it.
///
/// The sentence may quote what the client sent; it goes back to that client and into no log above debug level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The stable reason.
    pub code: RejectCode,
    /// What to mend.
    pub detail: String,
}

impl Rejection {
    /// A rejection with its sentence.
    pub fn new(code: RejectCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}
