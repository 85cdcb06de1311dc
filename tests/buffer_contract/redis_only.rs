//! What only Redis can do wrong, or forbid, or forget.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use systole::buffer::options::Options;
use systole::buffer::redis::{self, RedisBuffer};
use systole::buffer::{Buffer, ClaimBudget, Condemned, Error, LeaseAnswer, Reach, Registration, Witness};
use systole::heartbeat::{BatcherId, ClaimId, DatasetId, Frame, HeartbeatRef};

use crate::backend::{AMPLE, Backend, DATASET, Redis, connect, registered};
use crate::redis_server::{RedisServer, Setup};
use crate::suite::{ALL, MINUTE, claim, frame, lease, ledger, push};

fn at(server: &RedisServer) -> redis::Options {
    at_url(server.url())
}

fn at_url(url: impl AsRef<str>) -> redis::Options {
    redis::Options { buffer: Some(url.as_ref().parse().unwrap()), ..Default::default() }
}

fn open(place: &redis::Options) -> Arc<dyn Buffer> {
    connect(&Options::default(), place)
}

fn reach(place: &redis::Options) -> RedisBuffer {
    RedisBuffer::connect(&Options::default(), place).unwrap()
}

fn short(server: &RedisServer) -> Arc<dyn Buffer> {
    let deadline = Duration::from_millis(300).into();
    let options = Options { push_deadline: deadline, step_deadline: deadline, ..Options::default() };
    let place = redis::Options { connect_timeout: Duration::from_millis(200).into(), ..at(server) };
    connect(&options, &place)
}

#[tokio::test]
async fn a_redis_that_would_forget_is_refused_with_the_line_to_write() {
    let start = |setup: Setup| setup.start();
    for (server, line) in [
        (start(RedisServer::with().appendonly("no")), "appendonly yes"),
        (start(RedisServer::with().maxmemory_policy("allkeys-lru")), "maxmemory-policy noeviction"),
    ] {
        let error = reach(&at(&server)).startup_check().await.unwrap_err();
        assert!(matches!(&error, Error::Unsafe { advice } if advice.contains(line)), "{error}");
        let volatile = redis::Options { allow_volatile_buffer: true, ..at(&server) };
        let durability = reach(&volatile).startup_check().await.unwrap();
        assert_eq!(durability.level, "volatile");
    }
    for fsync in ["always", "everysec", "no"] {
        let server = RedisServer::with().appendfsync(fsync).start();
        assert_eq!(open(&at(&server)).durability().await.unwrap().level, fsync);
    }
}

#[tokio::test]
async fn a_redis_that_hides_its_settings_is_refused_with_what_to_do() {
    let server = RedisServer::start();
    server.cli(&["ACL", "SETUSER", "systole", "on", ">pw", "~*", "+@all", "-config"]);
    let place = at_url(format!("redis://systole:pw@127.0.0.1:{}", server.port()));
    let error = reach(&place).startup_check().await.unwrap_err().to_string();
    assert!(error.contains("+config|get") && !error.contains('\n'), "{error}");
    let volatile = redis::Options { allow_volatile_buffer: true, ..place };
    assert_eq!(reach(&volatile).startup_check().await.unwrap().level, "volatile");
}

#[tokio::test]
async fn a_password_comes_by_url_or_file_and_is_never_shown() {
    let server = RedisServer::start();
    server.cli(&["CONFIG", "SET", "requirepass", "s3cret"]);
    let url = format!("redis://:s3cret@127.0.0.1:{}", server.port());
    open(&at_url(&url)).durability().await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    let by_file = redis::Options { redis_password_file: Some(file.path().into()), ..at(&server) };
    let buffer = open(&by_file);
    buffer.register(DATASET).await.unwrap();
    assert!(!format!("{buffer:?}").contains("s3cret"));
    for buffer in [open(&at(&server)), open(&at_url(url.replace("s3", "n0")))] {
        let error = buffer.register(DATASET).await.unwrap_err();
        assert!(
            matches!(&error, Error::Unsafe { advice } if advice.contains("password") && !advice.contains("cret")),
            "{error}"
        );
    }
    let missing = redis::Options { redis_password_file: Some("/nowhere".into()), ..at(&server) };
    assert!(
        RedisBuffer::connect(&Options::default(), &missing).unwrap_err().to_string().contains("redis-password-file")
    );
}

