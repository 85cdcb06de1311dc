//! What a disk would still hold after a power cut, beside the files as the processes see them.
//!
//! The files as seen are real ones, in a folder in memory. Of each change this model knows whether a sync has covered it;
//! [`Disk::power_cut`] throws the rest away, or part of it by the dice, and lays the folder down anew.
//!
//! What is durable:
//! - *Content*: a file has the content of its last sync. One that was never synced comes back empty, cut short, as zeros,
//!   as garbage, or whole.
//! - *A failed sync of a file* loses its content for good, though readers go on seeing it in the cache; another sync of the
//!   same file succeeds and keeps nothing (what Linux does since 4.13, and PostgreSQL learnt in 2018).
//! - *Entries of folders*, by one of two manners:
//!   - [`Manner::Journal`], as ext4 in its usual mode: changes of entries are in one journal, in order; any sync, of a file
//!     too, puts all before it on the disk; a power cut keeps a beginning of the rest.
//!   - [`Manner::Worst`], the least that POSIX lets one expect: a sync of a folder covers that folder only, one of a file no
//!     entry at all; a power cut keeps any choice of the rest, in any order. What one step does in two folders (a rename or
//!     an exchange across them) are two changes: the file may come back under both names, or none.
//! - In both, a folder's failed sync is no trap: a journal that cannot be written stops everything, so a later success means
//!   what it says.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::dice::Dice;

/// How a disk treats entries of folders that no sync has covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Journal,
    Worst,
}

type Node = usize;
type Entries = BTreeMap<OsString, Node>;

#[derive(Debug)]
enum Inode {
    File { synced: Option<Vec<u8>>, doomed: bool },
    Folder { seen: Entries, kept: Entries },
}

/// One change of entries: whole on the disk, or not at all.
#[derive(Debug)]
struct Change(Vec<Edit>);

#[derive(Debug, Clone)]
struct Edit {
    folder: Node,
    name: OsString,
    to: Option<Node>,
}

/// A disk with one folder on it.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    pub manner: Manner,
    inodes: Vec<Inode>,
    /// Changes that are not on the disk yet.
    loose: Vec<Change>,
}

const ROOT: Node = 0;

impl Disk {
    /// An empty one; `root` must be an empty folder.
    pub fn new(root: &Path, manner: Manner) -> Self {
        Self { root: root.to_owned(), manner, inodes: vec![empty_folder()], loose: Vec::new() }
    }

    /// A file was created.
    pub fn created_file(&mut self, path: &Path) {
        let node = self.add(Inode::File { synced: None, doomed: false });
        self.change(&[(path, Some(node))]);
    }

    /// A folder was made.
    pub fn created_folder(&mut self, path: &Path) {
        let node = self.add(empty_folder());
        self.change(&[(path, Some(node))]);
    }

    /// A lock was opened, and perhaps created by that.
    pub fn opened(&mut self, path: &Path) {
        if self.find(path).is_none() {
            self.created_file(path);
        }
    }

    pub fn renamed(&mut self, from: &Path, to: &Path) {
        let node = self.find(from);
        self.change(&[(from, None), (to, node)]);
    }

    pub fn exchanged(&mut self, a: &Path, b: &Path) {
        let (at_a, at_b) = (self.find(a), self.find(b));
        self.change(&[(a, at_b), (b, at_a)]);
    }

    pub fn linked(&mut self, from: &Path, to: &Path) {
        let node = self.find(from);
        self.change(&[(to, node)]);
    }

    pub fn removed(&mut self, path: &Path) {
        self.change(&[(path, None)]);
    }

    /// A file was synced.
    pub fn synced_file(&mut self, path: &Path) {
        let content = fs::read(path).unwrap();
        if let Some(Inode::File { synced, doomed: false }) = self.find(path).map(|node| &mut self.inodes[node]) {
            *synced = Some(content);
        }
        if self.manner == Manner::Journal {
            self.keep_loose(|_| true);
        }
    }

    /// A sync of a file failed.
    pub fn lost_file(&mut self, path: &Path) {
        if let Some(Inode::File { synced, doomed }) = self.find(path).map(|node| &mut self.inodes[node]) {
            (*synced, *doomed) = (None, true);
        }
    }

    /// A folder was synced.
    pub fn synced_folder(&mut self, path: &Path) {
        let Some(folder) = self.find(path) else { return };
        match self.manner {
            Manner::Journal => self.keep_loose(|_| true),
            Manner::Worst => self.keep_loose(|change| change.0.iter().any(|edit| edit.folder == folder)),
        }
    }

    /// The power is cut and comes back. Nobody may be at work.
    pub fn power_cut(&mut self, dice: &mut Dice) {
        let loose = self.loose.len();
        match self.manner {
            Manner::Journal => {
                let survive = dice.roll(loose + 1);
                let mut at = 0..;
                self.keep_loose(|_| at.next().is_some_and(|at| at < survive));
            }
            Manner::Worst => {
                // Often nothing or everything: what goes wrong goes wrong in one piece.
                let odds = [0, 50, 50, 100][dice.roll(4)];
                self.keep_loose(|_| dice.roll(100) < odds);
            }
        }
        self.loose.clear();
        let seen = self.contents_seen();
        let mut files = Vec::new();
        let mut folders = Vec::new();
        self.walk_kept(ROOT, &self.root.clone(), &mut folders, &mut files);
        let files: Vec<(PathBuf, Node, Vec<u8>)> =
            files.into_iter().map(|(path, node)| (path, node, self.content_after(node, &seen, dice))).collect();
        self.lay_down(&folders, &files);
    }

