//! What crosses the socket, and how it is written and read. See the module above for the layout.
//!
//! Constraint: whoever changes what stands in a call or an answer raises [`VERSION`]; a test holds the text of each.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::letter::MAX_LISTED_BYTES;
use super::super::{
    Batchers, DeadLetter, DeadLetterId, DeadLetterNote, Durability, Error, FrameMark, FramePage, PartitionStatus,
    Registration, Result, SeenDevice,
};
use crate::heartbeat::{ClaimId, Partition};
use crate::token::{StoredToken, TokenId, TokenList, TokenVersion};

/// Of the bodies of calls and answers.
const VERSION: u32 = 4;

/// How large a message may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    head_bytes: usize,
    tail_bytes: usize,
}

/// A call is some numbers and ids, or the record of one token.
pub(super) const CALL: Bounds = Bounds { head_bytes: 64 << 10, tail_bytes: 0 };
/// A listing ends with the letter that takes it to its bound, and a frame has a few MiB at most.
pub(super) const ANSWER: Bounds = Bounds { head_bytes: MAX_LISTED_BYTES, tail_bytes: 2 * MAX_LISTED_BYTES };

/// One method of [`Administer`](super::super::Administer).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Call {
    Durability,
    Ping,
    Registration,
    Status { partition: Partition },
    Batchers,
    DeadLetters { partition: Partition, after: Option<DeadLetterId>, limit: u32 },
    NewestDeadLetters { partition: Partition, limit: u32 },
    DeadLetter { partition: Partition, id: DeadLetterId },
    RetryDeadLetter { partition: Partition, id: DeadLetterId },
    DropDeadLetter { partition: Partition, id: DeadLetterId },
    Tokens { known: Option<TokenVersion> },
    CreateToken(StoredToken),
    RevokeToken { id: TokenId },
    DevicesOf { partition: Partition, user_id: String, after: Option<String>, limit: u32 },
    DevicesUnseen { partition: Partition, before: i64, after: Option<SeenDevice>, limit: u32 },
    Frames { partition: Partition, from: Option<FrameMark> },
}

impl Call {
    /// Whether its answer has a tail.
    pub(super) fn has_tail(&self) -> bool {
        matches!(self, Self::DeadLetters { .. } | Self::DeadLetter { .. } | Self::Tokens { .. } | Self::Frames { .. })
    }
}

/// What a method answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Durability {
        level: String,
        window: String,
        wait_replicas: u32,
    },
    Reached,
    Registration(Option<Registration>),
    Status(PartitionStatus),
    Batchers(Batchers),
    /// Their frames are the tail.
    DeadLetters(Vec<Heading>),
    DeadLetterNotes(Vec<DeadLetterNote>),
    /// Their records are the tail.
    Tokens {
        version: Option<TokenVersion>,
        tokens: Vec<Label>,
    },
    /// Those of the version that is known.
    SameTokens,
    /// Some hundred KiB.
    Devices(Vec<SeenDevice>),
    /// Whether there was such a letter, or such a token; whether a token was new.
    Settled(bool),
    /// They are the tail.
    Frames {
        /// Their lengths in it.
        bytes: Vec<usize>,
        next: Option<FrameMark>,
    },
}

/// A token without its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Label {
    id: TokenId,
    /// Length of its record in the tail.
    bytes: usize,
}

/// A dead letter without its frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Heading {
    id: DeadLetterId,
    claim: ClaimId,
    since: i64,
    rows: u32,
    reason: String,
    /// Length of its frame in the tail.
    bytes: usize,
}

/// A message whose lengths are within its bounds.
#[derive(Debug)]
pub(super) struct Message {
    head: Vec<u8>,
    tail: Vec<Bytes>,
}

#[derive(Serialize)]
struct Sent<'a, T> {
    version: u32,
    body: &'a T,
}

#[derive(Deserialize)]
struct Received<'a> {
    version: u32,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

