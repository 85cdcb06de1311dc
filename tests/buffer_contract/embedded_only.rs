//! What only the embedded buffer can do wrong: its directory, its process, its disk.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use systole::buffer::embedded::{self, EmbeddedBuffer};
use systole::buffer::options::Options;
use systole::buffer::{Buffer, ClaimBudget, Error, Inlet, Inspect, LeaseAnswer, Reach, Registration};
use systole::heartbeat::{BatcherId, ClaimId, DatasetId, Frame, OpenFrame};

use crate::backend::{DATASET, Embedded, open, own_options};
use crate::suite::{ALL, MINUTE, bulky, claim, frame, lease, ledger, push};
use crate::tmpfs::Tmpfs;

/// Tells the child of a test where to work.
const CHILD_DIR: &str = "SYSTOLE_CONTRACT_CHILD_DIR";

/// A frame of rows of `user`, of about `size` bytes.
fn sized(user: u64, size: usize) -> Frame {
    bulky(user, &user.to_string(), size.div_ceil(4_096).max(1) as u64, size.min(4_096))
}

/// The users in the frames of a claim.
fn users(frames: &[bytes::Bytes]) -> Vec<u64> {
    let first = |frame: &bytes::Bytes| OpenFrame::open(frame).unwrap().all_rows().unwrap()[0].user_id.parse().unwrap();
    frames.iter().map(first).collect()
}

/// Bytes that a folder really takes on the disk.
fn disk_usage(folder: &Path) -> u64 {
    std::fs::read_dir(folder)
        .unwrap()
        .filter_map(Result::ok)
        // Files come and go while the store works.
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, found)| if found.is_dir() { disk_usage(&path) } else { found.blocks() * 512 })
        .sum()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_second_process_is_told_who_has_the_directory() {
    let embedded = Embedded::start();
    let error = EmbeddedBuffer::open(embedded.dir.path(), &Options::default(), &own_options()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("process {}:", std::process::id())), "{error}");
    let dir = embedded.dir.path().to_owned();
    drop(embedded.buffer);
    open(&dir);
}

#[tokio::test]
async fn it_says_that_only_losing_the_disk_loses_anything() {
    let embedded = Embedded::start();
    let durability = embedded.buffer.durability().await.unwrap();
    assert_eq!((durability.level, durability.wait_replicas), ("always", 0));
    assert!(durability.window.contains("losing the disk"));
}

#[tokio::test]
async fn an_erased_or_foreign_directory_is_an_alarm_and_no_fresh_start() {
    let Embedded { dir, buffer, .. } = Embedded::start();
    buffer.register(DATASET).await.unwrap();
    push(&buffer, 0, &frame(1, 1)).await.unwrap();
    let expecting = buffer.another(&Options::default());
    expecting.expect_dataset(DatasetId::from_u128(0xbad));
    assert!(matches!(expecting.registration().await, Err(Error::ForeignDataset { .. })));
    assert!(matches!(push(&expecting, 0, &frame(2, 1)).await, Err(Error::ForeignDataset { .. })));
    assert!(matches!(expecting.register(DATASET).await, Err(Error::ForeignDataset { .. })));

    // The store may still make a file while it is being erased.
    let give_up = Instant::now() + Duration::from_secs(20);
    while std::fs::remove_dir_all(dir.path()).is_err() {
        assert!(Instant::now() < give_up, "it cannot be erased");
    }
    assert!(matches!(push(&buffer, 0, &frame(2, 1)).await, Err(Error::NotRegistered)));
    assert!(matches!(buffer.ping().await, Err(Error::NotRegistered)));
    assert!(matches!(buffer.registration().await, Err(Error::NotRegistered)));
    assert!(matches!(buffer.lease(0, BatcherId::new(), MINUTE).await, Err(Error::NotRegistered)));
    let other = Registration { dataset: DatasetId::from_u128(0xbad), partitions: 2 };
    assert!(buffer.register(other).await.is_err());
    assert!(!dir.path().exists(), "nothing was made anew");
}

#[tokio::test]
async fn a_restart_voids_the_leases_of_the_process_that_died() {
    let mut embedded = Embedded::start();
    embedded.buffer.register(DATASET).await.unwrap();
    let before = lease(&embedded.buffer, 0).await;
    let other = BatcherId::new();
    assert!(matches!(embedded.buffer.lease(0, other, MINUTE).await.unwrap(), LeaseAnswer::Held { .. }));
    crate::backend::Backend::crash_and_restart(&mut embedded);
    assert_eq!(embedded.buffer.status(0).await.unwrap().owner, None);
    let LeaseAnswer::Taken(after) = embedded.buffer.lease(0, other, MINUTE).await.unwrap() else { panic!() };
    assert_eq!(after.epoch, before.epoch + 1, "an epoch never comes back");
}

