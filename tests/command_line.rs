//! A person who types a wrong flag, port, path or URL gets one line that says what to do, and an exit code that tells apart
//! wrong usage (2), out of reach (3) and something found wrong (1).
//!
//! Of the commands for processes apart, and so on Redis; `up` stands in tests/up_command.rs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::net::TcpListener;

use support::{Buffer, RedisServer, World};

#[test]
fn a_wrong_flag_or_value_is_named_in_one_line() {
    let world = World::on(Buffer::Redis);
    world.launch("serve").args(["--nonsense"]).refused(2, &["--nonsense", "--help"]);
    world.launch("serve").args(["--listen=8080"]).refused(2, &["--listen", "8080", "ADDR:PORT"]);
    world.launch("batch").args(["--max-delay=soon"]).refused(2, &["--max-delay", "soon"]);
    world.launch("compact").args(["--publish-rows=0"]).refused(2, &["--publish-rows", "0", "1.."]);
    world.launch("batch").args(["--step-deadline=1h"]).refused(2, &["lease-ttl", "step-deadline", "1h"]);
    world.launch("serve").args(["--log=loud=x"]).refused(2, &["log", "loud"]);
}

#[test]
fn a_wrong_variable_or_line_of_the_file_is_named_with_its_place() {
    let world = World::on(Buffer::Redis);
    world.launch("serve").env("SYSTOLE_MAX_BULK", "many").refused(2, &["--max-bulk", "many", "SYSTOLE_MAX_BULK"]);
    let file = world.dataset().parent().unwrap().join("wrong.toml");
    let with = |text: &str| {
        std::fs::write(&file, text).unwrap();
        world.launch("batch").args([format!("--config={}", file.display())])
    };
    with("max-dealy = '1s'").refused(2, &["wrong.toml", "max-dealy"]);
    with("[batch]\nmax-delay = 'soon'").refused(2, &["--max-delay", "soon", "wrong.toml"]);
    with("max-delay = [").refused(2, &["wrong.toml"]);
    std::fs::remove_file(&file).unwrap();
    world.launch("batch").args([format!("--config={}", file.display())]).refused(2, &["wrong.toml"]);
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
    serve.refused(3, &["listen", "cannot listen on"]);

    world.register();
    let nobody = "--buffer=redis://127.0.0.1:1".to_owned();
    let audit = world.launch("audit").args([format!("--data={}", world.dataset().display()), nobody]);
    audit.refused(3, &["out of reach"]);
}

#[test]
fn a_folder_without_a_dataset_is_named() {
    let world = World::on(Buffer::Redis);
    let nowhere = world.dataset().join("nowhere");
    let data = format!("--data={}", nowhere.display());
    world.launch("verify").args([data.clone()]).refused(2, &["no dataset", "nowhere"]);
    world.launch("compact").args([data]).refused(2, &["no dataset", "nowhere"]);
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
