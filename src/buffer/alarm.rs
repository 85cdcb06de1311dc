//! The words of what is kept of silence: who watches, which devices are raised, which events are still to be delivered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, Result};
use crate::heartbeat::uuid_id;

/// Devices that can be raised at the same time, over all rules; beyond, no further one is.
pub const MAX_RAISED: u64 = 100_000;
/// Events that wait to be delivered; beyond, the oldest are dropped.
pub const MAX_QUEUED: u64 = 10_000;
/// Changes of one [`mark`](super::Alarms::mark): some 100 KiB, and a millisecond or two of the buffer's time.
pub const MAX_CHANGES: usize = 200;

uuid_id!(
    /// One process that may watch.
    WatcherId
);
uuid_id!(
    /// One event. Who gets it twice knows it by this.
    EventId
);

/// The answer to asking for the watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// It is yours.
    Taken {
        /// The buffer's clock, ms since the Unix epoch.
        now: i64,
        /// Whether it was not yours, or had run out.
        began: bool,
        /// When the last look came to its end, whoever looked: ms since the Unix epoch, about.
        looked: Option<i64>,
        /// Devices that are raised, over all rules.
        raised: u64,
        /// Events that wait to be delivered.
        queued: u64,
    },
    /// Another process has it for about this long still.
    Held {
        /// The buffer's clock, ms since the Unix epoch.
        now: i64,
        /// Time until it runs out unless it is renewed.
        expires_in: Duration,
    },
}

impl Watch {
    /// The buffer's clock, whoever watches: ms since the Unix epoch.
    pub fn now(self) -> i64 {
        let (Self::Taken { now, .. } | Self::Held { now, .. }) = self;
        now
    }
}

/// A device that is silent by a rule, and whose event was raised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Raised {
    /// The rule's name. No control characters.
    pub rule: String,
    /// The device's user.
    pub user_id: String,
    /// The device.
    pub device_id: String,
    /// The event that said so.
    pub id: EventId,
    /// When the device was last seen, ms since the Unix epoch.
    pub last_seen: i64,
    /// When it was raised, ms since the Unix epoch.
    pub raised_at: i64,
}

impl Raised {
    /// What there is one of at most. Neither a rule's name nor ids hold control characters, so it is read back as it was.
    pub(super) fn key(&self) -> String {
        format!("{}\n{}\n{}", self.rule, self.user_id, self.device_id)
    }

    /// What is kept under the key.
    pub(super) fn value(&self) -> String {
        format!("{} {} {}", self.id, self.last_seen, self.raised_at)
    }

    /// Both again.
    pub(super) fn read(key: &str, value: &str) -> Result<Self> {
        let read = || {
            let (rule, device) = key.split_once('\n')?;
            let (user_id, device_id) = device.split_once('\n')?;
            let mut words = value.split(' ');
            let (id, last_seen, raised_at) = (words.next()?, words.next()?, words.next()?);
            let whole = words.next().is_none() && !device_id.contains('\n');
            whole.then_some(Self {
                rule: rule.to_owned(),
                user_id: user_id.to_owned(),
                device_id: device_id.to_owned(),
                id: id.parse().ok()?,
                last_seen: last_seen.parse().ok()?,
                raised_at: raised_at.parse().ok()?,
            })
        };
        read().ok_or_else(|| Error::Corrupt { detail: "a raised device that cannot be read".into() })
    }
}

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A device has fallen silent.
    #[serde(rename = "device.silent")]
    Silent,
    /// It beats again.
    #[serde(rename = "device.beating")]
    Beating,
}

/// An event, as it is kept and as it is delivered. The names are what receivers rely on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What it says.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// Its id.
    pub id: EventId,
    /// The rule's name.
    pub rule: String,
    /// The device's user.
    pub user_id: String,
    /// The device.
    pub device_id: String,
    /// When the device was last seen, ms since the Unix epoch.
    pub last_seen: i64,
    /// When its silence was raised, ms since the Unix epoch.
    pub raised_at: i64,
    /// The event that raised the silence which ends with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<EventId>,
    /// When the silence was seen to have ended, ms since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared_at: Option<i64>,
}

