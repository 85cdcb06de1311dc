//! What only the socket can do wrong: its file, and either side that hangs, dies, or speaks another language.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use systole::buffer::embedded::EmbeddedBuffer;
use systole::buffer::options::Options;
use systole::buffer::socket::{ControlSocket, SocketBuffer};
use systole::buffer::{Buffer, DeadLetter, Error, Inspect, Reach};
use systole::heartbeat::Frame;
use tempfile::TempDir;

use crate::backend::{AMPLE, DATASET, Embedded, registered};
use crate::suite::{bulky, claim, condemned, frame, lease, push};
use crate::through_socket::Served;

/// How long a call of these tests may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// Far longer than the server waits for a peer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A registered buffer behind a socket.
struct Behind {
    path: PathBuf,
    served: Served,
    buffer: Arc<EmbeddedBuffer>,
    _backend: Embedded,
    folder: TempDir,
}

impl Behind {
    async fn start() -> Self {
        let (backend, folder) = (Embedded::start(), tempfile::tempdir().unwrap());
        registered(&backend, AMPLE).await;
        let buffer = Arc::new(backend.buffer.another(&AMPLE.options()));
        let path = folder.path().join("it.sock");
        Self { served: Served::start(path.clone(), buffer.clone()), path, buffer, _backend: backend, folder }
    }

    fn client(&self) -> SocketBuffer {
        client(&self.path, DEADLINE)
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// All that the server says to these bytes until it closes.
    fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // It closes with bytes unread, which the system reports after the answer.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Makes dead letters of about 1 MiB each in partition 0.
    async fn bury(&self, letters: u32) -> Vec<DeadLetter> {
        let large = large_frame();
        for _ in 0..letters {
            push(&*self.buffer, 0, &large).await.unwrap();
        }
        let lease = lease(&*self.buffer, 0).await;
        let claim = claim(&*self.buffer, &lease).await;
        let all: Vec<_> = (0..letters).map(|at| condemned(at, None, &large)).collect();
        self.buffer.condemn(&lease, claim.id, &all).await.unwrap();
        self.buffer.ack(&lease, claim.id, &all).await.unwrap();
        self.buffer.dead_letters(0, None, letters).await.unwrap()
    }
}

fn large_frame() -> Frame {
    bulky(1, "u", 256, 4_096)
}

fn client(path: &Path, deadline: Duration) -> SocketBuffer {
    SocketBuffer::new(path, &Options { step_deadline: deadline.into(), ..Options::default() })
}

fn message(head: &str, tail: &[u8]) -> Vec<u8> {
    let mut bytes = (head.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&(tail.len() as u32).to_le_bytes());
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(tail);
    bytes
}

fn beside(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}.new", path.file_name().unwrap().to_str().unwrap()))
}