#[tokio::test]
async fn a_partition_that_is_none_takes_nothing_and_the_others_do() {
    let Embedded { buffer, dir: _dir, .. } = Embedded::start();
    buffer.register(DATASET).await.unwrap();
    let outcomes = buffer.push(&[(0, frame(1, 1)), (7, frame(2, 1)), (1, frame(3, 1))]).await;
    assert!(matches!(&outcomes[..], [Ok(()), Err(Error::NotRegistered), Ok(())]), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_does_not_load_the_hundred_thousand_frames_that_wait() {
    let Embedded { dir, buffer, .. } = Embedded::start();
    buffer.register(DATASET).await.unwrap();
    for thousand in 0..100 {
        let frames: Vec<_> = (0..1_000).map(|nth| ((nth % 2) as u16, sized(thousand * 1_000 + nth, 1_000))).collect();
        assert!(buffer.push(&frames).await.iter().all(Result::is_ok));
    }
    drop(buffer);
    let before = resident_kib();
    let buffer = open(dir.path());
    let grown = resident_kib().saturating_sub(before);
    // A tenth of a gigabyte waits; other tests may run in this process.
    assert!(grown < 80 << 10, "{grown} KiB");
    assert_eq!(ledger(&buffer, 0).await.pending + ledger(&buffer, 1).await.pending, 100_000);
    let lease = lease(&buffer, 0).await;
    let claimed = claim(&buffer, &lease).await;
    assert_eq!(users(&claimed.frames), (0..2_000).step_by(2).collect::<Vec<_>>());
}

async fn until_below(folder: &Path, bytes: u64) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while disk_usage(folder) > bytes {
        assert!(Instant::now() < give_up, "{} are kept", disk_usage(folder));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_space_of_what_was_acknowledged_is_given_back() {
    let Embedded { dir, buffer, .. } = Embedded::start();
    buffer.register(DATASET).await.unwrap();
    let holder = lease(&buffer, 0).await;
    // A backlog, then none: what it took must not stay.
    let backlog = 6_400;
    for nth in 0..backlog / 64 {
        let frames: Vec<_> = (0..64).map(|one| (0, sized(nth * 64 + one, 65_536))).collect();
        assert!(buffer.push(&frames).await.iter().all(Result::is_ok));
    }
    let full = disk_usage(dir.path());
    assert!(full > 400 << 20, "{full}");
    let mut seen = Vec::new();
    while let Some(claimed) = buffer.claim(&holder, ClaimId::new(), ALL).await.unwrap() {
        seen.extend(users(&claimed.frames));
        buffer.ack(&holder, claimed.id, &[]).await.unwrap();
    }
    assert_eq!(seen, (0..backlog).collect::<Vec<_>>());
    until_below(dir.path(), 200 << 20).await;
    // As much again, acknowledged as it comes: what takes room is what came in since the last look for garbage.
    for nth in 0..backlog / 64 {
        let frames: Vec<_> = (0..64).map(|one| (0, sized(nth * 64 + one, 65_536))).collect();
        assert!(buffer.push(&frames).await.iter().all(Result::is_ok));
        let claimed = claim(&buffer, &holder).await;
        buffer.ack(&holder, claimed.id, &[]).await.unwrap();
        assert!(disk_usage(dir.path()) < 700 << 20, "{}", disk_usage(dir.path()));
    }
    until_below(dir.path(), 200 << 20).await;
    assert_eq!(ledger(&buffer, 0).await.bytes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_space_back_never_takes_the_last_of_the_disk() {
    let Some(disk) = Tmpfs::mount("560m") else { return };
    let own = embedded::Options { buffer_min_free: ByteSize::mib(8) };
    let dir = disk.path().join("buffer");
    let buffer = EmbeddedBuffer::open(&dir, &Options::default(), &own).unwrap();
    buffer.register(DATASET).await.unwrap();
    let backlog = 4_352;
    for nth in 0..backlog / 64 {
        let frames: Vec<_> = (0..64).map(|one| (0, sized(nth * 64 + one, 65_536))).collect();
        let give_up = Instant::now() + Duration::from_secs(30);
        while buffer.push(&frames).await.iter().any(Result::is_err) {
            assert!(Instant::now() < give_up, "the disk does not keep up");
        }
    }
    // Room for some of what will be kept, not for all of it a second time.
    let ballast = disk.fill();
    let file = std::fs::File::options().write(true).open(&ballast).unwrap();
    file.set_len(file.metadata().unwrap().len() - (40 << 20)).unwrap();
    let holder = lease(&buffer, 0).await;
    let budget = ClaimBudget { frames: 100, ..ALL };
    let acknowledge = async || {
        let Some(claimed) = buffer.claim(&holder, ClaimId::new(), budget).await.unwrap() else { return false };
        buffer.ack(&holder, claimed.id, &[]).await.unwrap();
        true
    };
    while ledger(&buffer, 0).await.bytes > 60 << 20 {
        assert!(acknowledge().await);
    }
    // It is looked for garbage once a second.
    for _ in 0..40 {
        let free = fs2::available_space(&dir).unwrap();
        assert!(free > 20 << 20, "{free} bytes are free");
        buffer.ping().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while acknowledge().await {}
    until_below(&dir, 200 << 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_gets_well_by_itself() {
    let Some(disk) = Tmpfs::mount("300m") else { return };
    // No reserve: the store itself must run into the end of the disk.
    let own = embedded::Options { buffer_min_free: ByteSize::b(0) };
    let dir = disk.path().join("buffer");
    let buffer = EmbeddedBuffer::open(&dir, &Options::default(), &own).unwrap();
    buffer.register(DATASET).await.unwrap();
    let (mut sent, mut kept) = (0, Vec::new());
    let mut ballast = None;
    let (mut refused, mut met_the_end) = (0, false);
    let give_up = Instant::now() + Duration::from_secs(30);
    while refused < 3 || !met_the_end {
        assert!(Instant::now() < give_up, "the store never met the end of the disk");
        if sent == 20 {
            // Room for the journal, but not for the table that a memtable becomes.
            let full = disk.fill();
            let file = std::fs::File::options().write(true).open(&full).unwrap();
            file.set_len(file.metadata().unwrap().len() - (12 << 20)).unwrap();
            ballast = Some(full);
        }
        let frame = sized(sent, 200_000);
        match push(&buffer, 0, &frame).await {
            Ok(()) => kept.push(sent),
            Err(Error::Unreachable { .. } | Error::Refused { .. }) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
        sent += 1;
        // Other steps are not held back by the lack of room.
        let outcome = buffer.lease(1, BatcherId::new(), Duration::ZERO).await;
        met_the_end |= matches!(outcome, Err(Error::Unreachable { .. }));
    }
    assert!(kept.len() >= 20);
    std::fs::remove_file(ballast.unwrap()).unwrap();
    let give_up = Instant::now() + Duration::from_secs(30);
    while let Err(error) = push(&buffer, 0, &sized(u64::MAX, 10)).await {
        assert!(error.is_transient() && Instant::now() < give_up, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    buffer.ping().await.unwrap();
    ledger(&buffer, 0).await;
    let holder = lease(&buffer, 0).await;
    let found = users(&claim(&buffer, &holder).await.frames);
    let known: BTreeSet<_> = found.iter().copied().collect();
    assert_eq!(known.len(), found.len(), "nothing twice");
    assert!(kept.iter().all(|user| known.contains(user)), "what was acknowledged is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_below_its_reserve_takes_nothing_in_and_still_gives_out() {
    let Some(disk) = Tmpfs::mount("200m") else { return };
    let own = embedded::Options { buffer_min_free: ByteSize::mib(50) };
    let buffer = EmbeddedBuffer::open(&disk.path().join("buffer"), &Options::default(), &own).unwrap();
    buffer.register(DATASET).await.unwrap();
    push(&buffer, 0, &frame(1, 1)).await.unwrap();
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1_u8; 160 << 20]).unwrap();
    for outcome in [push(&buffer, 0, &frame(2, 1)).await, buffer.ping().await] {
        assert!(
            matches!(&outcome, Err(Error::Refused { reason }) if reason.contains("buffer-min-free")),
            "{outcome:?}"
        );
    }
    let holder = lease(&buffer, 0).await;
    let claimed = claim(&buffer, &holder).await;
    buffer.ack(&holder, claimed.id, &[]).await.unwrap();
    std::fs::remove_file(ballast).unwrap();
    push(&buffer, 0, &frame(2, 1)).await.unwrap();
    buffer.ping().await.unwrap();
}

/// Runs a test of this file in a process of its own, which its environment tells to be the child.
fn child(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("embedded_only::{test}"), "--nocapture"]).env(CHILD_DIR, dir);
    command
}

/// Not a test of its own: what [`after_a_fault_the_disk_says_what_took_effect`] runs with armed failpoints.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_whose_third_commit_fails_late_and_sixth_early() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    systole::failpoint::arm_from_env().unwrap();
    let buffer = open(Path::new(&dir));
    buffer.register(DATASET).await.unwrap();
    let mut failed = Vec::new();
    for user in 0..5 {
        let give_up = Instant::now() + Duration::from_secs(10);
        // What failed is not sent again: whether it is there is the question.
        if let Err(error) = push(&buffer, 0, &sized(user, 1)).await {
            assert!(matches!(error, Error::Unreachable { .. }), "{error}");
            assert!(buffer.ping().await.is_err(), "not ready");
            failed.push(user);
            while buffer.ping().await.is_err() {
                assert!(Instant::now() < give_up, "it does not get well");
            }
        }
    }
    assert_eq!(failed, [1, 4]);
    push(&buffer, 0, &sized(5, 1)).await.unwrap();
    assert_eq!(ledger(&buffer, 0).await.accepted, 5);
    let holder = lease(&buffer, 0).await;
    assert_eq!(users(&claim(&buffer, &holder).await.frames), [0, 1, 2, 3, 5], "late: it is there; early: it is not");
}

#[test]
fn after_a_fault_the_disk_says_what_took_effect() {
    let dir = tempfile::tempdir().unwrap();
    let output = child("child_whose_third_commit_fails_late_and_sixth_early", dir.path())
        .env("SYSTOLE_TEST_SWITCH", "on")
        .env("SYSTOLE_FAILPOINTS", "buffer.committed=error+2*1;buffer.commit=error+5*1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Not a test of its own: what [`kill_9_at_any_moment_loses_and_doubles_nothing`] kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_works_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let buffer = open(Path::new(&dir));
    buffer.register(DATASET).await.unwrap();
    let said = |what: &str, user: u64| println!("\n{what} {user}");
    // Of each partition it holds the lease; it claims and acknowledges while it pushes.
    let drain = tokio::spawn({
        let buffer = buffer.clone();
        async move {
            let holder = lease(&buffer, 0).await;
            loop {
                let budget = ClaimBudget { frames: 7, ..ALL };
                let Some(claimed) = buffer.claim(&holder, ClaimId::new(), budget).await.unwrap() else { continue };
                for user in users(&claimed.frames) {
                    said("claimed", user);
                }
                buffer.ack(&holder, claimed.id, &[]).await.unwrap();
                for user in users(&claimed.frames) {
                    said("acked", user);
                }
            }
        }
    });
    let base = u64::from(std::process::id()) << 32;
    for nth in 0.. {
        let frames: Vec<_> = (0..3)
            .map(|one| ((one % 2) as u16, sized(base + nth * 3 + one, 1 + (nth as usize * 37) % 9_000)))
            .collect();
        for (outcome, one) in buffer.push(&frames).await.into_iter().zip(0..) {
            outcome.unwrap();
            said("pushed", base + nth * 3 + one);
        }
    }
    drain.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_any_moment_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut pushed, mut acked, mut claimed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for round in 0..12_u64 {
        let mut child = child("child_that_works_until_it_is_killed", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut note = |line: String| {
            let Some((what, user)) = line.split_once(' ') else { return false };
            let Ok(user) = user.parse::<u64>() else { return false };
            let list = match what {
                "pushed" => &mut pushed,
                "claimed" => &mut claimed,
                "acked" => &mut acked,
                _ => return false,
            };
            list.insert(user) && what == "pushed"
        };
        let mut left = 1 + round * round * 20;
        while left > 0 {
            left -= u64::from(note(lines.next().unwrap()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts as well.
        for line in lines {
            note(line);
        }
    }
    let buffer = open(dir.path());
    let mut waiting = Vec::new();
    for partition in 0..2 {
        ledger(&buffer, partition).await;
        let holder = lease(&buffer, partition).await;
        while let Some(claimed) = buffer.claim(&holder, ClaimId::new(), ALL).await.unwrap() {
            waiting.extend(users(&claimed.frames));
            buffer.ack(&holder, claimed.id, &[]).await.unwrap();
        }
    }
    let left: BTreeSet<_> = waiting.iter().copied().collect();
    assert_eq!(left.len(), waiting.len(), "nothing stands twice");
    assert!(left.is_disjoint(&acked), "what was acknowledged is gone");
    let lost: Vec<_> = pushed.iter().filter(|user| !left.contains(user) && !claimed.contains(user)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}
