//! A file of the dataset emptied, cut, or with one bit flipped, anywhere in it: never merged or served by Systole as if it
//! were whole, named, kept; the rest goes on; and with the whole file back, everything is there.
//!
//! Each roll of the dice works on a copy of one dataset at rest.

use std::path::{Path, PathBuf};

use crate::support::damage::Damage;
use crate::support::oracle::{every_file, published_files};
use crate::support::systole::Finished;
use crate::support::{Beats, Buffer, Collector, Dice, SOON, Snapshot, World, on_every_buffer, wait};

/// How often each kind of file is damaged.
const ROLLS: usize = 10;
/// Merges whatever is there.
const CONSOLIDATE: [&str; 4] =
    ["--max-files=2", "--small-file-share=0", "--large-file-rows=100000", "--reader-grace=0s"];

/// A dataset in which each bucket has two published files and a fragment; in the fragments stand new rows, and some of the
/// rows that are published. Nothing runs on it.
struct Gallery {
    world: World,
    whole: tempfile::TempDir,
}

impl Gallery {
    fn build(buffer: Buffer) -> Self {
        let world = World::on(buffer);
        let mut collector = world.collector().without_compactor().start();
        let (client, beats) = (collector.client(), Beats::new(12, 2));
        let first = beats.take(120);
        client.must_keep(&first);
        world.await_drained(SOON);
        world.publish();
        client.must_keep(&beats.take(120));
        world.await_drained(SOON);
        world.publish();
        let again: Vec<_> = first.iter().step_by(3).cloned().chain(beats.take(120)).collect();
        client.must_keep(&again);
        world.await_drained(SOON);
        collector.stop();
        drop(collector);
        let whole = tempfile::Builder::new().prefix("whole").tempdir().unwrap();
        copy(world.dataset(), whole.path());
        Self { world, whole }
    }

    /// Lays everything out anew.
    fn lay_out(&self) {
        std::fs::remove_dir_all(self.world.dataset()).unwrap();
        copy(self.whole.path(), self.world.dataset());
    }

    fn files(&self, pick: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let mut files = every_file(self.world.dataset());
        files.retain(|path| pick(&name(path)));
        assert!(files.len() >= 3, "{files:?}");
        files
    }

    /// Fragments that wait to be published.
    fn staged(&self) -> Vec<PathBuf> {
        let mut staged = self.world.staged();
        staged.retain(|path| path.parent().unwrap().file_name().unwrap() != "quarantine");
        staged
    }

    fn compact(&self) -> Finished {
        self.world.compact().args(CONSOLIDATE).run()
    }

    /// Published and consolidated without a fault: all rows, none twice, the books in order.
    fn assert_whole(&self, what: &str) {
        self.compact().expect_code(0);
        assert!(self.staged().is_empty(), "{what}");
        self.world.judge();
        self.world.verify();
        self.world.audit();
    }

    /// What is published, but for the file at `without`, is sound, and nothing in it is invented or changed.
    fn assert_sound_without(&self, without: &Path, what: &str) -> Snapshot {
        let aside = without.with_extension("aside");
        let there = without.exists();
        if there {
            std::fs::rename(without, &aside).unwrap();
        }
        let snapshot = Snapshot::read(self.world.dataset()).unwrap_or_else(|error| panic!("{what}: {error}"));
        if there {
            std::fs::rename(&aside, without).unwrap();
        }
        assert_eq!(snapshot.faults(), Vec::<String>::new(), "{what}");
        let wrong = snapshot.disagreements(&self.world.ledger).into_iter().find(|fault| !fault.starts_with("lost"));
        assert_eq!(wrong, None, "{what}");
        snapshot
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else if source.is_file() {
            std::fs::copy(source, target).unwrap();
        }
    }
}

