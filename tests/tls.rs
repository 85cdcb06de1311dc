//! TLS towards clients: nobody who checks is fooled, a certificate is replaced without a request noticing, and clients
//! that never finish a handshake keep nobody out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

#[path = "http_edge/nothing.rs"]
mod nothing;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;
use support::tls::{Authority, EXPIRES_S, PemFiles, Signed, TlsClient, TlsWire, is_key, replace};
use support::{Answer, Beats, Buffer, Launch, Metrics, SOON, Systole, World, wait};
use systole::buffer::{self, Intake, Parcel};
use systole::heartbeat::Partition;
use systole::http::auth::{Exposure, Gate};
use systole::http::{Options, Server, limits, tls};
use systole::telemetry::health::Health;
use systole::telemetry::metrics;
use tokio_util::sync::CancellationToken;

/// How often the servers here look at their certificate.
const LOOK_EVERY: &str = "--tls-reload-every=100ms";

struct Setup {
    world: World,
    authority: Authority,
    files: PemFiles,
    signed: Signed,
}

impl Setup {
    fn on(buffer: Buffer) -> Self {
        let (world, authority) = (World::on(buffer), Authority::new("the house"));
        let files = PemFiles::in_folder(&world.dataset().with_file_name("tls"));
        let signed = authority.sign();
        files.write(&signed);
        Self { world, authority, files, signed }
    }

    fn with_tls(&self, launch: Launch) -> Launch {
        launch.args(self.files.flags()).args([LOOK_EVERY])
    }

    fn up(&self) -> Systole {
        self.with_tls(self.world.up()).start()
    }

    fn client(&self) -> TlsClient {
        self.authority.client()
    }

    fn get(&self, up: &Systole, path: &str) -> Answer {
        self.client().get(up.address(), path).unwrap()
    }

    /// What `/health` says of the certificate.
    fn certificate_part(&self, up: &Systole) -> (bool, String) {
        let health = self.get(up, "/health").body;
        let parts = health["parts"].as_array().unwrap();
        let part = parts.iter().find(|part| part["name"] == "certificate").expect("the certificate has its part");
        (part["ok"].as_bool().unwrap(), part["detail"].as_str().unwrap().to_owned())
    }

