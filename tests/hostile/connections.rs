//! Connections that are slow, silent, many, half closed, or that never read.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::siege::{Siege, world};
use crate::support::{Beat, SOON, skip, wait};
use crate::wire::{Wire, post};

/// Slow clients at once.
const SLOW: usize = 300;
/// Between two bytes of a slow client.
const DRIP: Duration = Duration::from_millis(100);

/// Sends `text` byte by byte on every connection, and then one letter for ever, until all have ended; how long the last one
/// lived.
fn drip(wires: &mut Vec<Wire>, text: &[u8], within: Duration) -> Duration {
    let began = Instant::now();
    for byte in text.iter().chain(std::iter::repeat(&b'y')) {
        wires.retain_mut(|wire| wire.send_without_waiting([*byte]));
        if wires.is_empty() {
            return began.elapsed();
        }
        assert!(began.elapsed() < within, "{} connections still stand after {within:?}", wires.len());
        std::thread::sleep(DRIP);
    }
    began.elapsed()
}

#[test]
fn slow_first_heads_are_told_and_cut_off() {
    let world = world();
    let siege = Siege::begin(&world, &["--head-deadline=1s"]);
    let mut silent: Vec<Wire> = (0..50).map(|_| siege.open()).collect();
    for wire in &mut silent {
        let answer = wire.answer().expect("an answer");
        assert_eq!((answer.status, answer.problem()), (408, "head-timeout"));
    }
    let mut slow: Vec<Wire> = (0..SLOW).map(|_| siege.open()).collect();
    let lasted = drip(&mut slow, b"POST /v1/heartbeats HTTP/1.1\r\nX-Slow: ", Duration::from_secs(10));
    siege.end(&format!("{SLOW} slow first heads, gone after {:.1} s", lasted.as_secs_f64()));
}