/// Strikes a file of those that `pick` names, so many times, each time in a fresh copy; `look` then looks at what became
/// of it.
fn strike_some(gallery: &Gallery, pick: fn(&str) -> bool, look: impl Fn(&Path, &[u8], &[u8], &str)) {
    let mut dice = Dice::loaded_anew();
    for _ in 0..ROLLS {
        gallery.lay_out();
        let files = gallery.files(pick);
        let path = &files[dice.roll(files.len())];
        let damage = Damage::roll(&mut dice, std::fs::metadata(path).unwrap().len() as usize);
        let what = format!("{}: {damage}", name(path));
        let (whole, damaged) = damage.strike(path);
        look(path, &whole, &damaged, &what);
    }
}

fn a_damaged_fragment_is_laid_aside_and_the_rest_is_published(buffer: Buffer) {
    let gallery = Gallery::build(buffer);
    let is_fragment = |name: &str| name.starts_with(".part_");
    strike_some(&gallery, is_fragment, |path, whole, damaged, what| {
        let verify = gallery.world.books(&["verify"]).run().expect_code(1);
        assert!(verify.stdout.contains(&name(path)), "{what}: {}", verify.stdout);
        let pass = gallery.compact().expect_code(1);
        assert!(pass.stdout.contains("quarantine") || pass.stderr.contains("quarantine"), "{what}: {}", pass.stdout);
        // All others are published; of this one not a row.
        assert!(gallery.staged().is_empty(), "{what}");
        let kept = path.parent().unwrap().join("quarantine").join(name(path));
        assert_eq!(std::fs::read(&kept).unwrap(), damaged, "{what}: kept as it was");
        let snapshot = gallery.assert_sound_without(Path::new("/none"), what);
        let lost = snapshot.disagreements(&gallery.world.ledger).len();
        let rows: usize = name(path).trim_end_matches(".parquet").rsplit('-').next().unwrap().parse().unwrap();
        assert!((1..=rows).contains(&lost), "{what}: {lost} rows are held back, the fragment had {rows}");
        // It is accounted for.
        gallery.world.audit();

        std::fs::write(path, whole).unwrap();
        std::fs::remove_file(&kept).unwrap();
        gallery.assert_whole(what);
    });
}

fn a_damaged_published_file_is_found_and_never_merged(buffer: Buffer) {
    let gallery = Gallery::build(buffer);
    let is_published = |name: &str| name.starts_with("heartbeats-");
    strike_some(&gallery, is_published, |path, whole, damaged, what| {
        let verify = gallery.world.books(&["verify"]).run().expect_code(1);
        assert!(verify.stdout.contains(&name(path)), "{what}: {}", verify.stdout);
        let pass = gallery.compact().expect_code(1);
        let said = format!("{}{}", pass.stdout, pass.stderr);
        assert!(said.contains(&name(path)), "{what}: {said}");
        assert_eq!(std::fs::read(path).unwrap(), damaged, "{what}: it stays where and as it is");
        gallery.assert_sound_without(path, what);
        // The other buckets are done with.
        let bucket = path.parent().unwrap().file_name().unwrap();
        let elsewhere = |staged: &PathBuf| staged.parent().unwrap().file_name().unwrap() != bucket;
        assert_eq!(gallery.staged().into_iter().find(elsewhere), None, "{what}");

        std::fs::write(path, whole).unwrap();
        gallery.assert_whole(what);
    });
}

fn a_damaged_identity_index_doubles_nothing(buffer: Buffer) {
    let gallery = Gallery::build(buffer);
    let is_index = |name: &str| name.starts_with(".index_");
    strike_some(&gallery, is_index, |_, _, _, what| gallery.assert_whole(what));
}

