//! One bucket on the disk: what processes see, and what a power cut may leave of it.
//!
//! A name in a folder has a durable side and a visible one. Syncing the folder makes them equal; a power cut picks one of
//! the two for every name that was not synced, each for itself. A content that was not synced before its rename may be torn
//! by the power cut. Names of whole folders (the exchange of a consolidation) change in steps of the file system's journal:
//! a power cut leaves the newest step or any one before it, back to the last sync.

use std::collections::{BTreeMap, BTreeSet};

use crate::buffer::{ClaimId, Identity, Row};
use crate::guards::{Guard, Guards};

/// A fragment's name: its claim and its hash. Equal rows from equal writers make equal bytes, so rows and writer stand for
/// the hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fragment {
    pub claim: ClaimId,
    pub rows: Vec<Row>,
    pub writer: u8,
}

/// A published file: its rows and its record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct File {
    pub id: u8,
    pub rows: Vec<Row>,
    /// Merged fragments by name.
    pub named: Vec<Fragment>,
    /// Merged rows that are only counted, one fragment a claim.
    pub folded: u8,
    /// Merged rows of further fragments of folded claims.
    pub repeated: u8,
}

impl File {
    /// Rows merged into it, by its record.
    pub fn merged(&self) -> usize {
        self.named.iter().map(|fragment| fragment.rows.len()).sum::<usize>() + usize::from(self.folded + self.repeated)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Content {
    /// Whole, and on the disk.
    Synced,
    /// Whole, in memory.
    Written,
    Torn,
}

/// One name in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    pub durable: Option<Content>,
    pub visible: Option<Content>,
    /// A sync of the folder failed, and the file system holds the name for written since.
    pub forgotten: bool,
}

impl Entry {
    fn sync(&mut self) {
        if !self.forgotten {
            self.durable = self.visible;
        }
    }

    fn differs(&self) -> bool {
        self.durable != self.visible
    }

    fn lose(&mut self, dice: &mut Dice) {
        // The choices must not depend on how others fell, or outcomes could not be counted.
        if self.differs() {
            tear(&mut self.durable, dice);
            tear(&mut self.visible, dice);
            if dice.choose(2) == 0 {
                self.visible = self.durable;
            }
        } else {
            tear(&mut self.visible, dice);
        }
        self.durable = self.visible;
        self.forgotten = false;
    }
}

fn tear(side: &mut Option<Content>, dice: &mut Dice) {
    if *side == Some(Content::Written) {
        *side = Some(if dice.choose(2) == 0 { Content::Torn } else { Content::Synced });
    }
}

/// The names in one folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Folder<T: Ord>(pub BTreeMap<T, Entry>);

impl<T: Ord> Default for Folder<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord + Clone> Folder<T> {
    /// What a listing gives.
    pub fn list(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter(|(_, entry)| entry.visible.is_some()).map(|(name, _)| name)
    }

    pub fn content(&self, name: &T) -> Option<Content> {
        self.0.get(name)?.visible
    }

    /// Renames or links a file of this content to `name`, over what stands there.
    pub fn put(&mut self, name: T, content: Content) {
        let entry = self.0.entry(name).or_default();
        entry.visible = Some(content);
        entry.forgotten = false;
    }

    pub fn remove(&mut self, name: &T) {
        if let Some(entry) = self.0.get_mut(name) {
            entry.visible = None;
        }
        self.forget_gone();
    }

    pub fn sync(&mut self) {
        self.0.values_mut().for_each(Entry::sync);
        self.forget_gone();
    }

    /// A sync that fails, on a file system that then takes the names for written.
    pub fn sync_in_vain(&mut self) {
        self.0.values_mut().filter(|entry| entry.differs()).for_each(|entry| entry.forgotten = true);
    }

    fn lose(&mut self, dice: &mut Dice) {
        self.0.values_mut().for_each(|entry| entry.lose(dice));
        self.forget_gone();
    }

    fn forget_gone(&mut self) {
        self.0.retain(|_, entry| entry.durable.is_some() || entry.visible.is_some());
    }
}

/// One outcome of many, by its number.
#[derive(Debug)]
pub struct Dice {
    left: u32,
    /// How many outcomes there are.
    pub outcomes: u32,
}

impl Dice {
    pub fn new(outcome: u32) -> Self {
        Self { left: outcome, outcomes: 1 }
    }

