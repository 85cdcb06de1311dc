//! Secrets stay secret: the password of Redis stands in no log, answer, error or print of the settings, wherever it came
//! from and whatever goes wrong with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use support::{Beats, Launch, RedisServer, SOON, Systole, World};

/// With everything that a URL must escape, so that both forms can leak.
const SECRET: &str = "pässwörd/17?@x";
const SECRET_IN_URL: &str = "p%C3%A4ssw%C3%B6rd%2F17%3F%40x";
/// What of it must not be seen, however it is escaped: both forms contain it.
const TELLING: [&str; 4] = ["pässwörd", "p%C3", "17%3F", "17?@"];

fn guarded() -> World {
    World::on_redis(RedisServer::with().start())
}

fn url_with_secret(world: &World) -> String {
    format!("redis://:{SECRET_IN_URL}@127.0.0.1:{}", world.redis().port())
}

fn assert_silent(what: &str, text: &str) {
    for part in TELLING {
        assert!(!text.contains(part), "{what} tells `{part}`: {text}");
    }
}

fn assert_process_silent(process: &Systole) {
    for path in ["/health", "/health/ready", "/metrics"] {
        let answer = process.get(path).unwrap();
        assert_silent(path, &answer.text);
    }
    assert_silent("standard output", &process.said());
    assert_silent("the log", &process.log().join("\n"));
}

/// Every way in: the flag, the variable, the file of settings, and the file of the password.
fn ways(world: &World, launch: impl Fn() -> Launch) -> Vec<(&'static str, Launch)> {
    let url = url_with_secret(world);
    let folder = world.dataset().parent().unwrap();
    std::fs::write(folder.join("secret.toml"), format!("buffer = \"{url}\"\n")).unwrap();
    std::fs::write(folder.join("password"), format!("{SECRET}\n")).unwrap();
    let plain = format!("redis://127.0.0.1:{}", world.redis().port());
    vec![
        ("flag", launch().args([format!("--buffer={url}")])),
        ("variable", launch().without("--buffer").env("SYSTOLE_BUFFER", &url)),
        ("file", launch().without("--buffer").args(["--config=secret.toml"])),
        ("password file", launch().args([format!("--buffer={plain}"), "--redis-password-file=password".to_owned()])),
    ]
}

#[test]
fn a_password_that_fits_is_never_shown() {
    let world = guarded();
    world.register();
    world.redis().cli(&["CONFIG", "SET", "requirepass", SECRET]);
    for (way, launch) in ways(&world, || world.serve().args(["--log=trace"])) {
        let serve = launch.start();
        serve.await_status("/health/ready", 200, SOON);
        world.client(&serve).must_keep(&Beats::new(1, 1).take(3));
        assert_process_silent(&serve);
        assert!(!serve.log().is_empty(), "{way}: a silent log proves nothing");
        serve.stop();
    }
}

#[test]
fn a_password_that_is_refused_is_never_shown() {
    let world = guarded();
    world.redis().cli(&["CONFIG", "SET", "requirepass", "another one"]);
    for (way, launch) in ways(&world, || world.serve().args(["--log=trace"])) {
        let ended = launch.run();
        assert!(!ended.status.success(), "{way}");
        assert_silent(way, &ended.stderr);
        assert_silent(way, &ended.stdout);
    }
}

#[test]
fn a_password_in_a_url_that_is_wrong_is_never_shown() {
    let world = guarded();
    // Else the missing dataset would be found first.
    world.register();
    for url in [
        "redis://:SECRET@127.0.0.1:1",
        "redis://:SECRET@no.such.host.invalid:6379",
        "redis://:SECRET@127.0.0.1:99999",
        "redis://user:SECRET@[::1",
        "http://user:SECRET@127.0.0.1",
        "redis:user:SECRET@127.0.0.1",
        "SECRET@127.0.0.1:6379",
        "redis://:SECRET@127.0.0.1:1,redis://:SECRET@127.0.0.1:2",
    ] {
        for secret in [SECRET, SECRET_IN_URL] {
            let url = url.replace("SECRET", secret);
            // It does not wait for a Redis that is away, as the servers do.
            let audit = world.books(&["audit", "--connect-timeout=300ms", "--log=trace"]);
            let ended = audit.args([format!("--buffer={url}")]).run();
            assert!(!ended.status.success(), "{url}");
            assert!(ended.stderr.contains("buffer"), "{url}: {}", ended.stderr);
            assert_silent(&url.replace(secret, "…"), &format!("{}{}", ended.stdout, ended.stderr));
        }
    }
}

#[test]
fn the_settings_in_force_and_the_help_hide_passwords() {
    let world = guarded();
    for (way, launch) in ways(&world, || world.launch("config").args(["serve"])) {
        let ended = launch.run().expect_code(0);
        assert_silent(way, &format!("{}{}", ended.stdout, ended.stderr));
    }
    let url = url_with_secret(&world);
    let help = world.launch("serve").args(["--help"]).env("SYSTOLE_BUFFER", &url).run().expect_code(0);
    assert_silent("the help", &help.stdout);
    // A flag that is wrong beside it: the message repeats that one only.
    let wrong = world.serve().without("--buffer").args([format!("--buffer={url}"), "--user-rate=x".into()]).run();
    assert_silent("advice", &format!("{}{}", wrong.stdout, wrong.stderr));
}
