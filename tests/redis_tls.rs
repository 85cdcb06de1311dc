//! TLS towards Redis: a private authority, a certificate of our own, both renewed without a restart; and one clear line
//! when the other side is not whom the settings trust.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::redis::Setup as RedisSetup;
use support::tls::{Authority, PemFiles, replace};
use support::{Beat, Beats, Client, Launch, RedisServer, SOON, Systole, World, wait};

/// A house with an authority, a Redis that asks everybody for a certificate of it, and the files of both sides.
struct House {
    world: World,
    port: u16,
    files: Files,
}

struct Files {
    _folder: tempfile::TempDir,
    authority: PathBuf,
    server: PemFiles,
    client: PemFiles,
}

impl Files {
    fn by(authority: &Authority) -> Self {
        let folder = tempfile::Builder::new().prefix("tls").tempdir().unwrap();
        let at = |name: &str| PemFiles::in_folder(&folder.path().join(name));
        let files = Self {
            authority: folder.path().join("ca.pem"),
            server: at("server"),
            client: at("client"),
            _folder: folder,
        };
        files.write(authority);
        files
    }

    fn write(&self, authority: &Authority) {
        replace(&self.authority, &authority.pem());
        self.server.write(&authority.sign());
        self.client.write(&authority.sign());
    }

    /// A Redis that speaks TLS at `port`, and plainly at a port of the harness.
    fn redis(&self, port: u16) -> RedisSetup {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        RedisServer::with()
            .set("tls-port", &port.to_string())
            // The second is an address that the certificate does not name.
            .set("bind", "127.0.0.1 127.0.0.2")
            .set("tls-cert-file", &text(&self.server.cert))
            .set("tls-key-file", &text(&self.server.key))
            .set("tls-ca-cert-file", &text(&self.authority))
            .set("tls-auth-clients", "yes")
    }

    fn trust(&self) -> String {
        format!("--redis-ca-file={}", self.authority.display())
    }

    fn own(&self) -> [String; 2] {
        own(&self.client)
    }
}

fn own(files: &PemFiles) -> [String; 2] {
    [format!("--redis-client-cert={}", files.cert.display()), format!("--redis-client-key={}", files.key.display())]
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl House {
    fn new() -> Self {
        let (files, port) = (Files::by(&Authority::new("the house")), free_port());
        Self { world: World::on_redis(files.redis(port).start()), port, files }
    }

    fn url(&self) -> String {
        format!("--buffer=rediss://localhost:{}", self.port)
    }

    fn over_tls(&self, launch: Launch) -> Launch {
        launch.args([self.url(), self.files.trust()]).args(self.files.own())
    }

    fn serve_and_batch(&self) -> (Systole, Systole) {
        let (batch, serve) = (self.over_tls(self.world.batch()).start(), self.over_tls(self.world.serve()).start());
        serve.await_status("/health/ready", 200, SOON);
        (serve, batch)
    }

    fn audit(&self) -> Launch {
        self.over_tls(self.world.books(&["audit"]))
    }
}

#[test]
fn heartbeats_go_through_a_redis_that_asks_for_certificates_on_both_sides() {
    let house = House::new();
    let (serve, batch) = house.serve_and_batch();
    house.world.client(&serve).must_keep(&Beats::new(10, 2).take(500));
    house.world.await_drained(SOON);
    house.world.publish();
    house.audit().run().expect_code(0);
    serve.stop();
    batch.stop();
}

/// The port of somebody who speaks first, and not TLS.
fn something_else() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let _ = connection.unwrap().write_all(b"-ERR what is this?\r\n");
        }
    });
    port
}