#[tokio::test]
async fn a_unix_socket_does_as_well() {
    let server = RedisServer::start();
    let buffer = open(&at_url(server.unix_url()));
    buffer.register(DATASET).await.unwrap();
    push(&*buffer, 0, &frame(1, 1)).await.unwrap();
}

#[tokio::test]
async fn an_erased_or_exchanged_redis_is_an_alarm_and_no_fresh_start() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    push(&*buffer, 0, &frame(1, 1)).await.unwrap();
    redis.server.cli(&["FLUSHALL"]);
    assert!(matches!(push(&*buffer, 0, &frame(2, 1)).await, Err(Error::NotRegistered)));
    assert!(matches!(buffer.registration().await, Err(Error::NotRegistered)));
    assert!(matches!(buffer.ping().await, Err(Error::NotRegistered)));
    assert_eq!(redis.server.cli(&["DBSIZE"]), "0", "nothing was written into the empty one");

    let other = Registration { dataset: DatasetId::from_u128(0xbad), partitions: 2 };
    redis.open(AMPLE).register(other).await.unwrap();
    assert!(matches!(push(&*buffer, 0, &frame(3, 1)).await, Err(Error::ForeignDataset { .. })));
    assert!(matches!(buffer.registration().await, Err(Error::ForeignDataset { .. })));
    assert!(matches!(buffer.register(DATASET).await, Err(Error::ForeignDataset { .. })));

    let expecting = reach(&redis.place());
    expecting.expect_dataset(DATASET.dataset);
    assert!(matches!(expecting.registration().await, Err(Error::ForeignDataset { .. })));
}

#[tokio::test]
async fn a_registration_that_was_cut_short_can_be_completed() {
    let redis = Redis::start();
    let dataset = DATASET.dataset.to_string();
    redis.server.cli(&["HSET", "systole:{p1}:state", "dataset", &dataset, "partitions", "2"]);
    let buffer = redis.open(AMPLE);
    assert_eq!(buffer.registration().await.unwrap(), None);
    buffer.register(DATASET).await.unwrap();
    push(&*buffer, 0, &frame(1, 1)).await.unwrap();
}

#[tokio::test]
async fn a_full_redis_refuses_pushes_and_is_drained_all_the_same() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    for tag in 0..50 {
        push(&*buffer, 0, &frame(tag, 100)).await.unwrap();
    }
    let lease = lease(&*buffer, 0).await;
    redis.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(matches!(push(&*buffer, 0, &frame(99, 1)).await, Err(Error::Refused { .. })));
    assert!(matches!(buffer.ping().await, Err(Error::Refused { .. })));
    buffer.announce(lease.batcher, Duration::from_secs(10)).await.unwrap();
    buffer.renew(&lease, Duration::from_secs(60)).await.unwrap();
    let claim = claim(&*buffer, &lease).await;
    buffer.take_in_hand(&lease, claim.id, Some(0)).await.unwrap();
    let condemned = [crate::suite::condemned(0, None, &frame(0, 100))];
    buffer.condemn(&lease, claim.id, &condemned).await.unwrap();
    buffer.ack(&lease, claim.id, &condemned).await.unwrap();
    let after = ledger(&*buffer, 0).await;
    assert_eq!((after.pending, after.claimed, after.acked, after.dead), (0, 0, 4_900, 100));
    redis.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    push(&*buffer, 0, &frame(99, 1)).await.unwrap();
}

