//! One unbroken watch: what is kept in memory from look to look. It ends with the first look that fails, and the next one
//! begins with what the buffer holds.
//!
//! Since one process alone changes what is raised, what it has in memory is what the buffer holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use super::Rules;
use super::lines::Lines;
use super::policy::{Due, is_news, is_silent};
use super::skew::Clocks;
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
    /// As they were found at this look.
    pub(super) clocks: Clocks,
    /// The last look at which they were apart, or had been at the one before: until then devices were seen by a wrong clock.
    doubted: Option<i64>,
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
            Some(mut broken) => {
                broken.resume(now);
                broken.groups
            }
            None => groups,
        };
        Self {
            partitions,
            began: now,
            looked: now,
            ended: last.unwrap_or(now),
            looked_at: Instant::now(),
            clocks: Clocks::new(rules.shortest_after_ms()),
            doubted: None,
            renewed_at: Instant::now(),
            since,
            groups,
            raised: BTreeMap::new(),
            count: 0,
            lines: Lines::default(),
            last_number: None,
        }
    }

    /// Looks on after so long a pause that devices may have passed the windows unseen.
    pub(super) fn resume(&mut self, now: i64) {
        let ended = self.ended;
        self.dues().for_each(|due| due.resume(ended, now));
    }

    fn dues(&mut self) -> impl Iterator<Item = &mut Due> {
        self.groups.iter_mut().flat_map(|group| &mut group.due)
    }

    /// Says how the clocks stand at this look.
    pub(super) fn compare(&mut self, clocks: Clocks) {
        let before = std::mem::replace(&mut self.clocks, clocks);
        if before.are_apart() || clocks.are_apart() {
            self.doubted = Some(self.looked);
        }
    }

    /// The buffer's clock as it is by now, about.
    pub(super) fn now(&self) -> i64 {
        let since = i64::try_from(self.looked_at.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.looked.saturating_add(since)
    }

    /// Ends a look. `waiting` are those for which there was no room.
    pub(super) fn end_look(&mut self, waiting: &[Raised]) {
        let waiting: HashSet<_> = waiting.iter().map(|one| (one.user_id.as_str(), one.device_id.as_str())).collect();
        self.dues().for_each(|due| due.end_look(&waiting));
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

    /// Judges what a group has seen of a partition: what is to be raised. `shut` is when the door was last shut, to all and to
    /// users.
    pub(super) fn silent(
        &mut self,
        group: usize,
        partition: Partition,
        rules: &Rules,
        shut: &Shut<'_>,
        room: bool,
    ) -> Vec<Raised> {
        let now = self.looked;
        let open_since = [shut.to_all, self.doubted].into_iter().flatten().fold(self.began, i64::max);
        let Some(group) = self.groups.get_mut(group) else { return Vec::new() };
        let Some(due) = group.due.get_mut(usize::from(partition)) else { return Vec::new() };
        let known = self.raised.entry(partition).or_default();
        let mut found = Vec::new();
        for SeenDevice { last_seen, user_id, device_id } in due.judge(now, open_since, shut.to_users, room) {
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

    /// The event that ends a silence, if the device beats again. That it is not silent any more by a longer `after`, or by a
    /// clock that was set back, is no beat.
    pub(super) fn ended(&self, raised: &Raised, rules: &Rules, last_seen: i64) -> Option<Event> {
        let rule = rules.rules.get(rules.find(&raised.rule)?)?;
        let beats = last_seen > raised.last_seen && !is_silent(last_seen, rule.after_ms(), self.looked);
        beats.then(|| Event::beating(raised, EventId::new(), last_seen, self.looked))
    }
}

#[cfg(test)]
mod tests {
    use super::super::skew::Skew;
    use super::super::{Options, Rule};
    use super::*;

    const BEHIND: i64 = 12_000;

    fn rules() -> Rules {
        let file = "[[silence]]\nmatch = \"*\"\nafter = \"15s\"\nwebhook = \"http://localhost/\"\n";
        let mut table: toml::Table = toml::from_str(file).unwrap();
        let rules = Rule::read_all(table.remove("silence").unwrap()).unwrap();
        Rules::open(rules, &Options::default(), &crate::buffer::options::Options::default()).unwrap()
    }

    /// When it is told that a device is silent, in seconds: it beats every six until second 120, and is seen by a clock that goes
    /// behind from second 20 to second 70.
    fn told(measured: impl Fn(i64) -> Skew) -> Vec<i64> {
        let rules = rules();
        let mut session = Session::begin(&rules, vec![0], 1, 0, Some(0), None);
        let mut clocks = Clocks::new(rules.shortest_after_ms());
        let mut told = Vec::new();
        for now in (0..200_000).step_by(5_000) {
            let beats = (0..=now.min(120_000)).step_by(6_000);
            let seen = beats.map(|beat| beat - behind(beat)).max().unwrap_or(0);
            session.looked = now;
            clocks.compare(measured(now));
            session.compare(clocks);
            let (from, before) = session.window(0, 0).unwrap();
            let device = SeenDevice { last_seen: seen, user_id: "ada".into(), device_id: "pump".into() };
            let devices = if (from..before).contains(&seen) { vec![device] } else { Vec::new() };
            session.see(0, 0, &rules, &devices);
            for raised in session.silent(0, 0, &rules, &Shut { to_all: None, to_users: &BTreeMap::new() }, true) {
                told.push(now / 1_000);
                session.raise(raised);
            }
            session.end_look(&[]);
        }
        told
    }

    fn behind(at: i64) -> i64 {
        if (20_000..70_000).contains(&at) { BEHIND } else { 0 }
    }

    #[test]
    fn only_a_beat_ends_a_silence() {
        let rules = rules();
        let mut session = Session::begin(&rules, vec![0], 1, 0, Some(0), None);
        let (rule, user_id, device_id) = (rules.rules[0].name.clone(), "ada".into(), "pump".into());
        let raised = Raised { rule, user_id, device_id, id: EventId::new(), last_seen: 60_000, raised_at: 80_000 };
        // The last one: the clock was set back, or the rule bears more than it did.
        for (looked, last_seen, ends) in
            [(90_000, 60_000, false), (90_000, 74_999, false), (90_000, 75_000, true), (70_000, 60_000, false)]
        {
            session.looked = looked;
            assert_eq!(session.ended(&raised, &rules, last_seen).is_some(), ends, "{looked} {last_seen}");
        }
    }

    #[test]
    fn time_in_which_the_clocks_were_apart_counts_for_nobody() {
        let agree = |now| Skew::between(now, now, now);
        let measured = |now| Skew::between(now - behind(now), now, now - behind(now));
        assert_eq!(told(agree).first(), Some(&35), "a wrong clock that nobody looks at tells something false");
        assert_eq!(told(measured), [140]);
    }
}
