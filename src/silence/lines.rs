//! Which event is delivered next: pure, the time is given.
//!
//! Constraints:
//! - The events of a rule form a line; one of a line is under way at a time. A webhook that is dead holds up its own rule and
//!   no other, and is asked less and less often, once a minute in the end.
//! - The events of one device keep their order. One that its receiver refuses holds up its device alone.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::buffer::Queued;

/// The pause of a line after its first failure,
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// and its longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause of one event that is refused while others are taken.
const LONGEST_PAUSE_OF_ONE: Duration = Duration::from_secs(600);

/// The lines of all rules, by their names.
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<String, Line>);

#[derive(Debug)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// The number of the event that is under way.
    under_way: Option<u64>,
    pauses: Backoff,
    not_before: Instant,
    fault: Option<Fault>,
}

#[derive(Debug)]
struct Waiting {
    queued: Queued,
    pauses: Backoff,
    not_before: Instant,
}

/// Why nothing is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) since: Instant,
    pub(super) why: String,
}

impl Lines {
    /// Puts an event at the end of its rule's line.
    pub(super) fn push(&mut self, queued: Queued, now: Instant) {
        let line = self.0.entry(queued.event.rule.clone()).or_insert_with(|| Line {
            waiting: VecDeque::new(),
            under_way: None,
            pauses: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            not_before: now,
            fault: None,
        });
        let pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE_OF_ONE);
        line.waiting.push_back(Waiting { queued, pauses, not_before: now });
    }

    /// The next event that may be delivered now; it is under way from here on.
    pub(super) fn next(&mut self, now: Instant) -> Option<Queued> {
        self.0.values_mut().find_map(|line| line.next(now))
    }

    /// When there may be a next one, as long as nothing else happens.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let free = self.0.values().filter(|line| line.under_way.is_none());
        free.filter_map(|line| {
            let first = line.heads().map(|waiting| waiting.not_before).min()?;
            Some(first.max(line.not_before))
        })
        .min()
    }

    /// An event was delivered, or was not.
    pub(super) fn landed(&mut self, queued: &Queued, outcome: Result<(), String>, now: Instant) {
        let Some(line) = self.0.get_mut(&queued.event.rule) else { return };
        if line.under_way == Some(queued.number) {
            line.under_way = None;
        }
        match outcome {
            Ok(()) => line.succeeded(queued.number, now),
            Err(why) => line.failed(queued.number, why, now),
        }
    }

    /// Forgets an event without delivering it.
    pub(super) fn forget(&mut self, queued: &Queued) {
        if let Some(line) = self.0.get_mut(&queued.event.rule) {
            line.waiting.retain(|waiting| waiting.queued.number != queued.number);
            line.under_way = line.under_way.filter(|number| *number != queued.number);
        }
    }

    /// Forgets those with a lower number: they were dropped.
    pub(super) fn forget_below(&mut self, oldest: u64) {
        for line in self.0.values_mut() {
            line.waiting.retain(|waiting| waiting.queued.number >= oldest);
        }
    }

    /// The rules to whose webhooks nothing can be delivered.
    pub(super) fn faults(&self) -> impl Iterator<Item = (&str, &Fault)> {
        self.0.iter().filter_map(|(rule, line)| Some((rule.as_str(), line.fault.as_ref()?)))
    }

    pub(super) fn fault_of(&self, rule: &str) -> Option<&Fault> {
        self.0.get(rule)?.fault.as_ref()
    }
}

impl Line {
    /// The first event of each device.
    fn heads(&self) -> impl Iterator<Item = &Waiting> {
        let mut earlier = HashSet::new();
        self.waiting.iter().filter(move |waiting| {
            let event = &waiting.queued.event;
            earlier.insert((event.user_id.as_str(), event.device_id.as_str()))
        })
    }

    fn next(&mut self, now: Instant) -> Option<Queued> {
        if self.under_way.is_some() || self.not_before > now {
            return None;
        }
        // The longest due comes first: so the events take turns, and one that is never taken keeps no other waiting.
        let due = self.heads().filter(|waiting| waiting.not_before <= now);
        let queued = due.min_by_key(|waiting| (waiting.not_before, waiting.queued.number))?.queued.clone();
        self.under_way = Some(queued.number);
        Some(queued)
    }