impl Event {
    /// That a device was raised.
    pub fn silent(raised: &Raised) -> Self {
        let Raised { rule, user_id, device_id, id, last_seen, raised_at } = raised.clone();
        let (ends, cleared_at) = (None, None);
        Self { kind: EventKind::Silent, id, rule, user_id, device_id, last_seen, raised_at, ends, cleared_at }
    }

    /// That it beats again.
    pub fn beating(raised: &Raised, id: EventId, last_seen: i64, cleared_at: i64) -> Self {
        let (ends, cleared_at) = (Some(raised.id), Some(cleared_at));
        Self { kind: EventKind::Beating, id, last_seen, ends, cleared_at, ..Self::silent(raised) }
    }

    /// When it came about, ms since the Unix epoch.
    pub fn at(&self) -> i64 {
        self.cleared_at.unwrap_or(self.raised_at)
    }

    /// As it is kept and delivered.
    ///
    /// # Errors
    /// [`Error::Corrupt`], never in practice: it has a form in JSON whatever it holds.
    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Corrupt { detail: format!("an event of no form: {error}") })
    }

    pub(super) fn read(text: &[u8]) -> Result<Self> {
        serde_json::from_slice(text)
            .map_err(|error| Error::Corrupt { detail: format!("an event that cannot be read: {error}") })
    }
}

/// An event that waits to be delivered, under its number in the outbox: the next has a higher one, for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The number.
    pub number: u64,
    /// The event.
    pub event: Event,
}

/// One change of what is raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A device is silent; [`Event::silent`] of it goes into the outbox.
    Raise(Raised),
    /// It beats again; this event of it goes into the outbox.
    Clear(Raised, Event),
    /// It is not raised any more, and nobody is told.
    Forget(Raised),
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// It was made, its event is in the outbox.
    Done,
    /// Nothing was to be changed: the device was raised already, or not raised in this way.
    Stood,
    /// As many are raised as may be.
    Full,
}

/// What became of all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// In the order of the changes.
    pub marked: Vec<Marked>,
    /// Undelivered events that had to give way.
    pub dropped: u64,
    /// The lowest number in the outbox.
    pub oldest: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised() -> Raised {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let (rule, user_id, device_id) = ("fleet".to_owned(), "ada l".to_owned(), "gerät".to_owned());
        Raised { rule, user_id, device_id, id, last_seen: 1_700_000_000_000, raised_at: 1_700_000_300_001 }
    }

    #[test]
    fn what_is_raised_is_read_back_as_it_was() {
        assert_eq!(Raised::read(&raised().key(), &raised().value()), Ok(raised()));
        for (key, value) in [("", ""), ("a\nb", "x 1 2"), ("a\nb\nc", "x 1 2"), ("a\nb\nc\nd", &raised().value())] {
            assert!(Raised::read(key, value).is_err(), "{key:?} {value:?}");
        }
    }

    #[test]
    fn receivers_find_what_they_were_told_to_look_for() {
        let silent = Event::silent(&raised());
        assert_eq!(
            silent.text().unwrap(),
            r#"{"type":"device.silent","id":"01890a5d-ac96-774b-bcce-b302099a8057","rule":"fleet","user_id":"ada l","device_id":"gerät","last_seen":1700000000000,"raised_at":1700000300001}"#
        );
        let beating = Event::beating(&raised(), EventId::new(), 1_700_000_400_000, 1_700_000_400_100);
        let text = beating.text().unwrap();
        assert!(text.ends_with(
            r#""last_seen":1700000400000,"raised_at":1700000300001,"ends":"01890a5d-ac96-774b-bcce-b302099a8057","cleared_at":1700000400100}"#
        ), "{text}");
        assert_ne!(beating.id, silent.id);
        assert_eq!((silent.at(), beating.at()), (1_700_000_300_001, 1_700_000_400_100));
        assert_eq!(Event::read(text.as_bytes()), Ok(beating));
    }
}
