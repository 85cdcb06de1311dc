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

use std::collections::{BTreeMap, HashMap};

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
    live: HashMap<(String, String), i64>,
    next: HashMap<(String, String), i64>,
}

impl Due {
    /// At the beginning of a watch. `last` is when somebody looked before; between two looks there is less than `horizon`.
    pub fn begin(after: i64, horizon: i64, now: i64, last: Option<i64>) -> Self {
        let from = last.map_or(now, |last| last.min(now)).saturating_sub(after);
        Self { after, horizon, from, carried: last, live: HashMap::new(), next: HashMap::new() }
    }

    /// Goes on after a break. `last` is when this process looked before.
    pub fn resume(&mut self, last: i64) {
        self.carried = Some(last);
        self.next.clear();
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

    /// Ends a look: who was seen live and is silent now. Nobody is while the door has not stood open for `after`, which for some
    /// users (`turned_away`) was shut later, and while there is no room for more; they are kept for a later look.
    pub fn end_look(
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
        self.from = self.from.max(kept.map_or(from, |kept| kept.min(from)));
        let silent =
            self.live.extract_if(|(user, _), last_seen| is_silent(*last_seen, after, now) && !is_excused(user));
        let mut silent: Vec<SeenDevice> =
            silent.map(|((user_id, device_id), last_seen)| SeenDevice { last_seen, user_id, device_id }).collect();
        silent.sort_unstable();
        silent
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
            let (from, before) = due.window(now);
            for (device, last_seen) in &self.last_seen {
                if (from..before).contains(last_seen) {
                    due.see(&device_of(*device, *last_seen), now);
                }
            }
            let silent = due.end_look(now, open_since, &BTreeMap::new(), true);
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
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (1..=10i64).prop_map(Step::Pass),
            4 => (0..4u8, prop_oneof![3 => 0..3i64, 1 => 0..3 * AFTER]).prop_map(|(device, late)| Step::Beat(device, late)),
            1 => Just(Step::Shut),
            1 => (0..3 * AFTER, any::<bool>()).prop_map(|(time, same)| Step::Break(time, same)),
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
            for step in steps {
                match step {
                    Step::Pass(time) => now += time,
                    Step::Beat(device, late) => world.beat(device, now, late),
                    Step::Shut => open_since = now,
                    Step::Break(time, same) => {
                        let last = world.looks.last().copied();
                        now += time;
                        match last.filter(|_| same) {
                            Some(last) => due.resume(last),
                            None => due = Due::begin(AFTER, HORIZON, now, last),
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
                    let live = world.looks.iter().any(|look| {
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
            for device in living {
                prop_assert!(raised.contains(&device), "{device:?} was missed");
            }
            prop_assert!(world.look(&mut due, now + 5, open_since).is_empty());
        }
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
        assert_eq!(due.end_look(60, -100, &BTreeMap::new(), true), []);
        for now in [80, 90] {
            due.see(&device, now);
            assert_eq!(due.end_look(now, -100, &BTreeMap::new(), false), []);
            assert!(due.window(now).0 <= 10);
        }
        due.see(&device, 100);
        assert_eq!(due.end_look(100, -100, &BTreeMap::new(), true), [device]);
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
            assert_eq!(due.end_look(now, -100, &turned_away, true), expected, "at {now}");
        }
        assert!(due.window(170).0 > 10, "and no longer than that");
    }

    #[test]
    fn a_rule_does_not_speak_of_what_was_silent_before_it() {
        assert!(is_news(100, AFTER, 160) && !is_news(99, AFTER, 160));
    }
}