#[tokio::test]
async fn flushed_scripts_are_loaded_again_and_nothing_is_run_twice() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    for round in 0..3 {
        redis.server.cli(&["SCRIPT", "FLUSH"]);
        let frames: Vec<_> = (0..10).map(|tag| (tag % 2, frame(round * 100 + u64::from(tag), 1))).collect();
        assert!(buffer.push(&frames).await.iter().all(Result::is_ok));
    }
    assert_eq!((ledger(&*buffer, 0).await.accepted, ledger(&*buffer, 1).await.accepted), (15, 15));
    assert_eq!(redis.server.cli(&["LLEN", "systole:{p0}:pending"]), "15");
}

fn clients(server: &RedisServer) -> Vec<String> {
    let list = server.cli(&["CLIENT", "LIST", "TYPE", "normal"]);
    let own = |line: &&str| !line.contains("cmd=client");
    list.lines().filter(own).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_connection_to_a_read_only_server_is_not_used_again() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    push(&*buffer, 0, &frame(1, 1)).await.unwrap();
    let before = clients(&redis.server);
    assert!(!before.is_empty());
    redis.server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    let refused = push(&*buffer, 0, &frame(2, 1)).await;
    assert!(matches!(&refused, Err(Error::Refused { reason }) if reason.contains("READONLY")), "{refused:?}");
    redis.server.cli(&["REPLICAOF", "NO", "ONE"]);
    push(&*buffer, 0, &frame(2, 1)).await.unwrap();
    let after = clients(&redis.server);
    assert!(before.iter().all(|id| !after.contains(id)), "{before:?} {after:?}");
}

fn assert_read_only<T: std::fmt::Debug>(answer: Result<T, Error>) {
    assert!(matches!(&answer, Err(Error::Refused { reason }) if reason.contains("READONLY")), "{answer:?}");
}

/// A master that was demoted may have missed what was acknowledged since, and tokens that were revoked.
#[tokio::test]
async fn a_replica_answers_no_question() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    push(&*buffer, 0, &frame(1, 1)).await.unwrap();
    let (_, devices) = redis.remembering(&Options::default());
    let (frames, tokens, alarms) = (redis.frames(), redis.tokens(), redis.alarms());
    assert!(tokens.create_token(&crate::tokens::stored()).await.unwrap());
    let version = tokens.tokens(None).await.unwrap().unwrap().version;
    assert_eq!(tokens.tokens(version).await.unwrap(), None);

    redis.server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_read_only(tokens.tokens(None).await);
    assert_read_only(tokens.tokens(version).await);
    assert_read_only(devices.devices_of(0, "u", None, 9).await);
    assert_read_only(devices.devices_unseen(0, i64::MAX, None, 9).await);
    assert_read_only(alarms.raised(None, 9).await);
    assert_read_only(alarms.outbox(None, 9).await);
    assert_read_only(frames.frames(0, None).await);
    assert_read_only(buffer.status(0).await);
    assert_read_only(buffer.room(&[(0, 1, 1)]).await);
    assert_read_only(buffer.batchers().await);
    assert_read_only(buffer.dead_letters(0, None, 9).await);
    assert_read_only(buffer.newest_dead_letters(0, 9).await);
    assert_read_only(redis.open(AMPLE).registration().await);

    redis.server.cli(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(tokens.tokens(version).await.unwrap(), None);
    devices.devices_unseen(0, i64::MAX, None, 9).await.unwrap();
    assert_eq!(buffer.status(0).await.unwrap().ledger.pending, 1);
}