    fn await_part(&self, up: &Systole, ok: bool, word: &str) {
        wait::value("the certificate's part in /health", SOON, || match self.certificate_part(up) {
            (found, detail) if found == ok && detail.contains(word) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    fn await_served(&self, up: &Systole, signed: &Signed) {
        wait::until("the replaced certificate to be served", SOON, || {
            self.client().connect(up.address()).unwrap().server_certificate() == signed.der
        });
    }

    fn metrics(&self, up: &Systole) -> Metrics {
        Metrics::parse(&self.get(up, "/metrics").text)
    }

    fn reloads(&self, up: &Systole, outcome: &str) -> f64 {
        let metrics = self.metrics(up);
        metrics.sum_where("systole_tls_certificate_reloads_total", |labels| labels["outcome"] == outcome).unwrap()
    }
}

#[test]
fn heartbeats_go_over_tls_to_whoever_trusts_the_authority_and_to_nobody_else() {
    let setup = Setup::on(Buffer::Embedded);
    let up = setup.up();
    assert!(up.said().contains(&format!("https://{}/v1/heartbeats", up.address())), "{}", up.said());
    let beat = Beats::new(1, 1).next();
    let mut wire = setup.client().connect(up.address()).unwrap();
    assert_eq!(wire.server_certificate(), setup.signed.der);
    assert_eq!(wire.post(&beat.json()).unwrap().status, 202);
    setup.world.ledger.keep(&beat);

    let stranger = Authority::new("somebody else").client();
    let error = stranger.connect(up.address()).map(drop).unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");

    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let client = TlsClient::trusting(&setup.authority.pem(), versions);
        assert_eq!(client.get(up.address(), "/health/live").unwrap().status, 200, "{versions:?}");
    }
    assert_eq!(setup.metrics(&up).sum("systole_tls_certificate_expires_timestamp_seconds"), Some(EXPIRES_S as f64));
    assert_eq!(setup.certificate_part(&up), (true, "expires at 2099-01-01T00:00:00Z".to_owned()));
    setup.world.await_published(SOON);
    up.stop();
    setup.world.audit();
}

#[test]
fn http_1_is_what_is_spoken_over_tls() {
    let setup = Setup::on(Buffer::Embedded);
    let up = setup.up();
    for offered in [&["http/1.1"][..], &["h2", "http/1.1"]] {
        let wire = setup.client().offering(offered).connect(up.address()).unwrap();
        assert_eq!(wire.protocol().as_deref(), Some("http/1.1"), "{offered:?}");
    }
    let error = setup.client().offering(&["h2"]).connect(up.address()).map(drop).unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    up.stop();
}

#[test]
fn every_role_that_listens_speaks_tls() {
    let setup = Setup::on(Buffer::Redis);
    let roles = [setup.world.batch(), setup.world.serve(), setup.world.watch()];
    let mut running: Vec<Systole> = roles.map(|launch| setup.with_tls(launch).start()).into();
    for role in &running {
        wait::until("200 over TLS", SOON, || setup.get(role, "/health").status == 200);
        assert!(setup.certificate_part(role).0);
    }
    // The signed one is replaced for all of them at once.
    let renewed = setup.authority.sign();
    setup.files.write(&renewed);
    for role in &running {
        setup.await_served(role, &renewed);
    }
    running.drain(..).for_each(Systole::stop);
}

/// Posts until told to stop, each time on the connection it has and every few times on a new one. How often it was
/// answered 202, and which certificates it met.
fn produce(setup: &Setup, address: &str, beats: &Beats, stop: &AtomicBool, sent: &AtomicU64) -> Vec<Vec<u8>> {
    let client = setup.client();
    let mut met: Vec<Vec<u8>> = Vec::new();
    let mut wire: Option<TlsWire> = None;
    for round in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if round % 4 == 0 {
            wire = None;
        }
        let wire = wire.get_or_insert_with(|| client.connect(address).expect("a handshake succeeds"));
        let certificate = wire.server_certificate();
        if met.last() != Some(&certificate) {
            met.push(certificate);
        }
        let beats = beats.take(5);
        let body = Value::Array(beats.iter().map(support::Beat::json).collect());
        let answer = wire.post(&body).expect("a request is answered");
        assert_eq!((answer.status, &answer.body["accepted"]), (202, &Value::from(5)), "{}", answer.text);
        beats.iter().for_each(|beat| setup.world.ledger.keep(beat));
        sent.fetch_add(1, Ordering::Relaxed);
    }
    met
}

/// Stops the producers also when the test has failed: its threads are waited for.
struct StopAtLast<'a>(&'a AtomicBool);

impl Drop for StopAtLast<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_certificate_is_replaced_under_load_and_not_one_request_fails() {
    const REPLACED: usize = 5;
    let setup = Setup::on(Buffer::Embedded);
    // Seldom enough that a busy machine writes both files between two looks.
    let up = setup.with_tls(setup.world.up()).args(["--tls-reload-every=700ms"]).start();
    let (beats, stop, sent) = (Beats::new(20, 3), AtomicBool::new(false), AtomicU64::new(0));
    let more = |count: u64| {
        let before = sent.load(Ordering::Relaxed);
        wait::until("more requests", SOON, || sent.load(Ordering::Relaxed) >= before + count);
    };
    let (met, expires) = std::thread::scope(|scope| {
        let stopped = StopAtLast(&stop);
        let producers: Vec<_> =
            (0..4).map(|_| scope.spawn(|| produce(&setup, up.address(), &beats, &stop, &sent))).collect();
        // Started before, and asked after, each replacement: a connection outlives the certificate it began with.
        let mut early = setup.client().connect(up.address()).unwrap();
        more(50);
        let mut expires = 0;
        for year in 2101..2101 + REPLACED as i32 {
            let renewed = setup.authority.sign_until(year);
            setup.files.write(&renewed);
            setup.await_served(&up, &renewed);
            more(50);
            assert_eq!(early.get("/health/live").unwrap().status, 200);
            assert_eq!(early.server_certificate(), setup.signed.der);
            expires = year;
        }
        drop(stopped);
        (producers.into_iter().map(|producer| producer.join().unwrap()).collect::<Vec<_>>(), expires)
    });
    for met in &met {
        assert_eq!(met.len(), REPLACED + 1, "each producer met each certificate, once");
    }
    assert_eq!(setup.reloads(&up, "replaced"), REPLACED as f64);
    assert_eq!(setup.reloads(&up, "refused"), 0.0, "cert and key are not replaced in one step, and that is no fault");
    assert!(setup.certificate_part(&up).1.contains(&format!("{expires}-01-01")));
    setup.world.await_published(SOON);
    let requests = sent.load(Ordering::Relaxed);
    eprintln!("replaced {REPLACED} certificates under load: {requests} requests, 0 failed");
    up.stop();
    setup.world.audit();
}

