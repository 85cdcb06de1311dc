//! Whether this process's clock agrees with the buffer's: devices are seen by the one (`heartbeat::sighting`), and judged by
//! the other. Pure.
//!
//! Constraint: only what is certain changes the verdict. An answer takes its time, and the buffer's clock was read at some
//! instant of that, so a slow buffer blurs the difference by as much and is not taken for a wrong clock.

/// By how many ms this process's clock is ahead of the buffer's: between these two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skew {
    least: i64,
    most: i64,
}

impl Skew {
    /// `now` is the buffer's, read between two readings of this process's clock.
    pub(super) fn between(asked: i64, now: i64, answered: i64) -> Self {
        // It may have been set back in between.
        let (first, last) = (asked.min(answered), asked.max(answered));
        Self { least: first.saturating_sub(now), most: last.saturating_sub(now) }
    }

    /// What of it is certain: nothing where the clocks may agree.
    pub(super) fn certain(self) -> i64 {
        0.clamp(self.least, self.most)
    }

    /// What it is at worst, ahead or behind.
    fn at_worst(self) -> u64 {
        self.least.unsigned_abs().max(self.most.unsigned_abs())
    }
}

/// The verdict, from measure to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clocks {
    after: i64,
    apart: Option<i64>,
}

impl Clocks {
    /// Clocks that are taken to agree. `after` is the shortest of all rules, in ms: what is judged at all is judged to a
    /// quarter of it.
    pub(super) fn new(after: i64) -> Self {
        Self { after, apart: None }
    }

    /// Takes in a measure. Says whether the verdict is another one now.
    pub(super) fn compare(&mut self, skew: Skew) -> bool {
        let (before, bound) = (self.are_apart(), self.bound());
        if skew.certain().unsigned_abs() > bound {
            self.apart = Some(skew.certain());
        } else if skew.at_worst() <= bound {
            self.apart = None;
        }
        before != self.are_apart()
    }

    fn bound(self) -> u64 {
        self.after.unsigned_abs() / 4
    }

    /// Whether they are too far apart to judge anybody.
    pub(super) fn are_apart(self) -> bool {
        self.apart.is_some()
    }

    /// What is wrong with them, and what to do.
    pub(super) fn fault(self) -> Option<String> {
        let apart = self.apart?;
        let seconds = |ms: u64| ms as f64 / 1e3;
        Some(format!(
            "the clock of this machine is {:.1} s {} the buffer's, and the shortest rule bears {} s; keep both by NTP",
            seconds(apart.unsigned_abs()),
            if apart > 0 { "ahead of" } else { "behind" },
            seconds(self.bound()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a bound of 1 s; the buffer's clock shows 100 s.
    fn judge(clocks: &mut Clocks, asked: i64, answered: i64) -> bool {
        clocks.compare(Skew::between(asked, 100_000, answered));
        !clocks.are_apart()
    }

    #[test]
    fn only_what_is_certain_changes_the_verdict() {
        for (asked, answered, from_well, from_unwell) in [
            (99_990, 100_010, true, true),
            // Up to the bound, and beyond it.
            (99_000, 99_000, true, true),
            (101_000, 101_000, true, true),
            (98_000, 98_999, false, false),
            (101_001, 101_002, false, false),
            // An answer that took too long for either.
            (98_500, 99_500, true, false),
            (97_000, 103_000, true, false),
            // The clock was set back by an hour, or ahead, while the buffer answered.
            (100_000, -3_500_000, true, false),
            (100_000, 3_700_000, true, false),
        ] {
            assert_eq!(judge(&mut Clocks::new(4_000), asked, answered), from_well, "{asked} {answered}");
            let mut apart = Clocks::new(4_000);
            assert!(!judge(&mut apart, 0, 0));
            assert_eq!(judge(&mut apart, asked, answered), from_unwell, "{asked} {answered}");
        }
    }

    #[test]
    fn the_fault_says_which_way_by_how_much_and_what_to_do() {
        let mut clocks = Clocks::new(15_000);
        assert_eq!(clocks.fault(), None);
        assert!(clocks.compare(Skew::between(88_000, 100_000, 88_010)));
        assert!(!clocks.compare(Skew::between(88_000, 100_000, 88_010)), "no other verdict");
        let fault = clocks.fault().unwrap();
        assert!(
            fault.contains("12.0 s behind the buffer's") && fault.contains("3.75 s") && fault.contains("NTP"),
            "{fault}"
        );
        clocks.compare(Skew::between(120_000, 100_000, 120_010));
        assert!(clocks.fault().unwrap().contains("20.0 s ahead of"));
        assert!(clocks.compare(Skew::between(100_000, 100_000, 100_010)));
        assert_eq!(clocks.fault(), None);
    }

    #[test]
    fn the_certain_skew_is_the_least_that_explains_what_was_read() {
        for (asked, answered, certain) in [(99_000, 99_400, -600), (100_300, 101_000, 300), (99_000, 101_000, 0)] {
            assert_eq!(Skew::between(asked, 100_000, answered).certain(), certain);
        }
        assert_eq!(Skew::between(i64::MAX, i64::MIN, i64::MAX).certain(), i64::MAX);
    }
}