    /// Removes all that there is and puts this in its place, all of it durable.
    fn lay_down(&mut self, folders: &[PathBuf], files: &[(PathBuf, Node, Vec<u8>)]) {
        for entry in fs::read_dir(&self.root).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        *self = Self::new(&self.root.clone(), self.manner);
        for folder in folders {
            fs::create_dir(folder).unwrap();
            self.created_folder(folder);
        }
        let mut laid: BTreeMap<Node, PathBuf> = BTreeMap::new();
        for (path, node, content) in files {
            match laid.get(node) {
                Some(first) => {
                    fs::hard_link(first, path).unwrap();
                    self.linked(&first.clone(), path);
                }
                None => {
                    fs::write(path, content).unwrap();
                    self.created_file(path);
                    self.synced_file(path);
                    laid.insert(*node, path.clone());
                }
            }
        }
        self.keep_loose(|_| true);
    }

    fn content_after(&self, node: Node, seen: &BTreeMap<Node, Vec<u8>>, dice: &mut Dice) -> Vec<u8> {
        let Inode::File { synced, doomed } = &self.inodes[node] else { return Vec::new() };
        if let Some(content) = synced.clone().filter(|_| !doomed) {
            return content;
        }
        let mut content = seen.get(&node).cloned().unwrap_or_default();
        let length = content.len();
        match dice.roll(if *doomed { 4 } else { 5 }) {
            0 => content.clear(),
            1 => content.truncate(dice.roll(length + 1)),
            2 => content.fill(0),
            3 => content.iter_mut().skip(length / 2).for_each(|byte| *byte = dice.roll(256) as u8),
            _ => {}
        }
        content
    }

    /// What processes see in each file that has a name.
    fn contents_seen(&self) -> BTreeMap<Node, Vec<u8>> {
        let mut contents = BTreeMap::new();
        let mut folders = vec![(ROOT, self.root.clone())];
        while let Some((folder, path)) = folders.pop() {
            let Inode::Folder { seen, .. } = &self.inodes[folder] else { continue };
            for (name, node) in seen {
                let path = path.join(name);
                match &self.inodes[*node] {
                    Inode::Folder { .. } => folders.push((*node, path)),
                    Inode::File { .. } => {
                        contents.insert(*node, fs::read(path).unwrap_or_default());
                    }
                }
            }
        }
        contents
    }

    fn walk_kept(&self, folder: Node, at: &Path, folders: &mut Vec<PathBuf>, files: &mut Vec<(PathBuf, Node)>) {
        let Inode::Folder { kept, .. } = &self.inodes[folder] else { return };
        for (name, node) in kept {
            let path = at.join(name);
            match &self.inodes[*node] {
                Inode::File { .. } => files.push((path, *node)),
                Inode::Folder { .. } => {
                    folders.push(path.clone());
                    self.walk_kept(*node, &path, folders, files);
                }
            }
        }
    }

    fn add(&mut self, inode: Inode) -> Node {
        self.inodes.push(inode);
        self.inodes.len() - 1
    }

    fn find(&self, path: &Path) -> Option<Node> {
        let mut node = ROOT;
        // What stands above the root is not on this disk.
        for name in path.strip_prefix(&self.root).ok()?.iter() {
            let Inode::Folder { seen, .. } = &self.inodes[node] else { return None };
            node = *seen.get(name)?;
        }
        Some(node)
    }

    fn change(&mut self, entries: &[(&Path, Option<Node>)]) {
        let edits = entries.iter().filter_map(|(path, to)| {
            let folder = self.find(path.parent()?)?;
            Some(Edit { folder, name: path.file_name()?.to_owned(), to: *to })
        });
        let edits: Vec<Edit> = edits.collect();
        for edit in &edits {
            if let Inode::Folder { seen, .. } = &mut self.inodes[edit.folder] {
                set(seen, edit);
            }
        }
        if self.manner == Manner::Worst && edits.iter().any(|edit| edit.folder != edits[0].folder) {
            self.loose.extend(edits.into_iter().map(|edit| Change(vec![edit])));
        } else {
            self.loose.push(Change(edits));
        }
    }

    /// Puts some of the loose changes on the disk, in their order. An older change of the same entry is overtaken by that.
    fn keep_loose(&mut self, mut which: impl FnMut(&Change) -> bool) {
        let mut still_loose: Vec<Change> = Vec::new();
        for change in std::mem::take(&mut self.loose) {
            if !which(&change) {
                still_loose.push(change);
                continue;
            }
            for edit in &change.0 {
                for older in &mut still_loose {
                    older.0.retain(|other| other.folder != edit.folder || other.name != edit.name);
                }
                if let Inode::Folder { kept, .. } = &mut self.inodes[edit.folder] {
                    set(kept, edit);
                }
            }
        }
        self.loose = still_loose;
    }
}

fn empty_folder() -> Inode {
    Inode::Folder { seen: Entries::new(), kept: Entries::new() }
}

fn set(entries: &mut Entries, edit: &Edit) {
    match edit.to {
        Some(node) => entries.insert(edit.name.clone(), node),
        None => entries.remove(&edit.name),
    };
}