#[test]
fn a_replacement_that_cannot_be_used_changes_nothing_and_is_named_until_it_is_mended() {
    let setup = Setup::on(Buffer::Embedded);
    let up = setup.up();
    wait::until("all to be well", SOON, || setup.get(&up, "/health").status == 200);
    let other = setup.authority.sign();
    assert!(is_key(&other.key));
    let spoil: [(&str, &dyn Fn()); 4] = [
        ("tls-key", &|| replace(&setup.files.key, &other.key)),
        ("tls-cert", &|| {
            replace(&setup.files.cert, "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n")
        }),
        ("tls-cert", &|| replace(&setup.files.cert, "")),
        ("cannot be read", &|| std::fs::remove_file(&setup.files.cert).unwrap()),
    ];
    for (times, (word, spoil)) in (1..).zip(spoil) {
        spoil();
        setup.await_part(&up, false, word);
        assert_eq!(setup.client().connect(up.address()).unwrap().server_certificate(), setup.signed.der);
        assert_eq!(setup.get(&up, "/health").status, 503);
        assert_eq!(setup.get(&up, "/health/ready").status, 200, "heartbeats are taken in all the same");
        assert_eq!(setup.reloads(&up, "refused"), f64::from(times));
        // Some more looks: said once.
        std::thread::sleep(Duration::from_millis(400));
        let said = up.log().iter().filter(|line| line.contains("the old one stays in force")).count();
        assert_eq!(said, times as usize, "{word}");

        setup.files.write(&setup.signed);
        setup.await_part(&up, true, "expires at");
    }
    assert_eq!(setup.reloads(&up, "replaced"), 0.0, "the old pair came back: nothing was replaced");
    let renewed = setup.authority.sign();
    setup.files.write(&renewed);
    setup.await_served(&up, &renewed);
    up.stop();
}

#[test]
fn an_expired_certificate_is_served_and_named() {
    let setup = Setup::on(Buffer::Embedded);
    setup.files.write(&setup.authority.sign_until(2020));
    let up = setup.up();
    let error = setup.client().connect(up.address()).map(drop).unwrap_err().to_string();
    assert!(error.contains("certificate expired"), "{error}");
    assert!(up.log().iter().any(|line| line.contains("expired at 2020-01-01")));
    setup.files.write(&setup.signed);
    setup.await_served_after_expiry(&up);
    up.stop();
}

impl Setup {
    fn await_served_after_expiry(&self, up: &Systole) {
        wait::until("a valid certificate", SOON, || self.client().connect(up.address()).is_ok());
        self.await_part(up, true, "expires at 2099");
    }
}

#[test]
fn plain_http_to_the_tls_port_is_cut_at_once() {
    let setup = Setup::on(Buffer::Embedded);
    let up = setup.with_tls(setup.world.up()).args(["--tls-handshake-deadline=1h"]).start();
    let began = Instant::now();
    let mut plain = TcpStream::connect(up.address()).unwrap();
    plain.set_read_timeout(Some(SOON)).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // Cut with an alert, or reset.
    let _ =
        plain.read_to_end(&mut answer).map_err(|error| assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset));
    assert!(began.elapsed() < SOON, "it was not left to hang");
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    up.stop();
}

#[test]
fn handshakes_that_never_end_are_cut_and_keep_nobody_out() {
    const IDLE: usize = 700;
    const DEADLINE: Duration = Duration::from_secs(8);
    let setup = Setup::on(Buffer::Embedded);
    let deadline = format!("--tls-handshake-deadline={}s", DEADLINE.as_secs());
    // On two workers: more handshakes than the framework by itself would let be under way.
    let up = setup.with_tls(setup.world.up()).args([deadline.as_str(), "--http-workers=2"]).start();
    let began = Instant::now();
    let mut idle: Vec<TcpStream> = (0..IDLE)
        .map(|n| {
            let mut tcp = TcpStream::connect(up.address()).unwrap();
            if n % 2 == 0 {
                // The beginning of a hello that says it is 512 bytes long.
                tcp.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).unwrap();
            }
            tcp
        })
        .collect();
    let asked = Instant::now();
    assert_eq!(setup.get(&up, "/health/live").status, 200);
    let waited = asked.elapsed();
    assert!(began.elapsed() < DEADLINE, "the idle ones were still there: {:?}", began.elapsed());
    for tcp in &mut idle {
        tcp.set_read_timeout(Some(SOON)).unwrap();
        let ended = tcp.read(&mut [0; 16]);
        assert!(
            matches!(&ended, Ok(0)) || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        );
    }
    eprintln!(
        "{IDLE} handshakes that never end: another client was served in {waited:?}, all were cut after {:?}",
        began.elapsed()
    );
    up.stop();
}