impl Message {
    pub(super) fn new(body: &impl Serialize, tail: Vec<Bytes>, bounds: Bounds) -> Result<Self> {
        let head = serde_json::to_vec(&Sent { version: VERSION, body });
        let head = head.map_err(|error| Error::Corrupt { detail: format!("it cannot be sent: {error}") })?;
        bounds.check(head.len(), tail.iter().map(Bytes::len).sum())?;
        Ok(Self { head, tail })
    }

    /// Writes it whole.
    pub(super) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
        let tail: usize = self.tail.iter().map(Bytes::len).sum();
        let mut head = Vec::with_capacity(8 + self.head.len());
        for length in [self.head.len(), tail] {
            head.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        }
        head.extend_from_slice(&self.head);
        to.write_all(&head).await.map_err(broken)?;
        for bytes in &self.tail {
            to.write_all(bytes).await.map_err(broken)?;
        }
        Ok(())
    }
}

/// Reads one message whole.
///
/// # Errors
/// [`Error::Unreachable`] when the other side ends before, [`Error::Corrupt`] for what no version of this says,
/// [`Error::Unsafe`] for another version.
pub(super) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    bounds: Bounds,
) -> Result<(T, Bytes)> {
    let [head, tail] = [from.read_u32_le().await.map_err(broken)?, from.read_u32_le().await.map_err(broken)?];
    let (head, tail) = (head as usize, tail as usize);
    bounds.check(head, tail)?;
    let head = read_exactly(from, head).await?;
    let body = understand(&head)?;
    Ok((body, read_exactly(from, tail).await?.into()))
}

/// Memory is taken as bytes come, not as a length promises them.
async fn read_exactly(from: &mut (impl AsyncRead + Unpin), length: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(length as u64).read_to_end(&mut bytes).await.map_err(broken)?;
    if bytes.len() < length { Err(broken(std::io::ErrorKind::UnexpectedEof.into())) } else { Ok(bytes) }
}

fn understand<T: DeserializeOwned>(head: &[u8]) -> Result<T> {
    let strange = |error: serde_json::Error| Error::Corrupt { detail: format!("on the socket: {error}") };
    let Received { version, body } = serde_json::from_slice(head).map_err(strange)?;
    if version != VERSION {
        return Err(Error::Unsafe {
            advice: format!(
                "the process that has the buffer and this command are different versions of systole (one speaks {version} on \
                 the socket, the other {VERSION}): use the same binary for both"
            ),
        });
    }
    serde_json::from_str(body.map_or("null", RawValue::get)).map_err(strange)
}

fn broken(error: std::io::Error) -> Error {
    Error::Unreachable { reason: format!("the socket's other side is gone: {error}") }
}

impl Bounds {
    fn check(self, head_bytes: usize, tail_bytes: usize) -> Result<()> {
        if head_bytes <= self.head_bytes && tail_bytes <= self.tail_bytes {
            return Ok(());
        }
        let detail = format!("a message of {head_bytes} and {tail_bytes} bytes is too large for the socket");
        Err(Error::Corrupt { detail })
    }
}

impl Answer {
    pub(super) fn durability(found: Durability) -> Self {
        Self::Durability { level: found.level.to_owned(), window: found.window, wait_replicas: found.wait_replicas }
    }

    /// Letters, and the tail that goes with them.
    pub(super) fn letters(letters: impl IntoIterator<Item = DeadLetter>) -> (Self, Vec<Bytes>) {
        let split = letters.into_iter().map(|letter| {
            let DeadLetter { id, claim, since, rows, reason, bytes } = letter;
            (Heading { id, claim, since, rows, reason, bytes: bytes.len() }, bytes)
        });
        let (headings, frames) = split.unzip();
        (Self::DeadLetters(headings), frames)
    }
}

impl Answer {
    /// Tokens, and the tail that goes with them.
    pub(super) fn tokens(list: TokenList) -> (Self, Vec<Bytes>) {
        let split = list.tokens.into_iter().map(|StoredToken { id, text }| {
            let text = Bytes::from(text);
            (Label { id, bytes: text.len() }, text)
        });
        let (tokens, records) = split.unzip();
        (Self::Tokens { version: list.version, tokens }, records)
    }
}

