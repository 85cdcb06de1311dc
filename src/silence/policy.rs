//! Who is silent: pure, without I/O or clock.
//!
//! A look goes through the devices of a partition that were last seen within a window of time, and calls [`Due::see`] for
//! each. Time is the buffer's, in ms since the Unix epoch.
//!
//! ```text
//!            from                      now - after        now - after + horizon              now
//! ───────────┬──────────────────────────┬──────────────────┬───────────────────────────────────┬──▶ last seen
//!   judged   │ silent: raised if it was │ live still, and  │ live, and not due                 │
//!   before   │ seen live as it is       │ due soon: noted  │                                   │
//! ```
//!
//! A device that beats moves to the right. One that stops is carried to the left by time, and so passes the middle window,
//! which is wider than the pause between two looks: there it is noted as seen live, with the time at which it was last seen.
//! Late heartbeats set a device down somewhere to the left, where it was not noted: it is nothing to raise. That is why no
//! second fact needs to be kept of a device: that it is in the window says that it lives.
//!
//! What a broken watch leaves over: the next one takes a device that was last seen within `after` of the last look, or just
//! after it, for seen live. It was, unless what set it there came late and just between the two. What was noted before a
//! break within one process stays noted ([`Due::resume`]); another process knows nothing of it, so whoever fell silent while
//! the door had not stood open for `after` yet is missed when that process dies as well before it has.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::buffer::SeenDevice;

/// Devices of one partition that are noted for one `after` at most: what is beyond is not raised.
pub const MAX_NOTED: usize = 100_000;

/// What one `after` knows of the devices of one partition.
#[derive(Debug)]
pub struct Due {
    after: i64,
    horizon: i64,
    /// All that was last seen up to here is judged.
    from: i64,
    /// The last look before this watch, in its first one.
    carried: Option<i64>,
    /// Seen live, by (user, device), with the time at which they were last seen.
    live: Noted,
    next: Noted,
    /// Found silent in a look that has not come to its end, and up to where all is judged once it has.
    found: Option<(Noted, i64)>,
}

/// By (user, device), when each was last seen.
type Noted = HashMap<(String, String), i64>;

impl Due {
    /// At the beginning of a watch. `last` is when somebody looked before; between two looks there is less than `horizon`.
    pub fn begin(after: i64, horizon: i64, now: i64, last: Option<i64>) -> Self {
        let from = last.map_or(now, |last| last.min(now)).saturating_sub(after);
        Self { after, horizon, from, carried: last, live: Noted::new(), next: Noted::new(), found: None }
    }

    /// Goes on after a break. `last` is when this process looked before. Either clock may have been set back since then: what
    /// was judged ahead of it comes again. Whoever was found silent in a look that broke off is noted still.
    pub fn resume(&mut self, last: i64, now: i64) {
        self.from = self.from.min(now.saturating_sub(self.after));
        self.carried = Some(last.min(now));
        self.next.clear();
        self.live.extend(self.found.take().into_iter().flat_map(|(found, _)| found));
    }

    /// The devices to be seen in a look at `now`: those last seen from the first time on, and before the second.
    pub fn window(&self, now: i64) -> (i64, i64) {
        (self.from, now.saturating_sub(self.after).saturating_add(self.horizon))
    }

    /// Sees one.
    pub fn see(&mut self, device: &SeenDevice, now: i64) {
        let SeenDevice { last_seen, user_id, device_id } = device;
        let key = (user_id.clone(), device_id.clone());
        let lives = !is_silent(*last_seen, self.after, now)
            || self.live.get(&key) == Some(last_seen)
            || self.carried.is_some_and(|last| self.was_live(*last_seen, last));
        if lives && self.next.len() < MAX_NOTED {
            self.next.insert(key, *last_seen);
        }
    }

    /// Whether one was live when the door was last known to be open: at the last look, or for as long behind it as looks may be
    /// apart, since whoever beats often has beaten again before the end came.
    fn was_live(&self, last_seen: i64, last: i64) -> bool {
        !is_silent(last_seen, self.after, last) && last_seen <= last.saturating_add(self.horizon)
    }