#[tokio::test]
async fn frames_in_processing_without_a_claim_are_claimed_anew() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    push(&*buffer, 0, &frame(1, 2)).await.unwrap();
    push(&*buffer, 0, &frame(2, 3)).await.unwrap();
    let lost = claim(&*buffer, &lease(&*buffer, 0).await).await;
    redis.server.cli(&["DEL", "systole:{p0}:state"]);

    // A person says that this is right.
    let buffer = redis.open(AMPLE);
    buffer.register(DATASET).await.unwrap();
    push(&*buffer, 0, &frame(3, 1)).await.unwrap();
    let lease = lease(&*buffer, 0).await;
    let one = ClaimBudget { rows: 1, frames: 1, ..ALL };
    let again = buffer.claim(&lease, ClaimId::new(), one).await.unwrap().expect("what was in processing");
    assert_eq!((again.frames, again.rows), (lost.frames, 5), "all of it, and no more");
    assert_eq!(claim(&*buffer, &lease).await.id, again.id, "it stands");
    buffer.ack(&lease, again.id, &[]).await.unwrap();
    let next = claim(&*buffer, &lease).await;
    assert_eq!((next.frames, next.rows), (vec![frame(3, 1).bytes().clone()], 1));
    buffer.ack(&lease, next.id, &[]).await.unwrap();
    let status = buffer.status(0).await.unwrap();
    assert_eq!((status.ledger.accepted, status.ledger.acked, status.vanished), (1, 1, 0));
}

#[tokio::test]
async fn what_the_ledger_counts_in_an_empty_list_is_told() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    let vanished = async || buffer.status(0).await.unwrap().vanished;
    assert_eq!(vanished().await, 0);
    push(&*buffer, 0, &frame(1, 2)).await.unwrap();
    let lease = lease(&*buffer, 0).await;
    let id = claim(&*buffer, &lease).await.id;
    push(&*buffer, 0, &frame(2, 3)).await.unwrap();
    assert_eq!(vanished().await, 0);
    redis.server.cli(&["RENAME", "systole:{p0}:pending", "aside"]);
    assert_eq!(vanished().await, 3);
    redis.server.cli(&["RENAME", "systole:{p0}:processing", "aside too"]);
    assert_eq!(vanished().await, 5);
    redis.server.cli(&["RENAME", "aside", "systole:{p0}:pending"]);
    redis.server.cli(&["RENAME", "aside too", "systole:{p0}:processing"]);
    assert_eq!(vanished().await, 0);
    buffer.ack(&lease, id, &[]).await.unwrap();
    assert_eq!(vanished().await, 0);
}

#[tokio::test]
async fn a_connection_that_missed_its_deadline_is_not_used_again() {
    let redis = Redis::start();
    registered(&redis, AMPLE).await;
    let buffer = short(&redis.server);
    buffer.ping().await.unwrap();
    let before = clients(&redis.server);
    assert_eq!(before.len(), 1);
    redis.server.stop_process();
    let late = push(&*buffer, 0, &frame(1, 1)).await;
    assert!(matches!(late, Err(Error::TimedOut { .. } | Error::Unreachable { .. })), "{late:?}");
    redis.server.cont();
    // An answer of the late call must not be taken for the next one's.
    assert_eq!(buffer.registration().await.unwrap(), Some(DATASET));
    push(&*buffer, 0, &frame(2, 1)).await.unwrap();
    assert!(!clients(&redis.server).contains(&before[0]));
}

