//! Which event is delivered next: pure, the time is given.
//!
//! Constraints:
//! - The events of a rule form a line; one of a line is under way at a time. A webhook that is dead holds up its own rule and
//!   no other, and is asked less and less often, once a minute in the end.
//! - The lines take turns, and those with a fault have half of the deliveries that may be under way at most: webhooks that hang,
//!   however many, leave room for those that answer.
//! - The events of one device keep their order. One that its receiver refuses holds up its device alone.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::DELIVERIES_AT_ONCE;
use crate::backoff::Backoff;
use crate::buffer::{Event, Queued};

/// Deliveries under way at the same time to webhooks that took nothing last time.
const FAULTY_AT_ONCE: usize = DELIVERIES_AT_ONCE / 2;
/// The pause of a line after its first failure,
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// and its longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause of one event that is refused while others are taken.
const LONGEST_PAUSE_OF_ONE: Duration = Duration::from_secs(600);

/// The lines of all rules, by their names.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: BTreeMap<String, Line>,
    /// Counts the turns that lines were given.
    turns: u64,
}

#[derive(Debug)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// The number of the event that is under way.
    under_way: Option<u64>,
    /// When it was given its last turn, 0 for never.
    turn: u64,
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
        let line = self.lines.entry(queued.event.rule.clone()).or_insert_with(|| Line {
            waiting: VecDeque::new(),
            under_way: None,
            turn: 0,
            pauses: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            not_before: now,
            fault: None,
        });
        let pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE_OF_ONE);
        line.waiting.push_back(Waiting { queued, pauses, not_before: now });
    }

    /// The next event that may be delivered now; it is under way from here on.
    pub(super) fn next(&mut self, now: Instant) -> Option<Queued> {
        let with_faults = self.room_for_faulty();
        let may_go = |line: &&mut Line| (with_faults || line.fault.is_none()) && line.is_ready(now);
        let line = self.lines.values_mut().filter(may_go).min_by_key(|line| line.turn)?;
        self.turns += 1;
        line.turn = self.turns;
        line.next(now)
    }

    /// When there may be a next one, as long as nothing else happens.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let with_faults = self.room_for_faulty();
        self.lines.values().filter(|line| with_faults || line.fault.is_none()).filter_map(Line::ready_at).min()
    }

    /// Whether one more line with a fault may be given a turn.
    fn room_for_faulty(&self) -> bool {
        let under_way = self.lines.values().filter(|line| line.fault.is_some() && line.under_way.is_some());
        under_way.count() < FAULTY_AT_ONCE
    }

    /// An event was delivered, or was not.
    pub(super) fn landed(&mut self, queued: &Queued, outcome: Result<(), String>, now: Instant) {
        let Some(line) = self.lines.get_mut(&queued.event.rule) else { return };
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
        if let Some(line) = self.lines.get_mut(&queued.event.rule) {
            line.waiting.retain(|waiting| waiting.queued.number != queued.number);
            line.under_way = line.under_way.filter(|number| *number != queued.number);
        }
    }

    /// Takes out those of which this holds, and which are not under way.
    pub(super) fn take_if(&mut self, is_over: impl Fn(&Event) -> bool) -> Vec<Queued> {
        let mut taken = Vec::new();
        for line in self.lines.values_mut() {
            let under_way = line.under_way;
            line.waiting.retain(|Waiting { queued, .. }| {
                let over = Some(queued.number) != under_way && is_over(&queued.event);
                taken.extend(over.then(|| queued.clone()));
                !over
            });
        }
        taken
    }

    /// Forgets those with a lower number: they were dropped.
    pub(super) fn forget_below(&mut self, oldest: u64) {
        for line in self.lines.values_mut() {
            line.waiting.retain(|waiting| waiting.queued.number >= oldest);
        }
    }

    /// The rules to whose webhooks nothing can be delivered.
    pub(super) fn faults(&self) -> impl Iterator<Item = (&str, &Fault)> {
        self.lines.iter().filter_map(|(rule, line)| Some((rule.as_str(), line.fault.as_ref()?)))
    }

    pub(super) fn fault_of(&self, rule: &str) -> Option<&Fault> {
        self.lines.get(rule)?.fault.as_ref()
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

    /// When it may have a turn. `None` while it has one, and with nothing to deliver.
    fn ready_at(&self) -> Option<Instant> {
        if self.under_way.is_some() {
            return None;
        }
        let first = self.heads().map(|waiting| waiting.not_before).min()?;
        Some(first.max(self.not_before))
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.not_before <= now && self.ready_at().is_some_and(|at| at <= now)
    }

    /// Begins its turn, where it is ready.
    fn next(&mut self, now: Instant) -> Option<Queued> {
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
    use crate::buffer::{EventId, Raised};

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
    fn webhooks_that_hang_take_turns_and_leave_room_for_one_that_answers() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let rules: Vec<String> = (0..12).map(|n| format!("hangs {n:02}")).chain(["z".to_owned()]).collect();
        (1..).zip(&rules).for_each(|(number, rule)| lines.push(event(number, rule, "x"), now));
        (100..).zip(&rules).for_each(|(number, rule)| lines.push(event(number, rule, "y"), now));
        // Each has a first turn: none is known to hang before.
        let mut later = now;
        for _ in 0..12 {
            let queued = lines.next(now).unwrap();
            later += Duration::from_secs(10);
            lines.landed(&queued, Err("hangs".into()), later);
        }
        let queued = lines.next(now).unwrap();
        assert_eq!(queued.event.rule, "z");
        lines.landed(&queued, Ok(()), later);
        later += LONGEST_PAUSE;
        let mut under_way: Vec<String> =
            (0..FAULTY_AT_ONCE + 1).map(|_| lines.next(later).unwrap().event.rule).collect();
        assert!(under_way.contains(&"z".to_owned()), "{under_way:?}");
        under_way.retain(|rule| rule != "z");
        assert!(lines.next(later).is_none() && lines.next_at().is_none(), "nothing to wait for but a landing");
        for rule in under_way {
            let number = rules.iter().position(|one| *one == rule).unwrap() as u64 + 100;
            lines.landed(&event(number, &rule, "y"), Err("hangs".into()), later);
            assert_ne!(lines.next(later).unwrap().event.rule, rule, "the longest without a turn comes first");
        }
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
    fn what_is_over_is_taken_out_but_for_what_is_under_way() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        for (number, rule) in [(1, "a"), (2, "a"), (3, "a"), (4, "b")] {
            lines.push(event(number, rule, &number.to_string()), now);
        }
        assert_eq!(number(&mut lines, now), Some(1));
        let taken = lines.take_if(|event| event.rule == "a" && event.device_id != "3");
        assert_eq!(taken.iter().map(|queued| queued.number).collect::<Vec<_>>(), [2]);
        lines.landed(&event(1, "a", "1"), Ok(()), now);
        assert_eq!([number(&mut lines, now), number(&mut lines, now)], [Some(4), Some(3)]);
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
