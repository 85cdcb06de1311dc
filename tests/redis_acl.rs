//! The ACL file in `deploy/redis`: with it every role works, and nothing else is allowed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Beats, Launch, RedisServer, SOON, World, wait};
use tempfile::TempDir;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/redis/systole.acl");
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/buffer/redis/lua");
const USERS: [&str; 3] = ["systole-serve", "systole-batch", "systole-admin"];
const PASSWORD: &str = "a long password";
const PASSWORD_SHA256: &str = "57d97be35f73c41156e93e6617bce1fdb8bd07132a96a844b6f5d3329189d69b";

/// What anybody may run, logged in or not.
const FOR_ALL: [&str; 4] = ["auth", "hello", "quit", "reset"];

/// What is called from outside of the scripts, by Systole or by its client library.
const CALLED: [&str; 12] = [
    "ping",
    "info",
    "config|get",
    "role",
    "wait",
    "cluster|slots",
    "asking",
    "script|load",
    "evalsha",
    "evalsha_ro",
    "zrem",
    "hgetall",
];

/// A Redis with the file, filled in; its default user stands for the operator, so that the test can look.
fn guarded() -> (RedisServer, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(FILE).unwrap();
    assert!(text.starts_with("user default off\n"), "the default user must be off");
    let text = text.replace("PASSWORD-SHA256", PASSWORD_SHA256).replace("default off", "default on nopass ~* &* +@all");
    let file = folder.path().join("systole.acl");
    std::fs::write(&file, text).unwrap();
    std::fs::write(folder.path().join("password"), format!("{PASSWORD}\n")).unwrap();
    (RedisServer::with().set("aclfile", file.to_str().unwrap()).start(), folder)
}

/// Lets it log in as `user`, with the password in its file.
fn as_user(launch: Launch, user: &str, redis: &RedisServer, secrets: &Path) -> Launch {
    let url = format!("--buffer=redis://{user}@127.0.0.1:{}", redis.port());
    launch.args([url, format!("--redis-password-file={}", secrets.join("password").display())])
}

/// Everything that Redis refused by its ACL, as it says it.
fn refusals(redis: &RedisServer) -> String {
    redis.cli(&["ACL", "LOG"])
}

#[test]
fn every_role_works_under_its_user() {
    let (redis, secrets) = guarded();
    let world = World::on_redis(redis);
    let login = |launch: Launch, user: &str| as_user(launch, user, world.redis(), secrets.path());
    let people = |words: &[&str]| login(world.books(words), "systole-admin").run().expect_code(0);

    let broken = login(world.batch().failpoints("batcher.encode=panic"), "systole-batch").start();
    let serve = login(world.serve(), "systole-serve").start();
    serve.await_status("/health/ready", 200, SOON);
    let client = world.client(&serve);
    let beats = Beats::new(3, 5);
    client.must_keep(&beats.take(2));
    let read = serve.get("/v1/users/user-0/heartbeats").unwrap();
    assert_eq!((read.status, read.body["covers"].as_str()), (200, Some("buffer")), "{}", read.text);
    wait::until("two dead letters", SOON, || world.held("dead") == 2);
    wait::until("a server to tell of them", SOON, || {
        let status = serve.get("/v1/status").expect("an answer").body;
        status["dead_letters"]["letters"].as_array().is_some_and(|letters| letters.len() == 2)
    });
    broken.stop();
    for path in ["/v1/silent", "/v1/users/user-0/devices"] {
        serve.await_status(path, 200, SOON);
    }
    people(&["silent"]);
    let listed = people(&["dead-letters", "list", "--json"]).json();
    let id = |at: usize| listed[at]["id"].as_str().unwrap().to_owned();
    people(&["dead-letters", "show", &id(0)]);
    people(&["dead-letters", "retry", &id(0)]);
    people(&["dead-letters", "retry", &id(1)]);

    // Nothing that a push has written: it is set aside, and can be dropped.
    world.redis().cli(&["RPUSH", "systole:{p0}:pending", "no frame at all"]);
    let batch = login(world.batch(), "systole-batch").start();
    client.must_keep(&beats.take(500));
    world.await_drained(SOON);
    let stranger = wait::value("a dead letter of the stranger", SOON, || {
        let listed = people(&["dead-letters", "list", "--json"]).json();
        listed[0]["id"].as_str().map(str::to_owned).ok_or(listed.to_string())
    });
    people(&["dead-letters", "drop", &stranger]);
    serve.stop();
    batch.stop();
    let made = people(&["token", "create", "--scope=write", "--user=ada", "--json"]).json();
    let id = made["id"].as_str().unwrap();
    let serve = login(world.serve(), "systole-serve").start();
    let client = world.client(&serve);
    wait::until("the door to know the token", SOON, || client.post_all(&beats.take(1)).status == 401);
    people(&["token", "list"]);
    people(&["token", "revoke", id]);
    serve.stop();
    world.publish();
    people(&["audit"]);
    world.verify();
    assert_eq!(refusals(world.redis()), "");
}

