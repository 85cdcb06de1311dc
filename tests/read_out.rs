//! Where `systole read` writes: a file is replaced by one that is whole and no more open than it was, what is no file is written
//! into and stays what it is, and a reader that stands still does not keep the command from ending.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::ioctl_fionread;
use support::beats::now_ms;
use support::systole::Launch;
use support::{Beat, Buffer, SOON, World, wait};

/// Enough that a pipe cannot hold them.
const BEATS: usize = 3000;
/// Bytes that a pipe holds, unless told otherwise.
const PIPE: u64 = 64 << 10;

/// A dataset in which heartbeats of ada lie; nothing runs on it.
fn world() -> World {
    let world = World::on(Buffer::Embedded);
    let up = world.up().start();
    let base = now_ms() - 60_000;
    let beats: Vec<Beat> = (0..BEATS).map(|n| Beat::at("ada", "laptop", base + n as i64)).collect();
    world.address_is(&up);
    let client = world.client(&up);
    beats.chunks(500).for_each(|some| client.must_keep(some));
    world.await_drained(SOON);
    up.stop();
    world
}

fn read(world: &World, out: Option<&Path>) -> Launch {
    let launch = world.books(&["read"]).args(["--user", "ada", "--format", "ndjson"]);
    launch.args(out.map(|path| format!("--out={}", path.display())))
}

fn pipe(folder: &Path) -> PathBuf {
    let path = folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).unwrap().lines().count()
}

#[test]
fn a_file_keeps_its_mode_a_link_its_place_and_a_pipe_its_nature() {
    let (world, folder) = (world(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    read(&world, Some(folder.path())).refused(2, &["--out", "is a folder"]);

    fs::write(at("secret"), "old").unwrap();
    fs::set_permissions(at("secret"), Permissions::from_mode(0o600)).unwrap();
    symlink("secret", at("link")).unwrap();
    read(&world, Some(&at("link"))).run().expect_code(0);
    assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
    assert_eq!(lines(&at("secret")), BEATS);
    assert_eq!(fs::metadata(at("secret")).unwrap().permissions().mode() & 0o777, 0o600);

    let pipe = pipe(folder.path());
    let through = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    read(&world, Some(&pipe)).run().expect_code(0);
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    assert_eq!(through.join().unwrap().lines().count(), BEATS);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "no draft is left");
}

#[test]
fn a_command_whose_reader_stands_still_ends_when_it_is_told_to() {
    let (world, folder) = (world(), tempfile::tempdir().unwrap());
    let pipe = pipe(folder.path());
    let into_the_pipe = format!("exec \"$0\" \"$@\" > {}", pipe.display());
    for launch in [read(&world, None).under(["sh", "-c", &into_the_pipe]), read(&world, Some(&pipe))] {
        let mut reading = launch.spawn();
        let mut reader = File::open(&pipe).unwrap();
        wait::until("the pipe is full", SOON, || ioctl_fionread(&reader).unwrap() >= PIPE);
        reading.interrupt();
        let status = reading.wait_exit(SOON);
        assert_eq!(status.code(), Some(3), "{:?}", reading.log());
        assert!(reading.log().concat().contains("interrupted before all was read"), "{:?}", reading.log());
        // What it had written is there, and no more comes.
        let mut left = Vec::new();
        reader.read_to_end(&mut left).unwrap();
        assert_eq!(left.len() as u64, PIPE);
    }
}

/// By 3 whatever keeps services running (systemd, say) starts it again; 2 is a wrong setting, after which it would stay away.
#[test]
fn an_up_that_is_started_while_a_read_has_the_buffer_is_to_be_started_again() {
    let (world, folder) = (world(), tempfile::tempdir().unwrap());
    let pipe = pipe(folder.path());
    let mut reading = read(&world, Some(&pipe)).spawn();
    let reader = File::open(&pipe).unwrap();
    wait::until("the pipe is full", SOON, || ioctl_fionread(&reader).unwrap() >= PIPE);
    world.up().refused(3, &[&format!("in use by process {}", reading.pid())]);
    reading.interrupt();
    reading.wait_exit(SOON);
    world.up().start().stop();
}

#[test]
fn a_command_that_waits_for_the_reader_of_a_pipe_ends_when_it_is_told_to() {
    let (world, folder) = (world(), tempfile::tempdir().unwrap());
    let mut reading = read(&world, Some(&pipe(folder.path()))).spawn();
    let handles_signals = || {
        let status = fs::read_to_string(format!("/proc/{}/status", reading.pid())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        // Bit 1 is SIGINT.
        caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 2 != 0)
    };
    wait::until("it listens for signals", SOON, handles_signals);
    reading.interrupt();
    assert_eq!(reading.wait_exit(SOON).code(), Some(3), "{:?}", reading.log());
}