#[tokio::test]
async fn redis_away_is_transient_and_over_by_itself() {
    let mut redis = Redis::start();
    let buffer = short(&redis.server);
    buffer.register(DATASET).await.unwrap();
    redis.server.kill();
    for _ in 0..3 {
        let error = push(&*buffer, 0, &frame(1, 1)).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
    redis.server.restart();
    push(&*buffer, 0, &frame(1, 1)).await.unwrap();
}

#[tokio::test]
async fn too_few_replicas_are_named_and_enough_suffice() {
    let redis = Redis::start();
    registered(&redis, AMPLE).await;
    let place =
        redis::Options { wait_replicas: 1, wait_replicas_timeout: Duration::from_millis(50).into(), ..redis.place() };
    let buffer = open(&place);
    assert!(matches!(push(&*buffer, 0, &frame(1, 1)).await, Err(Error::TooFewReplicas { have: 0, want: 1 })));
    let _replica = RedisServer::with().set("replicaof", &format!("127.0.0.1 {}", redis.server.port())).start();
    let buffer = open(&redis::Options { wait_replicas_timeout: Duration::from_secs(4).into(), ..place });
    let mut outcome = push(&*buffer, 0, &frame(2, 1)).await;
    while let Err(Error::TooFewReplicas { .. }) = outcome {
        outcome = push(&*buffer, 0, &frame(2, 1)).await;
    }
    outcome.unwrap();
}

#[tokio::test]
async fn foreign_elements_break_neither_a_script_nor_the_books() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    push(&*buffer, 0, &frame(1, 3)).await.unwrap();
    for garbage in ["", "short", "longer than a header but nonsense all the same"] {
        redis.server.cli(&["RPUSH", "systole:{p0}:pending", garbage]);
    }
    let lease = lease(&*buffer, 0).await;
    let claim = claim(&*buffer, &lease).await;
    assert_eq!((claim.frames.len(), claim.rows), (4, 3));
    let entry = Condemned { bytes: claim.frames[3].clone(), rows: 0, ..crate::suite::condemned(3, None, &frame(1, 1)) };
    buffer.condemn(&lease, claim.id, std::slice::from_ref(&entry)).await.unwrap();
    buffer.ack(&lease, claim.id, std::slice::from_ref(&entry)).await.unwrap();
    let after = ledger(&*buffer, 0).await;
    assert_eq!((after.accepted, after.acked, after.dead, after.bytes), (3, 3, 0, 0));
    assert_eq!(buffer.dead_letters(0, None, 10).await.unwrap()[0].bytes, entry.bytes);
    assert!(buffer.retry_dead_letter(0, entry.id).await.unwrap());
    let claim = buffer.claim(&lease, ClaimId::new(), ALL).await.unwrap().unwrap();
    assert_eq!(claim.rows, 0);
    let again = [Condemned { frame: 0, ..entry.clone() }];
    buffer.condemn(&lease, claim.id, &again).await.unwrap();
    buffer.ack(&lease, claim.id, &again).await.unwrap();
    assert!(buffer.drop_dead_letter(0, entry.id).await.unwrap());
    let after = ledger(&*buffer, 0).await;
    assert_eq!((after.accepted, after.acked, after.dead, after.dropped, after.bytes), (3, 3, 0, 0, 0));
}

/// Found by the model in `tests/protocol`: the claim and the lease were older than what was lost, the list was not.
#[tokio::test]
async fn a_redis_that_came_back_without_the_condemned_list_takes_nothing_along() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    push(&*buffer, 0, &frame(1, 3)).await.unwrap();
    let lease = lease(&*buffer, 0).await;
    let id = claim(&*buffer, &lease).await.id;
    let left_out = [crate::suite::condemned(0, None, &frame(1, 3))];
    buffer.condemn(&lease, id, &left_out).await.unwrap();
    redis.server.cli(&["HDEL", "systole:{p0}:state", "condemned", "condemned:0:all"]);

    assert!(matches!(buffer.ack(&lease, id, &left_out).await, Err(Error::NotStanding)));
    let again = claim(&*buffer, &lease).await;
    assert_eq!((again.id, again.condemned), (id, Vec::new()), "so that it is condemned anew");
    buffer.condemn(&lease, id, &left_out).await.unwrap();
    buffer.ack(&lease, id, &left_out).await.unwrap();
    let after = ledger(&*buffer, 0).await;
    assert_eq!((after.acked, after.dead), (0, 3));
}

#[tokio::test]
async fn an_element_at_the_head_tells_how_long_it_has_waited() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    assert_eq!(buffer.status(0).await.unwrap().oldest_pending, None);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let beat = HeartbeatRef {
        user_id: "u",
        timestamp: 1,
        device_id: "d",
        id: None,
        received_at: now - 60_000,
        attributes: None,
    };
    push(&*buffer, 0, &Frame::encode([beat]).unwrap()).await.unwrap();
    let waited = buffer.status(0).await.unwrap().oldest_pending.unwrap();
    assert!((59..90).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test]