impl Answer {
    /// Frames, and the tail that they are.
    pub(super) fn frames(page: FramePage) -> (Self, Vec<Bytes>) {
        let FramePage { frames, next } = page;
        (Self::Frames { bytes: frames.iter().map(Bytes::len).collect(), next }, frames)
    }
}

/// Cuts the tail into frames again.
pub(super) fn join_frames(lengths: Vec<usize>, mut tail: Bytes) -> Result<Vec<Bytes>> {
    let torn = || Error::Corrupt { detail: "on the socket: frames that do not match their lengths".into() };
    let mut frames = Vec::with_capacity(lengths.len());
    for length in lengths {
        if length > tail.len() {
            return Err(torn());
        }
        frames.push(tail.split_to(length));
    }
    if tail.is_empty() { Ok(frames) } else { Err(torn()) }
}

/// Puts labels and tail together again.
pub(super) fn join_tokens(labels: Vec<Label>, mut tail: Bytes) -> Result<Vec<StoredToken>> {
    let torn = || Error::Corrupt { detail: "on the socket: records that do not match their tokens".into() };
    let mut tokens = Vec::with_capacity(labels.len());
    for Label { id, bytes } in labels {
        if bytes > tail.len() {
            return Err(torn());
        }
        let text = String::from_utf8(tail.split_to(bytes).into()).map_err(|_| torn())?;
        tokens.push(StoredToken { id, text });
    }
    if tail.is_empty() { Ok(tokens) } else { Err(torn()) }
}

