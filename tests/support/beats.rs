//! Heartbeats to send: each with an identity of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// What makes two heartbeats the same one, in the harness's own words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub user_id: String,
    pub device_id: String,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    pub id: Option<String>,
}

/// One heartbeat as a client would send it.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    pub identity: Identity,
    pub attributes: Option<Value>,
}

impl Beat {
    /// A heartbeat of now without `id` and attributes.
    pub fn of(user: &str, device: &str) -> Self {
        Self::at(user, device, now_ms())
    }

    /// A heartbeat of this instant (ms since the Unix epoch).
    pub fn at(user: &str, device: &str, timestamp: i64) -> Self {
        let identity = Identity { user_id: user.into(), device_id: device.into(), timestamp, id: None };
        Self { identity, attributes: None }
    }

    /// The same with an idempotency key.
    pub fn id(mut self, id: &str) -> Self {
        self.identity.id = Some(id.into());
        self
    }

    /// The same with attributes.
    pub fn attributes(mut self, attributes: Value) -> Self {
        self.attributes = Some(attributes);
        self
    }

    /// The record as JSON.
    pub fn json(&self) -> Value {
        let Identity { user_id, device_id, timestamp, id } = &self.identity;
        let mut record = json!({ "user_id": user_id, "device_id": device_id, "timestamp": timestamp });
        if let Some(id) = id {
            record["id"] = json!(id);
        }
        if let Some(attributes) = &self.attributes {
            record["attributes"] = attributes.clone();
        }
        record
    }
}

/// A source of heartbeats, no two with the same identity; may be shared by threads.
#[derive(Debug)]
pub struct Beats {
    prefix: String,
    users: u64,
    devices: u64,
    base: i64,
    in_order: bool,
    next: AtomicU64,
}

impl Beats {
    /// Of so many users with so many devices each. All of one day, so that they meet in few buckets; a day that is not
    /// over before the test is, because the compactor treats past days in another way. The door must allow for it
    /// (`max-clock-skew`).
    pub fn new(users: u64, devices: u64) -> Self {
        Self::days_ago(users, devices, -2)
    }

    /// Of a whole day in the past: 1 is yesterday, 29 about the oldest that the door takes.
    pub fn days_ago(users: u64, devices: u64, days: i64) -> Self {
        let base = (now_ms() / DAY_MS - days + 1) * DAY_MS - 1;
        Self { prefix: "user".into(), users, devices, base, in_order: false, next: AtomicU64::new(0) }
    }

    /// The same with times that go on by a second each, as those of devices that are online do.
    pub fn in_order(self) -> Self {
        Self { in_order: true, ..self }
    }

    /// The same of users whose names begin with `prefix`, and so of none that another source has.
    pub fn named(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// The next one. Every third has an `id`, every second has attributes.
    pub fn next(&self) -> Beat {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let user = format!("{}-{}", self.prefix, n % self.users);
        let device = format!("device-{}", (n / self.users) % self.devices);
        // Times jump about the day, so that arrival order is not sort order.
        let second = if self.in_order { SECONDS - n as i64 % SECONDS } else { n as i64 * 7_919 % SECONDS };
        let moment = self.base - second * 1_000;
        let mut beat = Beat::at(&user, &device, moment);
        // Once the times repeat, a key of its own keeps the identity unique.
        if n.is_multiple_of(3) || n >= SECONDS as u64 {
            beat = beat.id(&format!("beat-{n}"));
        }
        if n.is_multiple_of(2) { beat.attributes(json!({ "n": n, "text": "é\u{1f980}\"quoted\"" })) } else { beat }
    }

    /// The next `count`.
    pub fn take(&self, count: usize) -> Vec<Beat> {
        (0..count).map(|_| self.next()).collect()
    }
}

const DAY_MS: i64 = 86_400_000;
/// A prime that is a little less than the seconds of a day: so many heartbeats have a moment of their own.
const SECONDS: i64 = 86_371;

/// Now, in milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}
