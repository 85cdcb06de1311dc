//! The limiter's memory, and who may speak for whom.

use crate::siege::{Siege, world};
use crate::support::{Beat, beats};
use crate::wire::post;

/// Posts nothing in the name of each of these addresses, many requests to a write; how many passed the limit by address.
fn passed(siege: &Siege<'_>, clients: impl Iterator<Item = String>) -> usize {
    let clients: Vec<String> = clients.collect();
    let mut wire = siege.open();
    let mut passed = 0;
    for some in clients.chunks(50) {
        let requests = some.iter().flat_map(|client| post(&format!("X-Forwarded-For: {client}\r\n"), ""));
        wire.send(requests.collect::<Vec<u8>>());
        for _ in some {
            let answer = wire.answer().expect("an answer");
            assert!([422, 429].contains(&answer.status), "{}", answer.text);
            passed += usize::from(answer.status == 422);
        }
    }
    passed
}

fn keys(siege: &Siege<'_>) -> f64 {
    siege.metric("systole_rate_limit_keys")
}

#[test]
fn a_proxy_whose_clients_rotate_through_addresses_finds_the_limiters_memory_bounded() {
    let world = world();
    let settings =
        ["--trusted-proxies=127.0.0.0/8", "--address-rate=1000", "--address-burst=10000", "--rate-limit-keys=500"];
    let siege = Siege::begin(&world, &settings);
    let fourth = (0..10_000_u32).map(|nth| std::net::Ipv4Addr::from(0x0a00_0000 + nth * 7).to_string());
    assert_eq!(passed(&siege, fourth), 10_000);
    let sixth =
        (0..10_000_u128).map(|nth| std::net::Ipv6Addr::from((0x2001_0db8 << 96) + (nth << 64) + nth).to_string());
    assert_eq!(passed(&siege, sixth), 10_000);
    let counted = keys(&siege);
    assert!((1.0..=500.0).contains(&counted), "{counted} keys");
    siege.end("20,000 rotating addresses");
}

#[test]
fn one_network_of_ipv6_is_one_client_however_many_addresses_it_has() {
    let world = world();
    let settings = ["--trusted-proxies=127.0.0.2/32", "--address-rate=40", "--address-burst=100"];
    let siege = Siege::begin_as(&world, &settings, "127.0.0.9");
    let hosts = (1..=1_000_u128).map(|nth| std::net::Ipv6Addr::from((0x2001_0db8_u128 << 96) + nth).to_string());
    let mut wire = siege.open_from("127.0.0.2");
    let mut passed = 0;
    for host in hosts {
        wire.send(post(&format!("X-Forwarded-For: {host}\r\n"), ""));
        passed += usize::from(wire.answer().expect("an answer").status == 422);
    }
    assert!(passed < 500, "{passed} of 1,000 passed: each address has an allowance of its own");
    siege.end("1,000 addresses of one /64");
}

#[test]
fn who_is_no_proxy_speaks_for_itself_alone() {
    let world = world();
    let settings = ["--trusted-proxies=127.0.0.2/32", "--address-rate=40", "--address-burst=100"];
    let siege = Siege::begin_as(&world, &settings, "127.0.0.9");
    // It says to be the neighbour, a proxy, and a thousand others; it only uses up its own allowance by that.
    let mut wire = siege.open_from("127.0.0.3");
    let mut passed = 0;
    for nth in 0..1_000_u32 {
        let other = std::net::Ipv4Addr::from(0x0a00_0000 + nth);
        let forged = format!(
            "X-Forwarded-For: {other}, 127.0.0.9, 127.0.0.2\r\nForwarded: for=127.0.0.9\r\nX-Real-IP: 127.0.0.9\r\n"
        );
        wire.send(post(&forged, ""));
        passed += usize::from(wire.answer().expect("an answer").status == 422);
    }
    assert!(passed < 500, "{passed} of 1,000 passed by a forged header");
    siege.end("1,000 forged forwarding headers");
}

#[test]
fn users_that_rotate_find_the_limiters_memory_bounded() {
    let world = world();
    let siege = Siege::begin(&world, &["--user-rate=1000", "--user-burst=10000", "--rate-limit-keys=500"]);
    let client = siege.client();
    let now = beats::now_ms();
    let mut most = 0.0_f64;
    for bulk in 0..10 {
        let beats: Vec<Beat> = (0..5_000).map(|nth| Beat::at(&format!("rotating-{bulk}-{nth}"), "d", now)).collect();
        client.must_keep(&beats);
        most = most.max(keys(&siege));
    }
    // Not after each: whoever has all of the burst again is pruned, which may be all of them.
    assert!((1.0..=500.0).contains(&most), "{most} keys");
    siege.end("50,000 rotating users");
}