/// Puts headings and tail together again.
pub(super) fn join(headings: Vec<Heading>, mut tail: Bytes) -> Result<Vec<DeadLetter>> {
    let torn = || Error::Corrupt { detail: "on the socket: frames that do not match their headings".into() };
    let mut letters = Vec::with_capacity(headings.len());
    for Heading { id, claim, since, rows, reason, bytes } in headings {
        if bytes > tail.len() {
            return Err(torn());
        }
        letters.push(DeadLetter { id, claim, since, rows, reason, bytes: tail.split_to(bytes) });
    }
    if tail.is_empty() { Ok(letters) } else { Err(torn()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::super::{Ledger, StandingClaim};
    use super::*;
    use crate::heartbeat::{BatcherId, DatasetId};

    const LETTER: &str = "00000000-0000-0000-0000-00000000000a";

    fn letter(bytes: &'static [u8]) -> DeadLetter {
        let (id, claim) = (LETTER.parse().unwrap(), ClaimId::from_u128(0xc));
        DeadLetter { id, claim, since: -1, rows: 3, reason: "a \"reason\"".into(), bytes: Bytes::from_static(bytes) }
    }

    fn token(text: &str) -> StoredToken {
        StoredToken { id: TokenId::from_bytes([0, 0, 0, 0, 0, 7]), text: text.into() }
    }

    fn device() -> SeenDevice {
        SeenDevice { last_seen: 5, user_id: "u".into(), device_id: "d".into() }
    }

    async fn through<T: DeserializeOwned>(message: &Message, bounds: Bounds) -> Result<(T, Bytes)> {
        let mut written = Vec::new();
        message.write(&mut written).await.unwrap();
        read(&mut written.as_slice(), bounds).await
    }

    /// Holds the text of a body, and that it comes out as it went in.
    async fn holds<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(body: T, text: &str) {
        let message = Message::new(&body, Vec::new(), ANSWER).unwrap();
        assert_eq!(std::str::from_utf8(&message.head).unwrap(), format!(r#"{{"version":4,"body":{text}}}"#));
        assert_eq!(through::<T>(&message, ANSWER).await.unwrap().0, body);
    }

    /// Where this fails, the format has changed: raise the version, then mend the text.
    #[tokio::test]
    async fn what_is_said_has_the_text_of_its_version() {
        let id = LETTER.parse().unwrap();
        for (call, text) in [
            (Call::Durability, r#""durability""#),
            (Call::Ping, r#""ping""#),
            (Call::Registration, r#""registration""#),
            (Call::Status { partition: 7 }, r#"{"status":{"partition":7}}"#),
            (Call::Batchers, r#""batchers""#),
            (
                Call::DeadLetters { partition: 7, after: None, limit: 9 },
                r#"{"dead_letters":{"partition":7,"after":null,"limit":9}}"#,
            ),
            (
                Call::DeadLetters { partition: 7, after: Some(id), limit: 9 },
                r#"{"dead_letters":{"partition":7,"after":"00000000-0000-0000-0000-00000000000a","limit":9}}"#,
            ),
            (
                Call::NewestDeadLetters { partition: 7, limit: 9 },
                r#"{"newest_dead_letters":{"partition":7,"limit":9}}"#,
            ),
            (
                Call::DeadLetter { partition: 7, id },
                r#"{"dead_letter":{"partition":7,"id":"00000000-0000-0000-0000-00000000000a"}}"#,
            ),
            (
                Call::RetryDeadLetter { partition: 7, id },
                r#"{"retry_dead_letter":{"partition":7,"id":"00000000-0000-0000-0000-00000000000a"}}"#,
            ),
            (
                Call::DropDeadLetter { partition: 7, id },
                r#"{"drop_dead_letter":{"partition":7,"id":"00000000-0000-0000-0000-00000000000a"}}"#,
            ),
            (Call::Tokens { known: None }, r#"{"tokens":{"known":null}}"#),
            (
                Call::Tokens { known: Some(TokenVersion::from_u128(0xe)) },
                r#"{"tokens":{"known":"00000000-0000-0000-0000-00000000000e"}}"#,
            ),
            (Call::CreateToken(token("{}")), r#"{"create_token":{"id":"000000000007","text":"{}"}}"#),
            (
                Call::DevicesOf { partition: 7, user_id: "u".into(), after: None, limit: 9 },
                r#"{"devices_of":{"partition":7,"user_id":"u","after":null,"limit":9}}"#,
            ),
            (
                Call::DevicesUnseen { partition: 7, before: -1, after: Some(device()), limit: 9 },
                concat!(
                    r#"{"devices_unseen":{"partition":7,"before":-1,"#,
                    r#""after":{"last_seen":5,"user_id":"u","device_id":"d"},"limit":9}}"#
                ),
            ),
            (Call::RevokeToken { id: token("").id }, r#"{"revoke_token":{"id":"000000000007"}}"#),
            (Call::Frames { partition: 7, from: None }, r#"{"frames":{"partition":7,"from":null}}"#),
            (
                Call::Frames { partition: 7, from: Some(FrameMark { list: 1, at: 2, end: 3 }) },
                r#"{"frames":{"partition":7,"from":{"list":1,"at":2,"end":3}}}"#,
            ),
        ] {
            holds(call, text).await;
        }
        let status = PartitionStatus {
            partition: 7,
            ledger: Ledger { accepted: u64::MAX, pending: 2, claimed: 3, acked: 4, dead: 5, dropped: 6, bytes: 7 },
            oldest_pending: Some(Duration::from_millis(1_500)),
            owner: Some(BatcherId::from_u128(0xb)),
            claim: Some(StandingClaim { id: ClaimId::from_u128(0xc), rows: 3, age: Duration::from_secs(1), deaths: 2 }),
            cap_rows: 8,
            cap_bytes: 9,
            devices: 10,
            devices_forgotten: 11,
            vanished: 12,
        };
        let registration = Registration { dataset: DatasetId::from_u128(0xd), partitions: 4 };
        for (answer, text) in [
            (
                Answer::Durability { level: "always".into(), window: "none".into(), wait_replicas: 1 },
                r#"{"durability":{"level":"always","window":"none","wait_replicas":1}}"#,
            ),
            (Answer::Reached, r#""reached""#),
            (Answer::Devices(vec![device()]), r#"{"devices":[{"last_seen":5,"user_id":"u","device_id":"d"}]}"#),
            (Answer::Registration(None), r#"{"registration":null}"#),
            (
                Answer::Registration(Some(registration)),
                r#"{"registration":{"dataset":"00000000-0000-0000-0000-00000000000d","partitions":4}}"#,
            ),
            (
                Answer::Status(status),
                concat!(
                    r#"{"status":{"partition":7,"ledger":{"accepted":18446744073709551615,"pending":2,"claimed":3,"#,
                    r#""acked":4,"dead":5,"dropped":6,"bytes":7},"oldest_pending":{"secs":1,"nanos":500000000},"#,
                    r#""owner":"00000000-0000-0000-0000-00000000000b","claim":{"id":"00000000-0000-0000-0000-00000000000c","#,
                    r#""rows":3,"age":{"secs":1,"nanos":0},"deaths":2},"cap_rows":8,"cap_bytes":9,"devices":10,"devices_forgotten":11,"vanished":12}}"#
                ),
            ),
            (
                Answer::Batchers(vec![(BatcherId::from_u128(0xb), Duration::from_secs(2))]),
                r#"{"batchers":[["00000000-0000-0000-0000-00000000000b",{"secs":2,"nanos":0}]]}"#,
            ),
            (
                Answer::letters([letter(b"abc")]).0,
                concat!(
                    r#"{"dead_letters":[{"id":"00000000-0000-0000-0000-00000000000a","#,
                    r#""claim":"00000000-0000-0000-0000-00000000000c","since":-1,"rows":3,"reason":"a \"reason\"","bytes":3}]}"#
                ),
            ),
            (
                Answer::tokens(TokenList { version: Some(TokenVersion::from_u128(0xe)), tokens: vec![token("{}")] }).0,
                concat!(
                    r#"{"tokens":{"version":"00000000-0000-0000-0000-00000000000e","#,
                    r#""tokens":[{"id":"000000000007","bytes":2}]}}"#
                ),
            ),
            (Answer::SameTokens, r#""same_tokens""#),
            (Answer::Settled(true), r#"{"settled":true}"#),
            (
                Answer::frames(FramePage { frames: vec![Bytes::from_static(b"abc")], next: None }).0,
                r#"{"frames":{"bytes":[3],"next":null}}"#,
            ),
        ] {
            holds(Ok::<_, Error>(answer), &format!(r#"{{"Ok":{text}}}"#)).await;
        }
    }

    #[tokio::test]
    async fn errors_cross_as_themselves() {
        let text = || "why".to_owned();
        for (error, wire) in [
            (Error::Full { partition: 7 }, r#"{"full":{"partition":7}}"#),
            (Error::TooLarge { partition: 7 }, r#"{"too_large":{"partition":7}}"#),
            (
                Error::TimedOut { after: Duration::from_millis(1) },
                r#"{"timed_out":{"after":{"secs":0,"nanos":1000000}}}"#,
            ),
            (Error::Unreachable { reason: text() }, r#"{"unreachable":{"reason":"why"}}"#),
            (Error::Refused { reason: text() }, r#"{"refused":{"reason":"why"}}"#),
            (Error::TooFewReplicas { have: 1, want: 2 }, r#"{"too_few_replicas":{"have":1,"want":2}}"#),
            (Error::NotRegistered, r#""not_registered""#),
            (
                Error::ForeignDataset { expected: DatasetId::from_u128(0xd), found: text() },
                r#"{"foreign_dataset":{"expected":"00000000-0000-0000-0000-00000000000d","found":"why"}}"#,
            ),
            (Error::Fenced { partition: 7 }, r#"{"fenced":{"partition":7}}"#),
            (Error::NotStanding, r#""not_standing""#),
            (Error::BeingMoved, r#""being_moved""#),
            (Error::Corrupt { detail: text() }, r#"{"corrupt":{"detail":"why"}}"#),
            (Error::Unsafe { advice: text() }, r#"{"unsafe":{"advice":"why"}}"#),
        ] {
            holds(Err::<Answer, _>(error), &format!(r#"{{"Err":{wire}}}"#)).await;
        }
    }

    #[tokio::test]
    async fn another_version_is_named_whatever_else_it_says() {
        for head in [&br#"{"version":1}"#[..], br#"{"body":{"unheard":[]},"version":9,"more":1}"#] {
            let message = Message { head: head.to_vec(), tail: vec![Bytes::from_static(b"and a tail")] };
            let error = through::<Call>(&message, ANSWER).await.unwrap_err();
            assert!(matches!(&error, Error::Unsafe { advice } if advice.contains("different versions")), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_neither_sent_nor_read() {
        let small = Bounds { head_bytes: 40, tail_bytes: 4 };
        let tail = |length: usize| vec![Bytes::from(vec![0; length])];
        assert!(Message::new(&"x", tail(4), small).is_ok());
        assert!(matches!(Message::new(&"x", tail(5), small), Err(Error::Corrupt { .. })));
        assert!(matches!(Message::new(&"x".repeat(40), tail(0), small), Err(Error::Corrupt { .. })));
        for lengths in [[41, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 5, 0, 0, 0], [255; 8]] {
            assert!(matches!(read::<Call>(&mut &lengths[..], small).await, Err(Error::Corrupt { .. })), "{lengths:?}");
        }
    }

    #[tokio::test]
    async fn every_cut_of_a_message_is_an_end_before_the_end() {
        let (answer, tail) = Answer::letters([letter(b"abc"), letter(b""), letter(b"defg")]);
        let message = Message::new(&answer, tail, ANSWER).unwrap();
        let mut written = Vec::new();
        message.write(&mut written).await.unwrap();
        for cut in 0..written.len() {
            let read = read::<Answer>(&mut &written[..cut], ANSWER).await;
            assert!(matches!(read, Err(Error::Unreachable { .. })), "{cut}");
        }
        let (Answer::DeadLetters(headings), tail) = read(&mut &written[..], ANSWER).await.unwrap() else { panic!() };
        assert_eq!(join(headings.clone(), tail.clone()).unwrap(), [letter(b"abc"), letter(b""), letter(b"defg")]);
        assert!(matches!(join(headings[..2].to_vec(), tail.clone()), Err(Error::Corrupt { .. })), "too long a tail");
        assert!(matches!(join(headings, tail.slice(1..)), Err(Error::Corrupt { .. })), "too short a tail");
    }

    #[tokio::test]
    async fn the_largest_record_fits_a_call_and_records_come_apart_as_they_went_together() {
        let widest = token(&"\"".repeat(crate::token::MAX_RECORD_BYTES));
        let message = Message::new(&Call::CreateToken(widest.clone()), Vec::new(), CALL).unwrap();
        assert_eq!(through::<Call>(&message, CALL).await.unwrap().0, Call::CreateToken(widest));
        let all = vec![token("one"), token(""), token("zwölf")];
        let (answer, tail) = Answer::tokens(TokenList { version: None, tokens: all.clone() });
        let message = Message::new(&answer, tail, ANSWER).unwrap();
        let (Answer::Tokens { tokens, .. }, tail) = through(&message, ANSWER).await.unwrap() else { panic!() };
        assert_eq!(join_tokens(tokens.clone(), tail.clone()).unwrap(), all);
        assert!(join_tokens(tokens[..2].to_vec(), tail.clone()).is_err(), "too long a tail");
        assert!(join_tokens(tokens, tail.slice(1..)).is_err(), "too short a tail");
    }

    #[test]
    fn frames_come_apart_as_they_went_together() {
        let frames = ["abc", "", "defg"].map(|text| Bytes::from_static(text.as_bytes())).to_vec();
        let (answer, tail) = Answer::frames(FramePage { frames: frames.clone(), next: None });
        let (Answer::Frames { bytes, .. }, tail) = (answer, Bytes::from(tail.concat())) else { panic!() };
        assert_eq!(join_frames(bytes.clone(), tail.clone()).unwrap(), frames);
        assert!(join_frames(bytes[..2].to_vec(), tail.clone()).is_err(), "too long a tail");
        assert!(join_frames(bytes, tail.slice(1..)).is_err(), "too short a tail");
    }

    proptest! {
        #[test]
        fn nonsense_is_an_error_and_no_panic(bytes: Vec<u8>) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert!(runtime.block_on(read::<Call>(&mut &bytes[..], CALL)).is_err());
            prop_assert!(understand::<Call>(&bytes).is_err());
        }
    }
}