    /// Judges what a look has seen: who was seen live and is silent now. Nobody is while the door has not stood open for `after`,
    /// which for some users (`turned_away`) was shut later, and while there is no room for more; they are kept for a later look.
    /// So are those who are told here, unless [`end_look`](Self::end_look) follows.
    pub fn judge(
        &mut self,
        now: i64,
        open_since: i64,
        turned_away: &BTreeMap<String, i64>,
        room: bool,
    ) -> Vec<SeenDevice> {
        self.carried = None;
        self.live = std::mem::take(&mut self.next);
        if !room || !is_silent(open_since, self.after, now) {
            return Vec::new();
        }
        let (after, from) = (self.after, now.saturating_sub(self.after));
        let is_excused = |user: &String| turned_away.get(user).is_some_and(|at| !is_silent(*at, after, now));
        // Those who are kept for a later look must stay within its window.
        let kept = self.live.iter().filter(|((user, _), _)| is_excused(user)).map(|(_, last_seen)| *last_seen).min();
        let judged = kept.map_or(from, |kept| kept.min(from));
        let found: Noted = self
            .live
            .extract_if(|(user, _), last_seen| is_silent(*last_seen, after, now) && !is_excused(user))
            .collect();
        let device = |((user_id, device_id), last_seen): (&(String, String), &i64)| SeenDevice {
            last_seen: *last_seen,
            user_id: user_id.clone(),
            device_id: device_id.clone(),
        };
        let mut silent: Vec<SeenDevice> = found.iter().map(device).collect();
        silent.sort_unstable();
        self.found = Some((found, judged));
        silent
    }

    /// Ends a look: whoever was found silent is raised, but for those (user, device) of `waiting`, who are kept for a later one.
    pub fn end_look(&mut self, waiting: &HashSet<(&str, &str)>) {
        let Some((mut found, judged)) = self.found.take() else { return };
        found.retain(|(user, device), _| waiting.contains(&(user.as_str(), device.as_str())));
        let kept = found.values().copied().min();
        self.from = self.from.max(kept.map_or(judged, |kept| kept.min(judged)));
        self.live.extend(found);
    }
}

/// Whether a device that was last seen then is silent.
pub fn is_silent(last_seen: i64, after: i64, now: i64) -> bool {
    now.saturating_sub(last_seen) > after
}

