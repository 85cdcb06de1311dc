//! One unbroken watch: what is kept in memory from look to look. It ends with the first look that fails, and the next one
//! begins with what the buffer holds.
//!
//! Since one process alone changes what is raised, what it has in memory is what the buffer holds.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::Rules;
use super::lines::Lines;
use super::policy::{Due, is_news, is_silent};
use crate::buffer::{Event, EventId, Raised, SeenDevice};
use crate::heartbeat::{Partition, partition_of};

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) partitions: Partition,
    /// By the buffer's clock: when the watch began, and when the last look was.
    began: i64,
    pub(super) looked: i64,
    /// When the last look was that came to its end.
    ended: i64,
    /// When the last look was by this process's clock.
    pub(super) looked_at: Instant,
    /// When the watch was last gone on with.
    pub(super) renewed_at: Instant,
    /// Since when each rule is in force.
    since: Vec<i64>,
    groups: Vec<Group>,
    raised: BTreeMap<Partition, HashMap<Key, Raised>>,
    count: u64,
    pub(super) lines: Lines,
    /// The highest number of the outbox that is in the lines.
    pub(super) last_number: Option<u64>,
}

/// When the door was last shut, by the buffer's clock.
#[derive(Debug)]
pub(super) struct Shut<'a> {
    pub(super) to_all: Option<i64>,
    pub(super) to_users: &'a BTreeMap<String, i64>,
}

/// Rule, user, device.
type Key = (String, String, String);

/// The rules with one `after`, and what is known for it of each partition.
#[derive(Debug)]
struct Group {
    after: i64,
    rules: Vec<usize>,
    due: Vec<Due>,
}

fn key(raised: &Raised) -> Key {
    (raised.rule.clone(), raised.user_id.clone(), raised.device_id.clone())
}

impl Session {
    /// At the first look. `broken` is what this process had before; else `last` is when somebody looked before.
    pub(super) fn begin(
        rules: &Rules,
        since: Vec<i64>,
        partitions: Partition,
        now: i64,
        last: Option<i64>,
        broken: Option<Self>,
    ) -> Self {
        let horizon = i64::try_from(rules.options.gap().as_millis()).unwrap_or(i64::MAX);
        let mut by_after: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (at, rule) in rules.rules.iter().enumerate() {
            by_after.entry(rule.after_ms()).or_default().push(at);
        }
        let due = |after| (0..partitions).map(|_| Due::begin(after, horizon, now, last)).collect();
        let groups: Vec<Group> =
            by_after.into_iter().map(|(after, rules)| Group { after, rules, due: due(after) }).collect();
        let groups = match broken.filter(|broken| broken.partitions == partitions) {
            Some(broken) => broken.resume(),
            None => groups,
        };
        Self {
            partitions,
            began: now,
            looked: now,
            ended: last.unwrap_or(now),
            looked_at: Instant::now(),
            renewed_at: Instant::now(),
            since,
            groups,
            raised: BTreeMap::new(),
            count: 0,
            lines: Lines::default(),
            last_number: None,
        }
    }

    fn resume(mut self) -> Vec<Group> {
        let dues = self.groups.iter_mut().flat_map(|group| &mut group.due);
        dues.for_each(|due| due.resume(self.ended));
        self.groups
    }

    /// Ends a look.
    pub(super) fn end_look(&mut self) {
        self.ended = self.looked;
    }

    /// When the last look came to its end.
    pub(super) fn ended_at(&self) -> i64 {
        self.ended
    }

    /// How many are raised.
    pub(super) fn raised(&self) -> u64 {
        self.count
    }

    /// Those of a partition that are raised.
    pub(super) fn raised_of(&self, partition: Partition) -> Vec<Raised> {
        self.raised.get(&partition).into_iter().flat_map(HashMap::values).cloned().collect()
    }

    pub(super) fn raise(&mut self, raised: Raised) {
        let partition = partition_of(&raised.user_id, self.partitions);
        if self.raised.entry(partition).or_default().insert(key(&raised), raised).is_none() {
            self.count += 1;
        }
    }

    pub(super) fn lower(&mut self, raised: &Raised) {
        let partition = partition_of(&raised.user_id, self.partitions);
        if self.raised.get_mut(&partition).and_then(|of| of.remove(&key(raised))).is_some() {
            self.count -= 1;
        }
    }

    /// A time of this process's clock by the buffer's.
    pub(super) fn by_the_buffer(&self, at: Instant) -> i64 {
        let ago = self.looked_at.saturating_duration_since(at).as_millis();
        self.looked.saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
    }

    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Where a group looks for devices of a partition: behind the first, and before the second time.
    pub(super) fn window(&self, group: usize, partition: Partition) -> Option<(i64, i64)> {
        let due = self.groups.get(group)?.due.get(usize::from(partition))?;
        Some(due.window(self.looked))
    }

    /// Sees devices of that window.
    pub(super) fn see(&mut self, group: usize, partition: Partition, rules: &Rules, devices: &[SeenDevice]) {
        let now = self.looked;
        let Some(group) = self.groups.get_mut(group) else { return };
        let Some(due) = group.due.get_mut(usize::from(partition)) else { return };
        for device in devices {
            if group.rules.iter().any(|at| rules.rules.get(*at).is_some_and(|rule| rule.is_about(&device.user_id))) {
                due.see(device, now);
            }
        }
    }

    /// Ends a look of a group at a partition: what is to be raised. `shut` is when the door was last shut, to all and to users.
    pub(super) fn silent(
        &mut self,
        group: usize,
        partition: Partition,
        rules: &Rules,
        shut: &Shut<'_>,
        room: bool,
    ) -> Vec<Raised> {
        let (now, open_since) = (self.looked, self.began.max(shut.to_all.unwrap_or(self.began)));
        let Some(group) = self.groups.get_mut(group) else { return Vec::new() };
        let Some(due) = group.due.get_mut(usize::from(partition)) else { return Vec::new() };
        let known = self.raised.entry(partition).or_default();
        let mut found = Vec::new();
        for SeenDevice { last_seen, user_id, device_id } in due.end_look(now, open_since, shut.to_users, room) {
            let about = group.rules.iter().filter_map(|at| Some((rules.rules.get(*at)?, self.since.get(*at)?)));
            for (rule, since) in about.filter(|(rule, _)| rule.is_about(&user_id)) {
                let key = (rule.name.clone(), user_id.clone(), device_id.clone());
                if is_news(last_seen, group.after, *since) && !known.contains_key(&key) {
                    let (rule, user_id, device_id) = key;
                    found.push(Raised { rule, user_id, device_id, id: EventId::new(), last_seen, raised_at: now });
                }
            }
        }
        found
    }

    /// The event that ends a silence, if the device beats again.
    pub(super) fn ended(&self, raised: &Raised, rules: &Rules, last_seen: i64) -> Option<Event> {
        let rule = rules.rules.get(rules.find(&raised.rule)?)?;
        let silent = is_silent(last_seen, rule.after_ms(), self.looked);
        (!silent).then(|| Event::beating(raised, EventId::new(), last_seen, self.looked))
    }
}
