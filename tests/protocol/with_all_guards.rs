//! With all guards in place every scenario keeps every promise.

use crate::check::holds;
use crate::scenario::Scenario;

macro_rules! scenarios {
    ($($test:ident: $scenario:ident),+ $(,)?) => {
        $(
            #[test]
            fn $test() {
                holds(&Scenario::$scenario);
            }
        )+
    };
}

scenarios! {
    zombies_do_no_harm: ZOMBIES,
    batchers_of_two_versions_do_no_harm: VERSIONS,
    a_claim_of_two_dates_is_kept_whole: DATES,
    late_requests_do_no_harm: LATE_REQUESTS,
    a_client_that_sends_again_is_published_once: RETRIES,
    what_cannot_be_written_becomes_a_dead_letter: CONDEMNED,
    a_late_condemnation_does_no_harm: CONDEMNED_LATE,
    attempts_that_judge_differently_lose_nothing: JUDGES_DIFFER,
    a_buffer_that_comes_back_older_is_noticed_and_takes_no_more_than_it_must: ROLLBACK,
    a_buffer_that_comes_back_older_than_its_leases_is_safe: ROLLBACK_ZOMBIES,
    a_buffer_that_comes_back_older_than_a_judgement_loses_nothing: ROLLBACK_JUDGES_DIFFER,
    a_power_cut_takes_nothing_that_was_promised: POWER_CUTS,
    a_damaged_fragment_is_written_anew: DAMAGE,
    two_compactors_do_no_harm: COMPACTORS,
    two_consolidators_do_no_harm: CONSOLIDATORS,
    a_consolidation_disturbs_nobody: CONSOLIDATION,
    a_power_cut_around_a_consolidation_takes_nothing: CONSOLIDATION_POWER_CUT,
    a_claim_that_was_folded_may_come_back: FOLDING,
}