/// Whether a rule that came into force at `since` may speak of one: that was silent already then is no news.
pub fn is_news(last_seen: i64, after: i64, since: i64) -> bool {
    last_seen.saturating_add(after) >= since
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const AFTER: i64 = 60;
    const HORIZON: i64 = 12;

    /// The devices as the buffer keeps them, and all that ever happened.
    #[derive(Debug, Default)]
    struct World {
        last_seen: BTreeMap<u8, i64>,
        /// Device, arrival, time of the heartbeat.
        beats: Vec<(u8, i64, i64)>,
        /// When the door was shut.
        shut: Vec<i64>,
        looks: Vec<i64>,
        /// Looks that were not ended.
        broken_off: Vec<i64>,
        /// When a watch began.
        begun: Vec<i64>,
    }

    impl World {
        fn beat(&mut self, device: u8, now: i64, late: i64) {
            let seen = now - late;
            self.beats.push((device, now, seen));
            let last = self.last_seen.entry(device).or_insert(seen);
            *last = seen.max(*last);
        }

        fn look(&self, due: &mut Due, now: i64, open_since: i64) -> Vec<(u8, i64)> {
            let silent = self.judge(due, now, open_since);
            due.end_look(&HashSet::new());
            silent
        }

        /// A look that is not ended.
        fn judge(&self, due: &mut Due, now: i64, open_since: i64) -> Vec<(u8, i64)> {
            let (from, before) = due.window(now);
            for (device, last_seen) in &self.last_seen {
                if (from..before).contains(last_seen) {
                    due.see(&device_of(*device, *last_seen), now);
                }
            }
            let silent = due.judge(now, open_since, &BTreeMap::new(), true);
            silent.iter().map(|device| (device.device_id.parse().unwrap(), device.last_seen)).collect()
        }

        /// What was last seen of a device, by the heartbeats that had arrived by then.
        fn seen_by(&self, device: u8, at: i64) -> Option<i64> {
            self.beats.iter().filter(|(of, arrived, _)| *of == device && *arrived <= at).map(|(.., seen)| *seen).max()
        }
    }

    fn device_of(device: u8, last_seen: i64) -> SeenDevice {
        SeenDevice { last_seen, user_id: "ada".into(), device_id: device.to_string() }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Pass(i64),
        Beat(u8, i64),
        Shut,
        /// The watch breaks, and begins again after so long, in the same process or in another.
        Break(i64, bool),
        /// A look breaks off before what it has found is raised, and so does the watch.
        BreakOff(i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            20 => (1..=10i64).prop_map(Step::Pass),
            8 => (0..4u8, prop_oneof![3 => 0..3i64, 1 => 0..3 * AFTER]).prop_map(|(device, late)| Step::Beat(device, late)),
            1 => Just(Step::Shut),
            1 => (0..3 * AFTER, any::<bool>()).prop_map(|(time, same)| Step::Break(time, same)),
            1 => (1..10i64).prop_map(Step::BreakOff),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        /// The model: all heartbeats, all looks and all closings are remembered, and each promise is asked of them directly.
        #[test]
        fn only_a_device_that_was_seen_live_is_raised_and_none_is_missed(steps in steps()) {
            let (mut world, mut now) = (World::default(), 1_000i64);
            let mut due = Due::begin(AFTER, HORIZON, now, None);
            let mut open_since = now;
            world.begun.push(now);
            let mut raised: BTreeSet<(u8, i64)> = BTreeSet::new();
            // Found silent in looks that broke off, by the process that still watches.
            let mut owed: BTreeSet<(u8, i64)> = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Pass(time) => now += time,
                    Step::Beat(device, late) => world.beat(device, now, late),
                    Step::Shut => open_since = now,
                    Step::BreakOff(time) => {
                        now += time;
                        owed.extend(world.judge(&mut due, now, open_since));
                        world.broken_off.push(now);
                        now += time;
                        due.resume(world.looks.last().copied().unwrap_or(1_000), now);
                        open_since = now;
                        world.begun.push(now);
                    }
                    Step::Break(time, same) => {
                        let last = world.looks.last().copied();
                        now += time;
                        match last.filter(|_| same) {
                            Some(last) => due.resume(last, now),
                            None => {
                                due = Due::begin(AFTER, HORIZON, now, last);
                                owed.clear();
                            }
                        }
                        open_since = now;
                        world.begun.push(now);
                    }
                }
                world.shut.push(open_since);
                let silent = world.look(&mut due, now, open_since);
                for (device, last_seen) in silent {
                    prop_assert!(raised.insert((device, last_seen)), "raised twice for one silence");
                    prop_assert_eq!(world.seen_by(device, now), Some(last_seen));
                    prop_assert!(now - last_seen > AFTER && now - open_since > AFTER);
                    // It was live at a look, as it is; or its heartbeat came in while nobody looked, and was of before that.
                    let live = world.looks.iter().chain(&world.broken_off).any(|look| {
                        look - last_seen <= AFTER && world.seen_by(device, *look) == Some(last_seen)
                    });
                    let unwatched = world.begun.iter().any(|begun| {
                        let last = world.looks.iter().filter(|look| *look < begun).max();
                        last.is_some_and(|last| last - last_seen <= AFTER && last_seen <= *last + HORIZON
                            && world.seen_by(device, *begun) == Some(last_seen))
                    });
                    prop_assert!(live || unwatched, "device {} was never live", device);
                }
                world.looks.push(now);
            }
            // From now on nobody beats and nothing is shut: all that live fall silent, each once.
            let living: Vec<_> = world.last_seen.iter().filter(|(_, last)| now - **last <= AFTER).map(|(d, l)| (*d, *l)).collect();
            while now - open_since <= AFTER || living.iter().any(|(_, last)| now - last <= AFTER) {
                now += 5;
                for found in world.look(&mut due, now, open_since) {
                    prop_assert!(raised.insert(found), "raised twice for one silence");
                }
            }
            owed.retain(|(device, last)| world.last_seen.get(device) == Some(last));
            for device in living.into_iter().chain(owed) {
                prop_assert!(raised.contains(&device), "{device:?} was missed");
            }
            prop_assert!(world.look(&mut due, now + 5, open_since).is_empty());
        }
    }

    #[test]
    fn a_clock_that_was_ahead_and_is_set_back_hides_nobody() {
        let day = 24 * 3_600;
        let (mut world, mut due) = (World::default(), Due::begin(AFTER, HORIZON, 1_000 + day, None));
        world.look(&mut due, 1_000 + day, 1_000);
        due.resume(1_000 + day, 1_000);
        world.beat(1, 1_010, 0);
        assert_eq!(world.look(&mut due, 1_010, 1_000), []);
        assert_eq!(world.look(&mut due, 1_010 + AFTER, 1_000), []);
        assert_eq!(world.look(&mut due, 1_011 + AFTER, 1_000), [(1, 1_010)]);
    }

    #[test]
    fn late_heartbeats_raise_nothing_wherever_they_set_a_device_down() {
        for late in [AFTER + 1, AFTER + 5, 2 * AFTER, 100 * AFTER] {
            let mut world = World::default();
            let mut due = Due::begin(AFTER, HORIZON, 0, None);
            for now in (0..1_000).step_by(5) {
                if now == 500 {
                    world.beat(1, now, late);
                }
                assert_eq!(world.look(&mut due, now, 0), [], "late by {late}, at {now}");
            }
        }
    }

    #[test]
    fn whoever_died_while_nobody_watched_has_after_again_and_is_raised_then() {
        let mut world = World::default();
        world.beat(1, 1_000, 0);
        let mut due = Due::begin(AFTER, HORIZON, 5_000, Some(1_010));
        let raised: Vec<i64> =
            (5_000..5_200).step_by(5).filter(|now| !world.look(&mut due, *now, 5_000).is_empty()).collect();
        assert_eq!(raised, [5_000 + AFTER + 5]);
    }

    #[test]
    fn without_room_nobody_is_given_up() {
        let mut due = Due::begin(AFTER, HORIZON, 0, None);
        let device = device_of(1, 10);
        due.see(&device, 60);
        assert_eq!(due.judge(60, -100, &BTreeMap::new(), true), []);
        due.end_look(&HashSet::new());
        for now in [80, 90] {
            due.see(&device, now);
            assert_eq!(due.judge(now, -100, &BTreeMap::new(), false), []);
            due.end_look(&HashSet::new());
            assert!(due.window(now).0 <= 10);
        }
        // Nor where the room is found to be taken only when they are to be raised.
        for (now, waiting) in [(100, HashSet::from([("ada", "1")])), (110, HashSet::new())] {
            assert!(due.window(now).0 <= 10);
            due.see(&device, now);
            assert_eq!(due.judge(now, -100, &BTreeMap::new(), true), std::slice::from_ref(&device));
            due.end_look(&waiting);
        }
        assert!(due.window(120).0 > 10);
    }

    #[test]
    fn who_was_turned_away_has_after_again_and_nobody_else_waits_for_it() {
        let (ada, bob) = (device_of(1, 10), SeenDevice { user_id: "bob".into(), ..device_of(2, 10) });
        let mut due = Due::begin(AFTER, HORIZON, 0, None);
        let turned_away = BTreeMap::from([("ada".to_owned(), 100)]);
        for (now, expected) in
            [(60, vec![]), (75, vec![bob.clone()]), (160, vec![]), (161, vec![ada.clone()]), (170, vec![])]
        {
            assert!(now > 161 || due.window(now).0 <= 10, "ada's device stays in the window");
            due.see(&ada, now);
            due.see(&bob, now);
            assert_eq!(due.judge(now, -100, &turned_away, true), expected, "at {now}");
            due.end_look(&HashSet::new());
        }
        assert!(due.window(170).0 > 10, "and no longer than that");
    }

    #[test]
    fn a_rule_does_not_speak_of_what_was_silent_before_it() {
        assert!(is_news(100, AFTER, 160) && !is_news(99, AFTER, 160));
    }
}