    fn succeeded(&mut self, number: u64, now: Instant) {
        self.waiting.retain(|waiting| waiting.queued.number != number);
        self.pauses.reset();
        self.not_before = now;
        if self.fault.take().is_some() {
            // It was the webhook, not the events: they need not wait for their own pauses.
            self.waiting.iter_mut().for_each(|waiting| waiting.not_before = now);
        }
    }

    fn failed(&mut self, number: u64, why: String, now: Instant) {
        self.not_before = now + self.pauses.pause();
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.queued.number == number) {
            waiting.not_before = now + waiting.pauses.pause();
        }
        let since = self.fault.as_ref().map_or(now, |fault| fault.since);
        self.fault = Some(Fault { since, why });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Event, EventId, Raised};

    fn event(number: u64, rule: &str, device: &str) -> Queued {
        let (rule, user_id, device_id) = (rule.to_owned(), "ada".to_owned(), device.to_owned());
        let raised = Raised { rule, user_id, device_id, id: EventId::new(), last_seen: 1, raised_at: 2 };
        Queued { number, event: Event::silent(&raised) }
    }

    fn number(lines: &mut Lines, now: Instant) -> Option<u64> {
        lines.next(now).map(|queued| queued.number)
    }

    #[test]
    fn each_rule_has_one_under_way_and_a_dead_one_holds_up_no_other() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        for (number, rule) in [(1, "a"), (2, "a"), (3, "b"), (4, "b")] {
            lines.push(event(number, rule, &number.to_string()), now);
        }
        assert_eq!(
            [number(&mut lines, now), number(&mut lines, now), number(&mut lines, now)],
            [Some(1), Some(3), None]
        );
        lines.landed(&event(1, "a", "1"), Err("dead".into()), now);
        assert_eq!(number(&mut lines, now), None);
        assert_eq!(lines.fault_of("a").map(|fault| fault.why.as_str()), Some("dead"));
        lines.landed(&event(3, "b", "3"), Ok(()), now);
        assert_eq!(number(&mut lines, now), Some(4));
        assert!(lines.next_at().unwrap() > now);
        // Tried again with another device's event, since this one may be what is not taken.
        assert_eq!(number(&mut lines, now + FIRST_PAUSE), Some(2));
    }

    #[test]
    fn the_events_of_a_device_keep_their_order_whatever_one_of_them_meets() {
        let (mut lines, mut now) = (Lines::default(), Instant::now());
        for (number, device) in [(1, "x"), (2, "x"), (3, "y")] {
            lines.push(event(number, "a", device), now);
        }
        assert_eq!(number(&mut lines, now), Some(1));
        lines.landed(&event(1, "a", "x"), Err("400".into()), now);
        now += FIRST_PAUSE;
        assert_eq!(number(&mut lines, now), Some(3), "the other device's turn, not the same device's next");
        lines.landed(&event(3, "a", "y"), Err("400".into()), now);
        now += 10 * FIRST_PAUSE;
        assert_eq!(number(&mut lines, now), Some(1));
        lines.landed(&event(1, "a", "x"), Ok(()), now);
        assert_eq!(number(&mut lines, now), Some(2));
    }

    #[test]
    fn once_the_webhook_is_back_nothing_waits_for_its_own_pause() {
        let (mut lines, mut now) = (Lines::default(), Instant::now());
        (1..=2).for_each(|number| lines.push(event(number, "a", &number.to_string()), now));
        for _ in 0..20 {
            let at = lines.next_at().unwrap();
            assert!(at <= now + LONGEST_PAUSE_OF_ONE);
            now = now.max(at);
            let queued = lines.next(now).unwrap();
            lines.landed(&queued, Err("dead".into()), now);
        }
        now += LONGEST_PAUSE_OF_ONE;
        let queued = lines.next(now).unwrap();
        lines.landed(&queued, Ok(()), now);
        assert!(lines.next(now).is_some() && lines.faults().next().is_none());
    }

    #[test]
    fn what_was_dropped_is_forgotten() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        (1..=3).for_each(|number| lines.push(event(number, "a", &number.to_string()), now));
        lines.forget_below(2);
        lines.forget(&event(2, "a", "2"));
        assert_eq!(number(&mut lines, now), Some(3));
    }
}