#[tokio::test]
async fn no_other_user_can_connect_at_any_instant() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.sock");
    // This test's process is its own.
    rustix::process::umask(rustix::fs::Mode::empty());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = |place: PathBuf, mode: u32| {
            let (done, mut seen) = (&done, 0_u64);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    if let Ok(found) = fs::symlink_metadata(&place) {
                        assert_eq!(found.permissions().mode() & 0o777, mode, "{}", place.display());
                        seen += 1;
                    }
                }
                seen
            })
        };
        let (socket, private) = (watch(path.clone(), 0o600), watch(beside(&path), 0o700));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(500) {
            let bound = ControlSocket::bind(&path).unwrap();
            assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
            drop(bound);
            assert!(!path.exists(), "it is taken away");
        }
        done.store(true, Ordering::Relaxed);
        assert!(socket.join().unwrap() > 0 && private.join().unwrap() > 0, "the watch saw them");
    });
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_process_left_is_replaced() {
    let behind = Behind::start().await;
    let path = behind.folder.path().join("left.sock");
    drop(UnixListener::bind(&path).unwrap());
    fs::create_dir(beside(&path)).unwrap();
    drop(UnixListener::bind(beside(&path).join("socket")).unwrap());
    let client = client(&path, DEADLINE);
    assert!(!client.is_served().await.unwrap(), "nobody listens there");
    assert!(matches!(client.ping().await, Err(Error::Unreachable { .. })));

    let served = Served::start(path.clone(), behind.buffer.clone());
    assert!(client.is_served().await.unwrap());
    client.ping().await.unwrap();
    assert!(!beside(&path).exists());
    drop(served);
    assert!(!client.is_served().await.unwrap());
    assert!(!path.exists());
    // As a supervisor does after a failure.
    let _again = Served::start(path, behind.buffer.clone());
    client.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_takes_away_only_its_own_name() {
    let behind = Behind::start().await;
    let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
    let first = inode(&behind.path);
    let next = Served::start(behind.path.clone(), behind.buffer.clone());
    assert_ne!(inode(&behind.path), first);
    drop(behind.served);
    client(&behind.path, DEADLINE).ping().await.unwrap();
    drop(next);
    assert!(!behind.path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_longer_than_the_system_takes_works() {
    let behind = Behind::start().await;
    let deep = behind.folder.path().join("a-folder-of-thirty-bytes------/".repeat(5));
    fs::create_dir_all(&deep).unwrap();
    let path = deep.join("it.sock");
    assert!(UnixListener::bind(&path).is_err(), "it is too long for the system");
    let client = client(&path, DEADLINE);
    assert!(!client.is_served().await.unwrap());
    let served = Served::start(path.clone(), behind.buffer.clone());
    assert_eq!(client.registration().await.unwrap(), Some(DATASET));
    assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(served);
    assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_may_not_be_entered_is_no_absent_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    // For root, whom no permission stops, a path through a file is the like.
    let error = client(&file.join("it.sock"), DEADLINE).is_served().await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { reason } if reason.contains("it.sock")), "{error}");
    assert!(matches!(ControlSocket::bind(&file.join("it.sock")), Err(Error::Unreachable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_with_an_error() {
    let behind = Behind::start().await;
    let good = r#"{"version":4,"body":"ping"}"#;
    assert!(behind.say(&message(good, b"")).contains(r#"{"Ok":"reached"}"#));
    for nonsense in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 64],
        message("", b""),
        message("{", b""),
        message("[[[[[[[[", b""),
        message(r#"{"version":4}"#, b""),
        message(r#"{"version":4,"body":"shutdown"}"#, b""),
        message(r#"{"version":4,"body":{"status":{"partition":-1}}}"#, b""),
        message(good, b"a tail"),
        message(&format!("{good}{}", " ".repeat(70_000)), b""),
    ] {
        let answer = behind.say(&nonsense);
        assert!(answer.contains(r#"{"Err":{"corrupt":"#), "{}: {answer}", String::from_utf8_lossy(&nonsense));
    }
    let answer = behind.say(&message(r#"{"version":9,"body":{"shut":"down"}}"#, b""));
    assert!(answer.contains(r#"{"Err":{"unsafe":"#) && answer.contains("different versions of systole"), "{answer}");
    behind.client().ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_say_half_and_fall_silent_are_left_and_keep_nobody_out() {
    let behind = Behind::start().await;
    // More than are served at once.
    let mut silent: Vec<UnixStream> = (0..70).map(|_| behind.connect()).collect();
    for (at, stream) in silent.iter_mut().enumerate() {
        stream.write_all(&message(r#"{"version":4,"body":"ping"}"#, b"")[..at % 30]).unwrap();
    }
    behind.client().ping().await.unwrap();
    for stream in &mut silent {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed without an answer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_reads_is_given_up() {
    let behind = Behind::start().await;
    let letters = behind.bury(2).await;
    let list = message(r#"{"version":4,"body":{"dead_letters":{"partition":0,"after":null,"limit":9}}}"#, b"");
    let mut deaf = behind.connect();
    deaf.write_all(&list).unwrap();
    // Its first bytes are there, so it has its turn.
    deaf.read_exact(&mut [0; 8]).unwrap();
    let begun = Instant::now();
    behind.client().ping().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "what brings no frames does not wait");
    assert_eq!(behind.client().dead_letters(0, None, 9).await.unwrap(), letters);
    let mut rest = Vec::new();
    let _ = deaf.read_to_end(&mut rest);
    assert!(rest.len() < large_frame().bytes().len(), "its answer was cut off: {}", rest.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_order_lets_an_answer_under_way_end_and_silent_peers_go() {
    let behind = Behind::start().await;
    let letters = behind.bury(2).await;
    let mut silent = behind.connect();
    let mut reader = behind.connect();
    reader
        .write_all(&message(r#"{"version":4,"body":{"dead_letters":{"partition":0,"after":null,"limit":9}}}"#, b""))
        .unwrap();
    let mut lengths = [0; 8];
    reader.read_exact(&mut lengths).unwrap();
    let stopping = std::thread::spawn(move || drop(behind.served));
    let begun = Instant::now();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert!(begun.elapsed() < Duration::from_secs(1), "nobody waits for one who has not said what he wants");
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer).unwrap();
    let frames: usize = letters.iter().map(|letter| letter.bytes.len()).sum();
    let head = u32::from_le_bytes(lengths[..4].try_into().unwrap()) as usize;
    assert_eq!(answer.len(), head + frames, "whole");
    stopping.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_ends_at_the_same_letter_on_either_side() {
    let behind = Behind::start().await;
    let letters = behind.bury(20).await;
    assert!((15..=17).contains(&letters.len()), "{} of 20 letters have 16 MiB", letters.len());
    assert_eq!(behind.client().dead_letters(0, None, 20).await.unwrap(), letters);
    let after = letters.last().map(|letter| letter.id);
    assert_eq!(behind.client().dead_letters(0, after, 20).await.unwrap().len(), 20 - letters.len());
    assert_eq!(behind.client().dead_letter(0, letters[3].id).await.unwrap().as_ref(), Some(&letters[3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_calls_at_once_are_answered() {
    let behind = Behind::start().await;
    push(&*behind.buffer, 1, &frame(1, 3)).await.unwrap();
    let client = behind.client();
    let statuses = futures::future::try_join_all((0..1_000).map(|at| client.status(at % 2))).await.unwrap();
    assert!(statuses.iter().all(|status| status.ledger.pending == u64::from(status.partition) * 3));
}

/// A server of the test's own: reads the call, says this, and closes or falls silent.
fn pretend(path: &Path, answer: Vec<u8>, then_silent: bool) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4_096]).unwrap();
        stream.write_all(&answer).unwrap();
        if then_silent {
            // Until the client gives up.
            let _ = stream.read(&mut [0]);
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_hangs_or_talks_nonsense_is_an_error_of_its_kind() {
    type Kind = fn(&Error) -> bool;
    let folder = tempfile::tempdir().unwrap();
    let good = message(r#"{"version":4,"body":{"Ok":"reached"}}"#, b"");
    let unreachable: Kind = |error| matches!(error, Error::Unreachable { .. });
    let corrupt: Kind = |error| matches!(error, Error::Corrupt { .. });
    let timed_out: Kind = |error| matches!(error, Error::TimedOut { .. });
    let another_version: Kind =
        |error| matches!(error, Error::Unsafe { advice } if advice.contains("different versions"));
    let not_registered: Kind = |error| matches!(error, Error::NotRegistered);
    for (at, (answer, then_silent, expected)) in [
        (Vec::new(), false, unreachable),
        (good[..3].to_vec(), false, unreachable),
        (good[..20].to_vec(), false, unreachable),
        (Vec::new(), true, timed_out),
        (good[..20].to_vec(), true, timed_out),
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), true, corrupt),
        (vec![0xff; 8], true, corrupt),
        (message(r#"{"version":4,"body":{"Ok":{"settled":true}}}"#, b""), true, corrupt),
        (message(r#"{"version":4,"body":"?"}"#, b""), true, corrupt),
        (message(r#"{"version":9,"body":"?"}"#, b"with a tail"), true, another_version),
        (message(r#"{"version":4,"body":{"Err":"not_registered"}}"#, b""), true, not_registered),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(at.to_string());
        let server = pretend(&path, answer, then_silent);
        let begun = Instant::now();
        let error = client(&path, Duration::from_millis(500)).ping().await.unwrap_err();
        assert!(expected(&error), "{at}: {error:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{at}");
        assert!(!error.to_string().contains('\n'), "{error}");
        server.join().unwrap();
    }
    let path = folder.path().join("good");
    let server = pretend(&path, good, false);
    client(&path, DEADLINE).ping().await.unwrap();
    server.join().unwrap();
}
