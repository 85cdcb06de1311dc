//! With no more rights than a container or the systemd unit gives it, Systole does its work.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Beats, Buffer, SOON, World, tmpfs::Tmpfs};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/systole@.service");
/// The most that `systemd-analyze security` may find exposed, in tenths of its points; 0 is best, 100 worst.
const MOST_EXPOSED: &str = "--threshold=15";
/// A user and group that no file of the system belongs to; those of the container image.
const NOBODY: u32 = 10_001;

/// Makes everything read-only but the folder "$1", gives up every right, and becomes the command behind.
const CONFINE: &str = r#"
set -eu
folder=$1; shift
mount --make-rprivate /
mount --bind "$folder" "$folder"
for point in $(findmnt --noheadings --raw --output TARGET | grep -vxF "$folder"); do
  mount -o remount,bind,ro "$point" 2>/dev/null || true
done
if touch "$folder/../writable" 2>/dev/null; then exit 90; fi
cd "$folder"
exec setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
"#;

/// Whether a mount namespace of one's own can be had.
fn may_unshare() -> bool {
    Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success())
}

/// A copy of the binary that everybody may run, wherever the original lies.
fn binary_in(folder: &Path) -> PathBuf {
    let copy = folder.join("systole");
    std::fs::copy(env!("CARGO_BIN_EXE_systole"), &copy).unwrap();
    copy
}

#[test]
fn a_user_without_rights_on_a_read_only_system_is_enough() {
    if !may_unshare() {
        return support::skip("a read-only system", "a mount namespace needs root");
    }
    let Some(place) = Tmpfs::mount("700m") else { return };
    let folder = place.path().canonicalize().unwrap();
    let world = World::on(Buffer::Embedded).dataset_in(&folder);
    let binary = binary_in(&folder);
    std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();

    // The harness puts the developer's binary behind the wrapper: the shell drops it for the copy.
    let script = CONFINE.replace("-- \"$@\"", &format!("-- {} \"$@\"", binary.display()));
    let script = script.replace("folder=$1; shift", "folder=$1; shift 2");
    let confined = ["unshare", "--mount", "sh", "-c", &script, "confine", folder.to_str().unwrap()];
    let up = world.up().under(confined).start();
    up.await_status("/health/ready", 200, SOON);
    let rights = std::fs::read_to_string(format!("/proc/{}/status", up.pid())).unwrap();
    for right in ["Uid:\t10001\t10001\t", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(rights.contains(right), "{right} is missing: {rights}");
    }
    world.client(&up).must_keep(&Beats::new(2, 2).take(50));
    world.await_published(SOON);
    up.stop();
    world.verify();
}

#[test]
fn the_systemd_unit_is_sound_and_exposes_little() {
    let analyze = |arguments: &[&str], unit: &Path| Command::new("systemd-analyze").args(arguments).arg(unit).output();
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("systole@up.service");
    let text = std::fs::read_to_string(UNIT).unwrap();
    std::fs::write(&unit, text.replace("/usr/local/bin/systole", env!("CARGO_BIN_EXE_systole"))).unwrap();
    let Ok(verified) = analyze(&["verify"], &unit) else {
        return support::skip("the systemd unit", "systemd-analyze is not installed");
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("systole@"), "{said}");
    let judged = analyze(&["security", "--offline=true", "--no-pager", MOST_EXPOSED], &unit).unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}