#[test]
fn people_move_in_and_adopt_under_their_user() {
    let (redis, secrets) = guarded();
    let world = World::on_redis(redis);
    let people = |launch: Launch| as_user(launch, "systole-admin", world.redis(), secrets.path());
    let data = format!("--data={}", world.dataset().display());

    // A claim stands, and more waits behind it.
    let mut up = world.up().failpoints("fragment.created=error").start();
    up.await_status("/health/ready", 200, SOON);
    let beats = Beats::new(3, 5);
    (0..5).for_each(|_| world.client(&up).must_keep(&beats.take(100)));
    up.sigkill();
    people(world.launch("drain").args([data.clone()])).run().expect_code(0);
    let batch = as_user(world.batch(), "systole-batch", world.redis(), secrets.path()).start();
    world.await_drained(SOON);
    batch.stop();
    world.publish();

    world.redis().cli(&["FLUSHALL"]);
    people(world.launch("adopt").args([data])).run().expect_code(0);
    let audit = people(world.books(&["audit", "--json"])).run().expect_code(0).json();
    assert_eq!(audit["verdict"], "surplus");
    assert_eq!(refusals(world.redis()), "");
}

#[test]
fn the_door_watches_over_silence_under_its_user() {
    let (redis, secrets) = guarded();
    let world = World::on_redis(redis);
    let login = |launch: Launch, user: &str| as_user(launch, user, world.redis(), secrets.path());
    let rules = secrets.path().join("systole.toml");
    // Nobody listens there: what is told stays in the buffer.
    let rule = "[[silence]]\nmatch = \"*\"\nafter = \"1s\"\nwebhook = \"http://127.0.0.1:9/\"\n";
    std::fs::write(&rules, rule).unwrap();
    let batch = login(world.batch(), "systole-batch").start();
    let flags = [format!("--config={}", rules.display()), "--silence-every=100ms".to_owned()];
    let serve = login(world.serve().args(flags), "systole-serve").start();
    serve.await_status("/health/ready", 200, SOON);
    wait::until("the watch", SOON, || serve.metrics().sum("systole_silence_watching") == Some(1.0));
    for _ in 0..2 {
        world.client(&serve).must_keep(&[support::Beat::of("ada", "device")]);
        wait::until("it to fall silent", SOON, || serve.metrics().sum("systole_silence_raised") == Some(1.0));
    }
    serve.stop();
    batch.stop();
    assert_eq!(refusals(world.redis()), "");
}

#[test]
fn a_wrong_password_is_answered_in_one_line() {
    let (redis, secrets) = guarded();
    std::fs::write(secrets.path().join("password"), "wrong").unwrap();
    let world = World::on_redis(redis);
    as_user(world.batch(), "systole-batch", world.redis(), secrets.path()).refused(2, &["SYSTOLE_REDIS_PASSWORD_FILE"]);
}

/// A command of this Redis: how its ACL names it, and how many words it takes at least.
struct Command {
    name: String,
    words: usize,
}