#[test]
fn slow_later_heads_are_cut_off_as_well() {
    let world = world();
    let siege = Siege::begin(&world, &["--head-deadline=1s"]);
    let after_a_first = |_| {
        let mut wire = siege.open();
        wire.send("GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(wire.answer().expect("an answer").status, 200);
        wire
    };
    let mut slow: Vec<Wire> = (0..SLOW).map(after_a_first).collect();
    // The first byte ends the silence that is allowed between two requests.
    let lasted = drip(&mut slow, b"POST /v1/heartbeats HTTP/1.1\r\nX-Slow: ", Duration::from_secs(10));
    siege.end(&format!("{SLOW} slow second heads, gone after {:.1} s", lasted.as_secs_f64()));
}

#[test]
fn slow_bodies_are_told_and_cut_off() {
    let world = world();
    let siege = Siege::begin(&world, &["--body-deadline=2s"]);
    let mut slow: Vec<Wire> = (0..SLOW).map(|_| siege.open()).collect();
    for (nth, wire) in slow.iter_mut().enumerate() {
        let length = if nth % 2 == 0 { "Content-Length: 8388608" } else { "Transfer-Encoding: chunked" };
        wire.send(format!("POST /v1/heartbeats HTTP/1.1\r\nHost: test\r\n{length}\r\n\r\n"));
        if nth % 2 == 1 {
            wire.send("800000\r\n");
        }
        wire.send(" ".repeat(1_000));
    }
    for _ in 0..10 {
        for wire in &mut slow {
            wire.try_send(" ");
        }
        std::thread::sleep(DRIP);
    }
    for wire in &mut slow {
        let answer = wire.answer().expect("an answer");
        assert_eq!((answer.status, answer.problem()), (408, "body-timeout"));
        wire.await_end(Duration::from_secs(10));
    }
    siege.end(&format!("{SLOW} slow bodies"));
}

#[test]
fn slow_large_bodies_of_one_address_leave_room_for_others() {
    const LARGE: usize = 40;
    let world = world();
    let siege = Siege::begin_as(&world, &["--body-deadline=4s"], "127.0.0.9");
    let head = "POST /v1/heartbeats HTTP/1.1\r\nHost: test\r\nContent-Length: 8388608\r\n\r\n";
    // So much is enough for room to be made for all of it.
    let begin = [head.as_bytes(), &vec![b' '; 1_200 << 10]].concat();
    let mut large: Vec<Wire> = (0..LARGE).map(|_| siege.open_from("127.0.0.3")).collect();
    for wire in &mut large {
        wire.try_send(&begin);
    }
    let held = || siege.metric("systole_http_byte_budget_used_bytes");
    wait::until("some to be let in", SOON, || held() >= 8e6);
    let held = held();
    assert!(held <= 17e6, "{held} bytes are held");
    let refused = large.iter_mut().filter_map(Wire::answer).filter(|answer| answer.problem() == "overloaded").count();
    assert!((LARGE - 2..LARGE).contains(&refused), "{refused} refused");
    siege.end(&format!("{LARGE} slow large bodies of one address, {refused} refused"));
}

#[test]
fn a_thousand_requests_in_one_write_are_answered_in_their_order() {
    let world = world();
    let siege = Siege::begin(&world, &[]);
    let beats: Vec<Beat> = (0..1_000).map(|nth| Beat::of("pipelined", "d").id(&nth.to_string())).collect();
    let requests = beats
        .iter()
        .enumerate()
        .flat_map(|(nth, beat)| if nth % 10 == 0 { post("", "[{}]") } else { post("", beat.json().to_string()) });
    let requests: Vec<u8> = requests.collect();
    let mut wire = siege.open();
    wire.send(&requests);
    for (nth, beat) in beats.iter().enumerate() {
        let answer = wire.answer().expect("an answer");
        let wanted = if nth % 10 == 0 { 422 } else { 202 };
        assert_eq!(answer.status, wanted, "request {nth}: {}", answer.text);
        if wanted == 202 {
            world.ledger.keep(beat);
        }
    }
    siege.end("1,000 requests in one write");
}

#[test]
fn who_asks_and_never_reads_is_given_up() {
    const DEAF: u64 = 400;
    let world = world();
    let siege = Siege::begin(&world, &["--answer-deadline=2s"]);
    // Each more than is read ahead, and its answers more than the system takes for a client that reads none.
    let ask = "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n".repeat(4_000);
    let mut deaf: Vec<Wire> = (0..DEAF).map(|_| siege.open_from("127.0.0.1")).collect();
    for wire in &mut deaf {
        wire.send_without_waiting(&ask);
    }
    wait::until("them to be let in", SOON, || siege.open_files() >= DEAF);
    // Nothing is read here, so it is the process that ends them, once the system takes no more for them.
    wait::until("their connections to be given up", 4 * SOON, || siege.open_files() < DEAF / 10);
    drop(deaf);
    siege.end(&format!("{DEAF} clients that never read"));
}

#[test]
fn what_is_asked_ahead_of_answers_takes_little_memory() {
    const EAGER: u64 = 500;
    let world = world();
    let siege = Siege::begin(&world, &["--answer-deadline=60s"]);
    let before = siege.peak_mib();
    // As short as requests come: each would be some 6 KiB once it is parsed.
    let ask = "GET /openapi.json HTTP/1.0\nConnection: keep-alive\n\n".repeat(8_000);
    let mut eager: Vec<Wire> = (0..EAGER).map(|_| siege.open_from("127.0.0.1")).collect();
    for _ in 0..5 {
        for wire in &mut eager {
            wire.send_without_waiting(&ask);
        }
        std::thread::sleep(DRIP);
    }
    let grown = siege.peak_mib() - before;
    assert!(siege.open_files() >= EAGER, "they are cut off before their deadline");
    assert!(grown <= 100, "{grown} MiB for {EAGER} clients");
    drop(eager);
    siege.end(&format!("{EAGER} clients that ask ahead, {grown} MiB more"));
}

#[test]
fn long_heads_from_many_connections_take_little() {
    let world = world();
    let siege = Siege::begin(&world, &["--head-deadline=3s"]);
    let before = siege.peak_mib();
    let flood = format!("GET /health/live HTTP/1.1\r\nHost: test\r\nX: {}", "y".repeat(120 << 10));
    let mut wires: Vec<Wire> = (0..1_000).map(|_| siege.open()).collect();
    // Some stop just short of what would be too much.
    let short = &flood[..11 << 10];
    for (nth, wire) in wires.iter_mut().enumerate() {
        wire.send_without_waiting(if nth % 4 != 0 { flood.as_str() } else { short });
    }
    for wire in &mut wires {
        wire.await_end(Duration::from_secs(10));
    }
    let grown = siege.peak_mib() - before;
    assert!(grown <= 40, "{grown} MiB for 1,000 heads");
    siege.end(&format!("1,000 long heads, {grown} MiB more"));
}

#[test]
fn what_was_asked_before_half_a_connection_is_closed_is_answered() {
    let world = world();
    let siege = Siege::begin(&world, &[]);
    let beat = Beat::of("half", "d");
    let mut wire = siege.open();
    wire.send(post("", beat.json().to_string()));
    wire.half_close();
    assert_eq!(wire.answer().expect("an answer").status, 202);
    world.ledger.keep(&beat);
    wire.await_end(Duration::from_secs(5));
    // A body that breaks off there is no body, whatever it looks like.
    let lost = Beat::of("lost", "d").json().to_string();
    for head in [format!("Content-Length: {}", lost.len() + 1), "Transfer-Encoding: chunked".into()] {
        let mut wire = siege.open();
        wire.send(format!("POST /v1/heartbeats HTTP/1.1\r\nHost: test\r\n{head}\r\n\r\n"));
        wire.send(if head.starts_with('C') { lost.clone() } else { format!("{:x}\r\n{lost}\r\n", lost.len()) });
        wire.half_close();
        if let Some(answer) = wire.answer() {
            assert_eq!((answer.status, answer.problem()), (400, "body-incomplete"), "{}", answer.text);
        }
        wire.await_end(Duration::from_secs(5));
    }
    let mut silent = siege.open();
    silent.half_close();
    silent.await_end(Duration::from_secs(5));
    siege.end("half-closed connections");
}

#[test]
fn nothing_behind_a_request_of_doubtful_length_is_taken_for_one() {
    let world = world();
    let siege = Siege::begin(&world, &[]);
    let smuggled = post("", Beat::of("smuggled", "d").json().to_string());
    for doubt in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    ] {
        let mut wire = siege.open();
        let head = format!("POST /v1/heartbeats HTTP/1.1\r\nHost: test\r\n{doubt}");
        wire.try_send([head.as_bytes(), &smuggled].concat());
        let answer = wire.answer().expect("an answer");
        assert_eq!(answer.status, 400, "{doubt:?}");
        assert!(wire.answer().is_none(), "{doubt:?}: a second answer");
    }
    // Were one taken in, the ledger would find it invented.
    siege.end("requests behind one of doubtful length");
}