#[test]
fn whoever_is_not_trusted_is_named_in_one_line() {
    let house = House::new();
    let stranger = Files::by(&Authority::new("somebody else"));
    let (serve, batch) = house.serve_and_batch();
    let audit = || house.world.books(&["audit"]).args([house.url()]);
    let [own_cert, own_key] = house.files.own();
    let [other_cert, other_key] = stranger.own();
    let trust = house.files.trust();
    let by_name = format!("--buffer=rediss://127.0.0.2:{}", house.port);
    let plain_redis = format!("--buffer=rediss://localhost:{}", house.world.redis().port());
    let something_else = format!("--buffer=rediss://localhost:{}", something_else());
    let reached: [(&[&str], &[&str]); 7] = [
        (&[&own_cert, &own_key, &stranger.trust()], &["not trusted", "UnknownIssuer", "redis-ca-file"]),
        // The usual authorities have not signed it either.
        (&[&own_cert, &own_key], &["not trusted", "redis-ca-file"]),
        (&[&own_cert, &own_key, &trust, &by_name], &["not trusted", "names the host"]),
        (&[&trust], &["refuses the TLS handshake", "redis-client-cert"]),
        (&[&trust, &other_cert, &other_key], &["refuses the TLS handshake", "redis-client-cert"]),
        // It takes a hello for the beginning of a line, and waits for the rest.
        (&[&trust, &own_cert, &own_key, &plain_redis], &["out of reach"]),
        (&[&trust, &own_cert, &own_key, &something_else], &["does not speak TLS", "buffer's URL"]),
    ];
    for (flags, words) in reached {
        audit().args(flags.iter().copied()).refused(3, words);
    }
    let empty = stranger.authority.with_file_name("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let in_file = |setting: &str| format!("--{setting}={}", empty.display());
    let unread: [(&[&str], &[&str]); 9] = [
        (&[&trust, &own_cert], &["redis-client-cert", "needs redis-client-key"]),
        (&[&trust, &own_key], &["redis-client-key", "needs redis-client-cert"]),
        (&[&trust, &own_cert, &other_key], &["redis-client-key", "not the key"]),
        (&[&trust, &in_file("redis-client-cert"), &own_key], &["redis-client-cert", "no certificate"]),
        (&[&trust, &own_cert, &in_file("redis-client-key")], &["redis-client-key", "no private key"]),
        (&[&trust, &in_file("redis-password-file")], &["redis-password-file", "no password"]),
        (&[&in_file("redis-ca-file")], &["redis-ca-file", "no certificate"]),
        (&["--redis-ca-file=/nowhere/ca.pem"], &["redis-ca-file", "/nowhere/ca.pem", "cannot be read"]),
        (&[&trust, "--buffer=redis://127.0.0.1:1"], &["redis-ca-file", "rediss://"]),
    ];
    for (flags, words) in unread {
        audit().args(flags.iter().copied()).refused(2, words);
    }
    // A service does not end for it: the other side may be in the middle of renewing.
    let waiting = house.world.serve().args([house.url(), stranger.trust()]).start();
    waiting.await_status("/health/ready", 503, SOON);
    let said = || waiting.log().iter().any(|line| line.contains("waiting for it") && line.contains("not trusted"));
    wait::until("the reason in its log", SOON, said);
    [waiting, serve, batch].into_iter().for_each(Systole::stop);
}

/// Sends until they are kept: the first that meets a connection which went with Redis is answered 503.
fn keep(client: &Client, beats: &[Beat]) {
    wait::value("202", SOON, || match client.try_post_all(beats) {
        Ok(answer) if answer.status == 202 => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn a_renewed_authority_and_renewed_certificates_are_taken_up_without_a_restart() {
    let mut house = House::new();
    let (serve, batch) = house.serve_and_batch();
    let (client, beats) = (house.world.client(&serve), Beats::new(10, 2));
    client.must_keep(&beats.take(100));

    // What cannot be used changes nothing, however often a connection is made.
    let good = std::fs::read_to_string(&house.files.client.key).unwrap();
    replace(&house.files.client.key, &std::fs::read_to_string(&house.files.server.key).unwrap());
    for _ in 0..3 {
        house.world.redis_mut().restart();
        keep(&client, &beats.take(10));
    }
    let said = serve.log().iter().filter(|line| line.contains("cannot be used; the last one stays")).count();
    assert_eq!(said, 1, "{}", serve.log().join("\n"));
    replace(&house.files.client.key, &good);

    // Another authority altogether: nothing of the old files would let anybody in.
    house.files.write(&Authority::new("the new house"));
    house.world.redis_mut().restart();
    keep(&client, &beats.take(100));
    house.world.await_drained(SOON);
    house.world.publish();
    house.audit().run().expect_code(0);
    [serve, batch].into_iter().for_each(Systole::stop);
}

struct Sentinel {
    process: Child,
    _folder: tempfile::TempDir,
}

impl Sentinel {
    fn watch(house: &House, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sentinel.conf");
        let Files { server, authority, .. } = &house.files;
        let lines = format!(
            "port 0\ntls-port {port}\nbind 127.0.0.1\ndir {}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\n\
             tls-auth-clients yes\ntls-replication yes\nsentinel monitor beats 127.0.0.1 {} 1\n",
            folder.path().display(),
            server.cert.display(),
            server.key.display(),
            authority.display(),
            house.port,
        );
        std::fs::write(&file, lines).unwrap();
        let mut command = Command::new("redis-server");
        let process = command.arg(&file).arg("--sentinel").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { process, _folder: folder }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn sentinels_and_the_master_that_they_name_are_spoken_to_over_tls() {
    let house = House::new();
    let port = free_port();
    let _sentinel = Sentinel::watch(&house, port);
    let flags = [format!("--buffer=rediss://127.0.0.1:{port}"), "--redis-sentinel-master=beats".to_owned()];
    let of = |launch: Launch| house.over_tls(launch).args(flags.clone());
    let (batch, serve) = (of(house.world.batch()).start(), of(house.world.serve()).start());
    serve.await_status("/health/ready", 200, SOON);
    house.world.client(&serve).must_keep(&Beats::new(10, 2).take(100));
    house.world.await_drained(SOON);
    house.world.publish();
    of(house.world.books(&["audit"])).run().expect_code(0);
    [serve, batch].into_iter().for_each(Systole::stop);
}

#[test]
fn the_nodes_of_a_cluster_are_spoken_to_over_tls() {
    let (files, port) = (Files::by(&Authority::new("the house")), free_port());
    let redis = files
        .redis(port)
        .set("cluster-enabled", "yes")
        .set("tls-cluster", "yes")
        .set("cluster-port", &free_port().to_string())
        .start();
    redis.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    wait::until("a whole cluster", SOON, || redis.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
    let house = House { world: World::on_redis(redis), port, files };
    let of = |launch: Launch| house.over_tls(launch).args(["--redis-cluster"]);
    let (batch, serve) = (of(house.world.batch()).start(), of(house.world.serve()).start());
    serve.await_status("/health/ready", 200, SOON);
    house.world.client(&serve).must_keep(&Beats::new(10, 2).take(100));
    house.world.await_drained(SOON);
    house.world.publish();
    of(house.world.books(&["audit"])).run().expect_code(0);
    [serve, batch].into_iter().for_each(Systole::stop);
}