/// Every command and subcommand that this Redis knows.
fn commands(redis: &RedisServer) -> Vec<Command> {
    fn collect(of: &Value, into: &mut Vec<Command>) {
        for command in of.as_array().unwrap() {
            let words = command[1].as_i64().unwrap().unsigned_abs();
            let subcommands = command[9].as_array().unwrap();
            if subcommands.is_empty() {
                into.push(Command { name: command[0].as_str().unwrap().into(), words: words.try_into().unwrap() });
            }
            collect(&command[9], into);
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::from_str(&redis.cli(&["--json", "COMMAND"])).unwrap(), &mut found);
    found
}

/// Whether the user may run the command on this key.
fn may(redis: &RedisServer, user: &str, command: &Command, key: &str) -> bool {
    let mut asked = vec!["ACL", "DRYRUN", user];
    asked.extend(command.name.split('|'));
    // Numbers of keys are numbers; whatever else is no key does not matter to the rules.
    let given = asked.len() - 3;
    asked.extend(std::iter::repeat_n(key, command.words.saturating_sub(given)));
    if let "evalsha" | "evalsha_ro" = command.name.as_str() {
        asked = vec!["ACL", "DRYRUN", user, &command.name, "0123456789012345678901234567890123456789", "1", key];
    }
    let answer = redis.cli(&asked);
    assert!(answer == "OK" || answer.contains("no permissions"), "{asked:?}: {answer}");
    answer == "OK"
}

/// The commands that the scripts call, by reading them.
fn called_by_scripts() -> BTreeSet<String> {
    let mut called = BTreeSet::new();
    for entry in std::fs::read_dir(SCRIPTS).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for call in ["redis.call('", "redis.pcall('"] {
            called.extend(text.split(call).skip(1).map(|rest| rest.split('\'').next().unwrap().to_lowercase()));
        }
    }
    called
}

#[test]
fn nobody_may_do_what_systole_does_not_do() {
    let (redis, _secrets) = guarded();
    let mut used = called_by_scripts();
    used.extend(CALLED.map(str::to_owned));
    let mut allowed = BTreeSet::new();
    for command in commands(&redis).into_iter().filter(|command| !FOR_ALL.contains(&command.name.as_str())) {
        for user in USERS {
            if may(&redis, user, &command, "systole:{p3}:state") {
                assert!(used.contains(&command.name), "{user} may {}", command.name);
                allowed.insert(command.name.clone());
            }
        }
    }
    assert_eq!(allowed, used, "what is used must be allowed to somebody, and the other way round");
}

#[test]
fn nobody_may_touch_the_keys_of_others() {
    let (redis, _secrets) = guarded();
    let write = Command { name: "hset".into(), words: 4 };
    let script = Command { name: "evalsha".into(), words: 3 };
    for user in USERS {
        for key in ["systole:{p3}:state", "systole:{p3}:pending", "systole:batchers"] {
            assert!(may(&redis, user, &write, key) && may(&redis, user, &script, key), "{user} needs {key}");
        }
        for key in ["other", "systole", "systole:", "systole:{p3}", "xsystole:{p3}:state", "systole:batchers2"] {
            assert!(!may(&redis, user, &write, key) && !may(&redis, user, &script, key), "{user} may touch {key}");
        }
    }
    assert!(may(&redis, "systole-serve", &write, "systole:{p3}:devices"));
    for key in ["systole:{p3}:processing", "systole:{p3}:dead"] {
        assert!(!may(&redis, "systole-serve", &write, key), "the door needs no {key}");
        assert!(!may(&redis, "systole-serve", &script, key), "the door needs no {key}");
    }
    let look = Command { name: "evalsha_ro".into(), words: 3 };
    assert!(may(&redis, "systole-serve", &look, "systole:{p3}:processing"), "readers ask the door for what is claimed");
    assert!(may(&redis, "systole-serve", &look, "systole:{p3}:dead"), "the page asks the door for dead letters");
}

#[test]
fn the_file_as_it_is_cannot_be_used_without_passwords() {
    let text = std::fs::read_to_string(PathBuf::from(FILE)).unwrap();
    assert_eq!(text.matches("#PASSWORD-SHA256 ").count(), USERS.len());
    assert!(!text.contains("nopass"));
}

#[test]
fn only_people_make_and_revoke_tokens() {
    let (redis, _secrets) = guarded();
    let commands = commands(&redis);
    for user in USERS {
        let mut may_run: Vec<&str> = commands
            .iter()
            .filter(|command| !FOR_ALL.contains(&command.name.as_str()) && may(&redis, user, command, "systole:tokens"))
            .map(|command| command.name.as_str())
            .collect();
        may_run.retain(|name| name.starts_with('h') || *name == "evalsha");
        may_run.sort_unstable();
        if user == "systole-admin" {
            assert_eq!(may_run, ["evalsha", "hdel", "hexists", "hget", "hgetall", "hset"]);
        } else {
            assert_eq!(may_run, ["hget", "hgetall"], "{user}");
        }
    }
}