async fn what_lies_ahead_of_a_clock_that_was_set_back_lasts_no_longer_than_it_was_given_for() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    let dead = lease(&*buffer, 0).await;
    buffer.announce(dead.batcher, MINUTE).await.unwrap();
    // A day ahead, as everything is that was written before the clock went back by one.
    let ahead = redis.server.cli(&["TIME"]).split_once('\n').unwrap().0.parse::<u64>().unwrap() * 1_000 + 86_400_000;
    let [from, until] = [ahead, ahead + 1_000].map(|ms| ms.to_string());
    let state = "systole:{p0}:state";
    redis.server.cli(&["HSET", state, "lease_from_ms", &from, "lease_until_ms", &until]);
    redis.server.cli(&["ZADD", "systole:batchers", &from, &dead.batcher.to_string()]);

    let other = BatcherId::new();
    match buffer.lease(0, other, MINUTE).await.unwrap() {
        LeaseAnswer::Held { by, expires_in } => {
            assert!(by == dead.batcher && expires_in <= Duration::from_secs(1), "{expires_in:?}");
        }
        taken => panic!("its holder may be alive: {taken:?}"),
    }
    let alive = buffer.announce(other, Duration::from_secs(1)).await.unwrap();
    assert!(alive.contains(&dead.batcher), "it may be alive");
    let taken = async {
        while !matches!(buffer.lease(0, other, MINUTE).await.unwrap(), LeaseAnswer::Taken(_)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        while buffer.announce(other, Duration::from_secs(1)).await.unwrap() != [other] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), taken).await.expect("the dead are forgotten in time");
    assert!(matches!(buffer.renew(&dead, MINUTE).await, Err(Error::Fenced { .. })));
}

#[tokio::test]
async fn a_nonsense_state_is_corrupt_and_never_guessed_around() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    redis.server.cli(&["HSET", "systole:{p0}:state", "pending", "many"]);
    assert!(matches!(push(&*buffer, 0, &frame(1, 1)).await, Err(Error::Corrupt { .. })));
    assert!(matches!(buffer.status(0).await, Err(Error::Corrupt { .. })));
    assert_eq!(redis.server.cli(&["EXISTS", "systole:{p0}:pending"]), "0", "the check came before the first write");
    redis.server.cli(&["SET", "systole:{p1}:pending", "x"]);
    assert!(matches!(push(&*buffer, 1, &frame(1, 1)).await, Err(Error::Corrupt { .. })));
}

#[tokio::test]
async fn a_cluster_is_served_slot_by_slot() {
    let server = RedisServer::with().cluster().start();
    server.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let plain = open(&at(&server));
    let cluster = open(&redis::Options { redis_cluster: true, ..at(&server) });
    while cluster.register(DATASET).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(plain);
    assert_eq!(cluster.durability().await.unwrap().level, "always");
    let frames: Vec<_> = (0..20).map(|tag| (tag % 2, frame(tag.into(), 1))).collect();
    assert!(cluster.push(&frames).await.iter().all(Result::is_ok));
    server.cli(&["SCRIPT", "FLUSH"]);
    assert!(cluster.push(&frames).await.iter().all(Result::is_ok));
    let lease = lease(&*cluster, 1).await;
    let claim = claim(&*cluster, &lease).await;
    let sent: Vec<_> = frames.iter().filter(|(of, _)| *of == 1).map(|(_, frame)| frame.bytes().clone()).collect();
    assert_eq!(claim.frames, [sent.clone(), sent].concat(), "in order within a partition");
    cluster.ack(&lease, claim.id, &[]).await.unwrap();
    cluster.announce(lease.batcher, Duration::from_secs(9)).await.unwrap();
    assert_eq!(cluster.batchers().await.unwrap().len(), 1);
    cluster.retire(lease.batcher).await.unwrap();
    cluster.ping().await.unwrap();
}