    fn choose(&mut self, among: u32) -> u32 {
        let chosen = self.left % among;
        self.left /= among;
        self.outcomes *= among;
        chosen
    }
}

pub type FolderId = u8;

/// Which folder stands under which name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Names {
    /// What readers see. `None` between the two steps of an exchange that is not one step.
    pub published: Option<FolderId>,
    /// `.next-<id>`: being gathered, or exchanged and not retired.
    pub next: BTreeSet<FolderId>,
    /// `.old-<id>`: replaced.
    pub old: BTreeSet<FolderId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bucket {
    pub staging: Folder<Fragment>,
    pub quarantine: BTreeSet<Fragment>,
    pub folders: BTreeMap<FolderId, Folder<File>>,
    /// The names of folders, from the durable ones to the visible ones.
    pub names: Vec<Names>,
    pub files_made: u8,
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            staging: Folder::default(),
            quarantine: BTreeSet::new(),
            folders: BTreeMap::from([(0, Folder::default())]),
            names: vec![Names { published: Some(0), ..Names::default() }],
            files_made: 0,
        }
    }
}

impl Bucket {
    /// The names as processes see them.
    pub fn seen(&self) -> &Names {
        self.names.last().unwrap_or_else(|| unreachable!("there is always one"))
    }

    /// One more step of the journal.
    pub fn name(&mut self, change: impl FnOnce(&mut Names)) {
        let mut names = self.seen().clone();
        change(&mut names);
        self.names.push(names);
    }

    /// Syncs the folders that hold the names of folders.
    pub fn sync_names(&mut self) {
        self.names = vec![self.seen().clone()];
        self.forget_folders();
    }

    pub fn published_mut(&mut self) -> Option<&mut Folder<File>> {
        let id = self.seen().published?;
        self.folders.get_mut(&id)
    }

    pub fn published(&self) -> Option<&Folder<File>> {
        self.folders.get(&self.seen().published?)
    }

    /// The files that readers see.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.published().into_iter().flat_map(Folder::list)
    }

    /// A published file that is not what it was.
    pub fn is_held_back(&self) -> bool {
        self.published().is_none_or(|folder| folder.list().any(|file| folder.content(file) == Some(Content::Torn)))
    }

    /// The rows that readers get.
    pub fn published_rows(&self) -> impl Iterator<Item = Row> {
        let whole = self
            .published()
            .into_iter()
            .flat_map(|folder| folder.list().filter(|file| folder.content(file) != Some(Content::Torn)));
        whole.flat_map(|file| file.rows.iter().copied())
    }

    pub fn published_identities(&self) -> BTreeSet<Identity> {
        self.published_rows().map(|row| row.identity).collect()
    }

    /// Rows of fragments that can still be merged.
    pub fn staged_rows(&self) -> impl Iterator<Item = Row> {
        let whole = self.staging.list().filter(|fragment| self.staging.content(fragment) != Some(Content::Torn));
        whole.flat_map(|fragment| fragment.rows.iter().copied())
    }

    /// Whether a published file names a fragment as merged (`Known` in `src/compactor/visit.rs`).
    pub fn knows(&self, guards: Guards, fragment: &Fragment) -> bool {
        let is_it = |named: &Fragment| {
            if guards.has(Guard::RecordHasHashes) { named == fragment } else { named.claim == fragment.claim }
        };
        guards.has(Guard::RecordIsLookedAt) && self.files().any(|file| file.named.iter().any(is_it))
    }

    /// A folder of these files, for a new name.
    pub fn new_folder(&mut self, files: impl IntoIterator<Item = (File, Content)>) -> FolderId {
        let id = (0..).find(|id| !self.folders.contains_key(id)).unwrap_or_default();
        let folder = self.folders.entry(id).or_default();
        for (file, content) in files {
            folder.put(file, content);
        }
        id
    }

    /// Removes the files of a folder, then its name.
    pub fn remove_folder(&mut self, id: FolderId) {
        if let Some(folder) = self.folders.get_mut(&id) {
            let files: Vec<File> = folder.list().cloned().collect();
            files.iter().for_each(|file| folder.remove(file));
        }
        self.name(|names| {
            names.next.remove(&id);
            names.old.remove(&id);
        });
        self.forget_folders();
    }

    pub fn lose(&mut self, dice: &mut Dice) {
        self.staging.lose(dice);
        self.folders.values_mut().for_each(|folder| folder.lose(dice));
        let survivor = dice.choose(self.names.len() as u32) as usize;
        self.names = vec![self.names.swap_remove(survivor)];
        self.forget_folders();
    }

    fn forget_folders(&mut self) {
        let names = &self.names;
        let is_named =
            |id: &FolderId| names.iter().any(|n| n.published == Some(*id) || n.next.contains(id) || n.old.contains(id));
        self.folders.retain(|id, _| is_named(id));
    }
}