#[test]
fn an_expectation_is_met_before_the_body_is_asked_for() {
    let world = world();
    let siege = Siege::begin(&world, &["--body-deadline=1s"]);
    let beat = Beat::of("expectant", "d");
    let body = beat.json().to_string();
    let mut wire = siege.open();
    wire.send(format!(
        "POST /v1/heartbeats HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    assert_eq!(wire.answer().expect("an answer").status, 100);
    wire.send(body);
    assert_eq!(wire.answer().expect("an answer").status, 202);
    world.ledger.keep(&beat);
    // Who asks to speak another protocol is not followed there, and its body has no end but the deadline's.
    let mut wire = siege.open();
    wire.send("POST /v1/heartbeats HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let answer = wire.answer().expect("an answer");
    assert_eq!((answer.status, answer.problem()), (408, "body-timeout"), "{}", answer.text);
    siege.end("expectations");
}

/// Allows this process, and those it starts, as many open files as the system lets it. How many that are.
fn open_files() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.unwrap_or(u64::MAX)
}

#[test]
fn ten_thousand_idle_connections_keep_nobody_out() {
    const WANTED: usize = 9_900;
    let files = usize::try_from(open_files()).unwrap_or(usize::MAX);
    let count = WANTED.min(files.saturating_sub(500));
    if count < WANTED {
        skip("9,900 idle connections", &format!("only {files} files may be open; {count} are tried"));
    }
    let world = world();
    let siege = Siege::begin(&world, &["--head-deadline=120s"]);
    let mut idle: Vec<Wire> = Vec::with_capacity(count);
    for nth in 0..count {
        let mut wire = siege.open();
        // Some have asked once; the others never say anything.
        if nth % 4 == 0 {
            wire.send("GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(wire.answer().expect("an answer").status, 200);
        }
        idle.push(wire);
    }
    std::thread::sleep(Duration::from_secs(1));
    let ended = idle.iter_mut().map(Wire::has_ended).filter(|ended| *ended).count();
    assert_eq!(ended, 0, "connections that were cut off");
    drop(idle);
    siege.end(&format!("{count} idle connections"));
}