#[tokio::test]
async fn caps_are_shared_out_evenly() {
    let redis = Redis::start();
    registered(&redis, AMPLE).await;
    let options = Options { buffer_max_heartbeats: 9, buffer_max_bytes: ByteSize::b(1001), ..Options::default() };
    let status = connect(&options, &redis.place()).status(1).await.unwrap();
    assert_eq!((status.cap_rows, status.cap_bytes), (4, 500));
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn tls_trusts_the_given_authority_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &path("key.pem"), "-out", &path("cert.pem")])
        .output()
        .expect("openssl makes the test's certificate");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = free_port();
    let _server = RedisServer::with()
        .set("tls-port", &port.to_string())
        .set("tls-cert-file", &path("cert.pem"))
        .set("tls-key-file", &path("key.pem"))
        .set("tls-ca-cert-file", &path("cert.pem"))
        .set("tls-auth-clients", "no")
        .start();
    let url = format!("rediss://localhost:{port}");
    let trusting = redis::Options { redis_ca_file: Some(folder.path().join("cert.pem")), ..at_url(&url) };
    let buffer = open(&trusting);
    buffer.register(DATASET).await.unwrap();
    push(&*buffer, 0, &frame(1, 1)).await.unwrap();
    let strict = open(&redis::Options { redis_ca_file: None, ..trusting });
    assert!(matches!(strict.ping().await, Err(Error::Unreachable { .. })));
}

fn write_ledger(server: &RedisServer, accepted: &str) {
    server.cli(&["HSET", "systole:{p0}:state", "accepted", accepted, "pending", accepted]);
}

#[tokio::test]
async fn a_ledger_that_went_back_is_noticed_by_a_look_and_by_a_push() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    push(&*buffer, 0, &frame(1, 10)).await.unwrap();
    assert_eq!(buffer.witness(0), Witness { accepted: 10, gone_back: 0 });
    write_ledger(&redis.server, "4");
    assert_eq!(buffer.status(0).await.unwrap().ledger.accepted, 4);
    assert_eq!(buffer.witness(0), Witness { accepted: 4, gone_back: 6 });
    push(&*buffer, 0, &frame(2, 1)).await.unwrap();
    buffer.status(0).await.unwrap();
    assert_eq!(buffer.witness(0), Witness { accepted: 5, gone_back: 6 }, "told once");
    write_ledger(&redis.server, "3");
    push(&*buffer, 0, &frame(3, 100)).await.unwrap();
    assert_eq!(buffer.witness(0), Witness { accepted: 103, gone_back: 8 });
    assert_eq!(buffer.witness(1), Witness::default());
    let another = redis.open(AMPLE);
    another.status(0).await.unwrap();
    assert_eq!(another.witness(0), Witness { accepted: 103, gone_back: 0 }, "who did not see it cannot tell");
}

#[tokio::test]
async fn a_replica_that_lags_is_no_ledger_that_went_back() {
    let redis = Redis::start();
    let buffer = registered(&redis, AMPLE).await;
    push(&*buffer, 0, &frame(1, 10)).await.unwrap();
    redis.server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    redis.server.cli(&["CONFIG", "SET", "replica-read-only", "no"]);
    write_ledger(&redis.server, "4");
    redis.server.cli(&["CONFIG", "SET", "replica-read-only", "yes"]);
    assert_read_only(buffer.status(0).await);
    assert_eq!(buffer.witness(0), Witness { accepted: 10, gone_back: 0 });
    redis.server.cli(&["REPLICAOF", "NO", "ONE"]);
    buffer.status(0).await.unwrap();
    assert_eq!(buffer.witness(0), Witness { accepted: 4, gone_back: 6 }, "it is in charge now");
}

#[tokio::test]
async fn what_no_replica_confirmed_may_be_forgotten() {
    let redis = Redis::start();
    registered(&redis, AMPLE).await;
    let patience = Duration::from_millis(50).into();
    let buffer = open(&redis::Options { wait_replicas: 1, wait_replicas_timeout: patience, ..redis.place() });
    assert!(matches!(push(&*buffer, 0, &frame(1, 10)).await, Err(Error::TooFewReplicas { .. })));
    buffer.status(0).await.unwrap();
    write_ledger(&redis.server, "4");
    buffer.status(0).await.unwrap();
    assert_eq!(buffer.witness(0), Witness::default());
}
