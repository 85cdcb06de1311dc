//! The contract of the buffer, as one suite that every backend passes.
//!
//! The suite ([`suite`]) knows [`systole::buffer::Buffer`] only; a backend is one more call of [`contract!`] with a
//! harness of its own. What only one backend can do wrong stands in [`redis_only`],
//! [`embedded_only`] and [`socket_only`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod alarms;
mod backend;
mod committer;
mod devices;
mod drain;
mod embedded_only;
mod frames;
mod gate;
mod model;
mod monitor;
mod redis_only;
#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/skip.rs"]
mod skip;
mod socket_only;
mod suite;
mod through_socket;
#[allow(dead_code, reason = "each test crate uses its own part of the harness")]
#[path = "../support/tmpfs.rs"]
mod tmpfs;
mod tokens;

/// Runs each behaviour of the suite, and of what stands on a buffer, as a test of its own against a fresh backend.
macro_rules! contract {
    ($backend:ident, $start:expr; $($behaviour:ident),+; on_it: $($user:ident::$use:ident),+ $(,)?) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    crate::suite::$behaviour(&mut $start).await;
                }
            )+
            $(
                // On one thread: there a task that is spawned runs up to its first wait before its spawner goes on.
                #[tokio::test]
                async fn $use() {
                    crate::$user::$use(&mut $start).await;
                }
            )+

            #[test]
            fn the_ledger_balances_after_any_steps() {
                crate::model::the_ledger_balances_after_any_steps(&mut $start);
            }
        }
    };
}

macro_rules! every_behaviour {
    ($backend:ident, $start:expr) => {
        contract! { $backend, $start;
            an_unregistered_buffer_takes_nothing,
            registering_is_idempotent_and_refuses_another_dataset,
            a_push_is_kept_in_order,
            the_cap_is_exact_under_fifty_producers,
            the_byte_cap_is_exact,
            room_is_judged_against_what_is_held,
            a_claim_ends_at_its_budget,
            two_claims_at_once_never_share_a_frame,
            a_standing_claim_comes_back_identical,
            a_lost_reply_is_no_death,
            each_owner_lost_counts_a_death_with_the_frame_in_hand,
            a_claim_left_on_purpose_is_no_death,
            an_older_epoch_is_refused,
            a_lease_is_held_until_it_expires,
            an_ack_is_done_once,
            what_is_condemned_survives_its_owner_and_becomes_dead_letters,
            a_claim_is_not_closed_by_one_who_left_out_other_rows,
            a_condemned_frame_swallows_its_rows,
            dead_letters_are_listed_shown_retried_and_dropped,
            dead_letters_count_against_the_cap,
            the_living_are_known_and_the_retired_forgotten,
            a_restart_keeps_everything;
            on_it:
            devices::a_device_was_last_seen_at_its_latest_heartbeat_or_its_arrival,
            devices::a_refused_frame_leaves_no_device,
            devices::devices_of_a_user_come_in_pages_by_their_ids_and_are_nobody_elses,
            devices::the_longest_unseen_come_first_in_pages_that_stay_right_under_change,
            devices::the_longest_unseen_are_forgotten_beyond_the_cap,
            devices::a_device_is_forgotten_in_time,
            devices::devices_survive_restarts_before_and_after_their_frames_are_gone,
            devices::many_devices_are_kept_and_told_in_bounded_pages,
            devices::an_unknown_buffer_or_partition_is_no_list_without_devices,
            frames::every_frame_that_is_pending_or_claimed_is_given,
            frames::nothing_that_stays_is_passed_over_while_others_move,
            frames::a_walk_ends_while_producers_go_on,
            frames::what_went_on_its_way_is_left_out_without_an_error,
            frames::an_unregistered_buffer_is_an_error_and_not_empty,
            tokens::tokens_are_kept_listed_and_revoked_before_any_registration,
            tokens::a_list_is_given_only_when_it_has_changed,
            tokens::a_token_is_never_written_over,
            tokens::there_are_never_too_many_tokens,
            tokens::tokens_survive_a_restart_and_an_erased_store_has_no_version,
            alarms::one_process_watches_at_a_time_and_no_other_changes_anything,
            alarms::a_watch_that_is_not_gone_on_with_runs_out,
            alarms::a_change_and_its_event_are_made_once_and_together,
            alarms::events_wait_in_order_until_they_are_settled,
            alarms::of_too_many_events_the_oldest_give_way,
            alarms::a_rule_is_in_force_since_it_was_first_named_without_a_break,
            alarms::what_is_raised_and_waits_survives_a_restart,
            alarms::it_is_told_when_raised_devices_were_last_seen,
            committer::what_arrives_during_a_slow_write_goes_with_the_next_one_in_order,
            committer::a_caller_that_gave_up_in_time_is_not_pushed,
            committer::a_slow_buffer_is_answered_for_by_the_deadline,
            committer::a_request_of_several_partitions_is_kept_whole_or_not_at_all,
            committer::nothing_is_accepted_before_the_buffer_is_registered,
            committer::too_much_at_once_is_refused_at_once,
            committer::a_request_larger_than_all_that_may_wait_goes_alone,
            committer::a_request_that_no_wait_could_make_room_for_is_told_apart,
            committer::what_was_accepted_before_the_end_is_written,
            monitor::health_names_what_is_wrong_and_gets_well_by_itself,
        }
    };
}

every_behaviour!(redis, crate::backend::Redis::start());
every_behaviour!(embedded, crate::backend::Embedded::start());
every_behaviour!(socket, crate::through_socket::Socket::start());