#[test]
fn what_cannot_be_served_is_refused_at_start_in_one_line() {
    let setup = Setup::on(Buffer::Embedded);
    let [cert, key] = setup.files.flags();
    let other = PemFiles::in_folder(&setup.world.dataset().with_file_name("other"));
    other.write(&setup.authority.sign());
    let empty = other.cert.with_file_name("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let (empty_cert, empty_key) = (format!("--tls-cert={}", empty.display()), format!("--tls-key={}", empty.display()));
    let [other_cert, other_key] = other.flags();
    let cases: [(&[&str], i32, &[&str]); 8] = [
        (&[&cert], 2, &["tls-cert", "needs tls-key"]),
        (&[&key], 2, &["tls-key", "needs tls-cert"]),
        (&[&cert, &other_key], 2, &["tls-key", "not the key of the certificate"]),
        (&[&other_cert, &key], 2, &["tls-key", "not the key of the certificate"]),
        (&[&empty_cert, &key], 2, &["tls-cert", "empty.pem", "no certificate"]),
        (&[&cert, &empty_key], 2, &["tls-key", "empty.pem", "no private key"]),
        (&["--tls-cert=/nowhere/cert.pem", &key], 3, &["tls-cert", "/nowhere/cert.pem", "cannot be read"]),
        (&[&cert, &key, "--tls-handshake-deadline=0s"], 2, &["tls-handshake-deadline"]),
    ];
    for (flags, code, words) in cases {
        for role in [setup.world.up(), setup.world.watch()] {
            role.args(flags.iter().copied()).refused(code, words);
        }
    }
}

#[test]
fn a_key_that_others_can_read_is_warned_of() {
    let setup = Setup::on(Buffer::Embedded);
    let warned = |up: &Systole| up.log().iter().any(|line| line.contains("chmod 600"));
    let up = setup.up();
    assert!(!warned(&up));
    up.stop();
    std::fs::set_permissions(&setup.files.key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let up = setup.up();
    assert!(warned(&up));
    up.stop();
}

/// Takes everything in and keeps nothing.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Intake for Nowhere {
    async fn partitions(&self) -> buffer::Result<Partition> {
        Ok(1)
    }

    async fn accept(&self, _: Vec<Parcel>) -> buffer::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_server_that_listens_anew_speaks_tls_with_the_certificate_of_that_moment() {
    let (authority, folder) = (Authority::new("the house"), tempfile::tempdir().unwrap());
    let files = PemFiles::in_folder(folder.path());
    files.write(&authority.sign());
    let tls = tls::Options {
        tls_cert: Some(files.cert.clone()),
        tls_key: Some(files.key.clone()),
        tls_reload_every: Duration::from_millis(50).into(),
        ..tls::Options::default()
    };
    let options = Options { listen: ([127, 0, 0, 1], 0).into(), tls, ..Options::default() };
    let (limits, registry) = (limits::Options::default(), metrics::registry().unwrap());
    let server = Arc::new(
        Server::bind(
            &options,
            &limits,
            &Gate::open(&Exposure { allow_anonymous: false }, options.listen).unwrap(),
            Arc::new(Nowhere),
            &nothing::services(),
            Health::new(),
            registry,
        )
        .unwrap(),
    );
    let address = server.address().to_string();
    for _ in 0..3 {
        let signed = authority.sign();
        files.write(&signed);
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (server, stop) = (server.clone(), stop.clone());
            async move { server.run(stop).await }
        });
        let (client, address) = (authority.client(), address.clone());
        let asking = tokio::task::spawn_blocking(move || {
            wait::until("the certificate of this moment", SOON, || {
                client.connect(&address).is_ok_and(|wire| wire.server_certificate() == signed.der)
            });
            client.get(&address, "/health/live").unwrap().status
        });
        assert_eq!(asking.await.unwrap(), 200);
        stop.cancel();
        running.await.unwrap().unwrap();
    }
}
