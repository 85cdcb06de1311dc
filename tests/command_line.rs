//! A person who types a wrong flag, port, path or URL gets one line that says what to do, and an exit code that tells apart
//! wrong usage (2), out of reach (3) and something found wrong (1).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::net::TcpListener;

use support::{Buffer, RedisServer, World};

/// Runs it, expects the exit code and exactly one line of advice that names each of `words`.
fn one_line(launch: support::Launch, code: i32, words: &[&str]) {
    let ended = launch.run().expect_code(code);
    let advice: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("systole: ")).collect();
    assert_eq!(advice.len(), 1, "{}", ended.stderr);
    let plain = ended.stderr.lines().filter(|line| !line.starts_with('{')).count();
    assert_eq!(plain, 1, "{}", ended.stderr);
    for word in words {
        assert!(advice[0].contains(word), "`{word}` is missing: {}", advice[0]);
    }
}

#[test]
fn a_wrong_flag_or_value_is_named_in_one_line() {
    let world = World::on(Buffer::Redis);
    one_line(world.launch("serve").args(["--nonsense"]), 2, &["--nonsense", "--help"]);
    one_line(world.launch("serve").args(["--listen=8080"]), 2, &["--listen", "8080", "ADDR:PORT"]);
    one_line(world.launch("batch").args(["--max-delay=soon"]), 2, &["--max-delay", "soon"]);
    one_line(world.launch("compact").args(["--publish-rows=0"]), 2, &["--publish-rows", "0", "1.."]);
    one_line(world.launch("batch").args(["--step-deadline=1h"]), 2, &["lease-ttl", "step-deadline", "1h"]);
    one_line(world.launch("serve").args(["--log=loud=x"]), 2, &["log", "loud"]);
}

#[test]
fn a_wrong_variable_or_line_of_the_file_is_named_with_its_place() {
    let world = World::on(Buffer::Redis);
    one_line(world.launch("serve").env("SYSTOLE_MAX_BULK", "many"), 2, &["--max-bulk", "many", "SYSTOLE_MAX_BULK"]);
    let file = world.dataset().parent().unwrap().join("wrong.toml");
    let with = |text: &str| {
        std::fs::write(&file, text).unwrap();
        world.launch("batch").args([format!("--config={}", file.display())])
    };
    one_line(with("max-dealy = '1s'"), 2, &["wrong.toml", "max-dealy"]);
    one_line(with("[batch]\nmax-delay = 'soon'"), 2, &["--max-delay", "soon", "wrong.toml"]);
    one_line(with("max-delay = ["), 2, &["wrong.toml"]);
    std::fs::remove_file(&file).unwrap();
    one_line(world.launch("batch").args([format!("--config={}", file.display())]), 2, &["wrong.toml"]);
}

#[test]
fn a_wrong_url_is_named_without_its_password() {
    let world = World::on(Buffer::Redis);
    let launch = world.launch("serve").args(["--buffer=http://me:hunter2@localhost:6379"]);
    let ended = launch.run().expect_code(2);
    assert!(ended.stderr.contains("redis://host:6379"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);

    let launch = world.launch("config").args(["serve", "--buffer=redis://me:hunter2@localhost:6379"]);
    let shown = launch.run().expect_code(0).stdout;
    assert!(shown.contains("redis://me:***@localhost:6379") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_taken_port_and_an_absent_service_are_out_of_reach() {
    let world = World::on(Buffer::Redis);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    let serve = world.launch("serve").args([format!("--buffer={}", world.redis().url()), listen]);
    one_line(serve, 3, &["listen", "cannot listen on"]);

    world.register();
    let nobody = "--buffer=redis://127.0.0.1:1".to_owned();
    let audit = world.launch("audit").args([format!("--data={}", world.dataset().display()), nobody]);
    one_line(audit, 3, &["out of reach"]);
}

#[test]
fn a_folder_without_a_dataset_is_named() {
    let world = World::on(Buffer::Redis);
    let nowhere = world.dataset().join("nowhere");
    let data = format!("--data={}", nowhere.display());
    one_line(world.launch("verify").args([data.clone()]), 2, &["no dataset", "nowhere"]);
    one_line(world.launch("compact").args([data]), 2, &["no dataset", "nowhere"]);
}

#[test]
fn a_buffer_of_another_dataset_is_refused() {
    let first = World::on(Buffer::Redis);
    first.register();
    let second = World::on_redis(RedisServer::start());
    second.register();
    let data = format!("--data={}", second.dataset().display());
    for command in ["audit", "adopt"] {
        let launch = first.launch(command).args([format!("--buffer={}", first.redis().url()), data.clone()]);
        let ended = launch.run().expect_code(2);
        assert!(ended.stderr.contains("dataset"), "{}", ended.stderr);
    }
}

#[test]
fn what_is_in_force_can_be_printed_and_used_again() {
    let world = World::on(Buffer::Redis);
    let shown = world.launch("config").args(["batch", "--max-delay=1s"]).run().expect_code(0).stdout;
    assert!(shown.contains("max-delay = \"1s\"  # flag"), "{shown}");
    assert!(shown.contains("data = \"./data\"  # default"), "{shown}");
    let file = world.dataset().parent().unwrap().join("systole.toml");
    std::fs::write(&file, shown).unwrap();
    let config = format!("--config={}", file.display());
    let again = world.launch("config").args(["batch".to_owned(), config]).run().expect_code(0).stdout;
    assert!(again.contains("max-delay = \"1s\"  # ") && again.contains("systole.toml"), "{again}");
}