fn a_damaged_dataset_json_is_refused_and_nothing_is_born_in_its_place(buffer: Buffer) {
    let gallery = Gallery::build(buffer);
    let mut dice = Dice::loaded_anew();
    let path = gallery.world.dataset().join("dataset.json");
    let text = std::fs::read_to_string(&path).unwrap();
    // The most dangerous one first: 5 partitions instead of 4 are as good JSON as any.
    let digit = text.find("\"partitions\": 4").unwrap() + "\"partitions\": ".len();
    let rolled = (0..ROLLS).map(|_| Damage::roll(&mut dice, text.len()));
    let damages: Vec<Damage> = [Damage::Flipped(digit, 0)].into_iter().chain(rolled).collect();
    let mut refused = 0;
    for damage in damages {
        gallery.lay_out();
        let (whole, damaged) = damage.strike(&path);
        let pass = gallery.compact();
        let said = format!("{}{}", pass.stdout, pass.stderr);
        if pass.status.code() == Some(0) {
            // What was hit says nothing, such as a space: everything went as it should.
            gallery.world.judge();
        } else {
            refused += 1;
            assert!(said.contains("dataset.json"), "{damage}: {said}");
            assert_eq!(std::fs::read(&path).unwrap(), damaged, "{damage}: it stays as it is");
            let audit = gallery.world.books(&["audit"]).run();
            assert_ne!(audit.status.code(), Some(0), "{damage}: {}", audit.stdout);
        }
        std::fs::write(&path, whole).unwrap();
        gallery.assert_whole(&damage.to_string());
    }
    assert!(refused > ROLLS / 2, "only {refused} of {ROLLS} were noticed");
}

/// While everything runs: named on `/health` and in the metrics, and over once the file is whole again.
fn damage_met_while_everything_runs_is_named_and_holds_up_its_bucket_only(buffer: Buffer) {
    let world = World::on(buffer);
    let mut collector = world.collector().without_compactor().start();
    let (client, beats) = (collector.client(), Beats::new(20, 2));
    client.must_keep(&beats.take(200));
    world.await_drained(SOON);
    world.publish();
    client.must_keep(&beats.take(200));
    world.await_drained(SOON);
    // The footer of a published file: without it nobody knows what was merged. And a fragment of another bucket.
    let published = published_files(world.dataset()).remove(0);
    let bucket = |path: &Path| path.parent().unwrap().file_name().unwrap().to_owned();
    let fragment = world.staged().into_iter().find(|path| bucket(path) != bucket(&published)).unwrap();
    let cut = |path: &Path| Damage::Cut(std::fs::metadata(path).unwrap().len() as usize - 3).strike(path);
    let ((whole_published, damaged), (whole_fragment, _)) = (cut(&published), cut(&fragment));

    collector.start_compactor();
    await_named(&collector, "systole_compactor_held_back_buckets", &["held back", &name(&published)]);
    await_named(&collector, "systole_compactor_quarantined_fragments", &["quarantine"]);
    wait::until("the other buckets to be published", SOON, || {
        let held_up =
            |path: &PathBuf| bucket(path) == bucket(&published) || path.parent().unwrap().ends_with("quarantine");
        world.staged().iter().all(held_up)
    });
    assert_eq!(std::fs::read(&published).unwrap(), damaged);

    std::fs::write(&published, whole_published).unwrap();
    std::fs::write(&fragment, whole_fragment).unwrap();
    std::fs::remove_file(fragment.parent().unwrap().join("quarantine").join(name(&fragment))).unwrap();
    world.await_published(4 * SOON);
    collector.compactor().await_status("/health", 200, 4 * SOON);
    world.verify();
    world.audit();
}

/// Waits until `/health` of the compactor is 503 with these words, and this metric counts.
fn await_named(collector: &Collector<'_>, metric: &str, words: &[&str]) {
    wait::value("the damage to be named", 2 * SOON, || {
        let health = collector.compactor().get("/health").ok_or("no answer")?;
        let named = health.status == 503 && words.iter().all(|word| health.text.contains(word));
        let counted = collector.compactor().metrics().sum(metric);
        let both = named && counted.is_some_and(|count| count >= 1.0);
        if both { Ok(()) } else { Err(format!("{metric} is {counted:?}; {}", health.text)) }
    });
}

on_every_buffer! {
    a_damaged_fragment_is_laid_aside_and_the_rest_is_published,
    a_damaged_published_file_is_found_and_never_merged,
    a_damaged_identity_index_doubles_nothing,
    a_damaged_dataset_json_is_refused_and_nothing_is_born_in_its_place,
    damage_met_while_everything_runs_is_named_and_holds_up_its_bucket_only,
}
