//! Flood: one address or one user gets 429, the others are served.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use support::{Answer, Beat, Beats, Buffer, SOON, World, on_every_buffer};

/// The fields that tell a client when to come again.
fn assert_says_when(answer: &Answer) {
    assert_eq!(answer.status, 429, "{}", answer.text);
    let retry_after = answer.header("retry-after").expect("Retry-After").parse::<u64>();
    assert!(retry_after.is_ok_and(|seconds| seconds > 0), "{:?}", answer.headers);
    assert!(answer.header("ratelimit-policy").is_some_and(|field| field.contains(";q=")), "{:?}", answer.headers);
    assert!(answer.header("ratelimit").is_some_and(|field| field.contains(";r=0")), "{:?}", answer.headers);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}

fn an_address_that_floods_is_refused_and_the_others_are_served(buffer: Buffer) {
    let world = World::on(buffer);
    let limits = ["--address-rate=1", "--address-burst=10"];
    let collector = world.collector().door_args(limits).without_compactor().start();
    let beats = Beats::new(500, 1);
    // All of 127.0.0.0/8 is this machine.
    let client = collector.client();
    let (flooder, other) = (client.at_address("127.0.0.2"), client.at_address("127.0.0.3"));

    let answers: Vec<Answer> = (0..40).map(|_| flooder.post(&beats.next())).collect();
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status != 202).collect();
    assert!((25..=30).contains(&refused.len()), "{} of 40 were refused", refused.len());
    refused.into_iter().for_each(assert_says_when);
    (0..5).for_each(|_| assert_eq!(other.post(&beats.next()).status, 202));

    world.await_drained(SOON);
    world.publish();
}

fn a_user_who_floods_is_refused_and_the_others_are_served(buffer: Buffer) {
    let world = World::on(buffer);
    let limits = ["--user-rate=1", "--user-burst=20"];
    let collector = world.collector().door_args(limits).without_compactor().start();
    let client = collector.client();
    let flood = Beats::new(1, 1);

    client.must_keep(&flood.take(20));
    assert_says_when(&client.post(&flood.next()));

    // In one bulk with others, the flooder's are listed and the others' are kept.
    let mixed = [flood.next(), Beat::of("someone-else", "device"), Beat::of("a-third", "device"), flood.next()];
    let answer = client.post_all(&mixed);
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &2.into()), "{}", answer.text);
    let rejected = answer.body["rejected"].as_array().expect("a list");
    let indices: Vec<_> = rejected.iter().map(|entry| entry["index"].as_u64()).collect();
    assert_eq!(indices, [Some(0), Some(3)]);
    assert!(rejected.iter().all(|entry| entry["code"] == "rate_limited" && entry["retryable"] == true));

    // More than a burst can ever hold: waiting would not help, so it is no 429.
    let never = client.post_all(&flood.take(21));
    assert_eq!(never.status, 413, "{}", never.text);

    world.await_drained(SOON);
    world.publish();
}

on_every_buffer! {
    an_address_that_floods_is_refused_and_the_others_are_served,
    a_user_who_floods_is_refused_and_the_others_are_served,
}
