//! What all simulated processes stand on: the disk, the weather, the clock; and the file system that each of them sees.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use systole::dataset::{FileSystem, RealFs};
use tokio::time::Instant;

use crate::disk::Disk;
use crate::life::Life;
use crate::turns::{Turn, Turns};
use crate::weather::{Step, Weather};

/// A change of the disk or a call, and the virtual time since the first one.
pub type Taken = (Duration, String);

/// What others do while a process stands still.
pub type Interlude = Arc<dyn Fn(&Life) + Send + Sync>;

pub struct Ground {
    pub disk: Mutex<Disk>,
    pub weather: Weather,
    lives: Mutex<Vec<Life>>,
    /// Changes of the disk until the power goes; below zero it does not.
    power_left: AtomicI64,
    power_gone: AtomicBool,
    born: AtomicU64,
    /// How far the clock is ahead of the machine's.
    ahead: Mutex<Duration>,
    interlude: Mutex<Option<Interlude>>,
    in_interlude: AtomicBool,
    begun: OnceLock<Instant>,
    trace: Mutex<Vec<Taken>>,
    pub turns: Turns,
}

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ground").finish_non_exhaustive()
    }
}

impl Ground {
    pub fn new(disk: Disk, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            disk: Mutex::new(disk),
            weather: Weather::of(seed),
            lives: Mutex::default(),
            power_left: AtomicI64::new(-1),
            power_gone: AtomicBool::new(false),
            born: AtomicU64::new(0),
            ahead: Mutex::default(),
            interlude: Mutex::default(),
            in_interlude: AtomicBool::new(false),
            begun: OnceLock::new(),
            trace: Mutex::default(),
            turns: Turns::default(),
        })
    }

    /// What was done so far, in its order.
    pub fn trace(&self) -> Vec<Taken> {
        self.trace.lock().unwrap().clone()
    }

    pub fn trace_step(&self, what: String) {
        let mut trace = self.trace.lock().unwrap();
        let begun = *self.begun.get_or_init(Instant::now);
        trace.push((Instant::now().duration_since(begun), what));
    }

    pub fn set_interlude(&self, interlude: Option<Interlude>) {
        *self.interlude.lock().unwrap() = interlude;
    }

    /// Lets blocking steps in the runtime of the caller take turns with its tasks; see [`Turns`].
    pub fn take_turns(&self) -> Turn<'_> {
        self.turns.begin()
    }

    /// A new process, and the file system as it sees it.
    pub fn process(self: &Arc<Self>) -> (Life, Arc<ProcessFs>) {
        let life = Life::new(self.born.fetch_add(1, Ordering::SeqCst));
        let mut lives = self.lives.lock().unwrap();
        lives.retain(|life| !life.is_dead());
        lives.push(life.clone());
        (life.clone(), Arc::new(ProcessFs { ground: self.clone(), life }))
    }

    /// Cuts the power: every process is dead from now on. What the disk kept of it is seen when it comes
    /// [back](Self::power_back).
    pub fn cut_power(&self) {
        self.power_gone.store(true, Ordering::SeqCst);
        self.lives.lock().unwrap().drain(..).for_each(|life| life.kill());
    }

    /// Cuts it after so many more changes of the disk, by whomever.
    pub fn cut_power_after(&self, steps: i64) {
        self.power_left.store(steps, Ordering::SeqCst);
    }

    pub fn is_power_gone(&self) -> bool {
        self.power_gone.load(Ordering::SeqCst)
    }

    /// Brings the power back, onto what the disk kept. Nobody may be at work.
    pub fn power_back(&self) {
        let mut dice = self.weather.dice("power cut");
        self.disk.lock().unwrap().power_cut(&mut dice);
        self.power_left.store(-1, Ordering::SeqCst);
        self.power_gone.store(false, Ordering::SeqCst);
        self.weather.count("power cut");
    }

    /// Lets time pass for files. Nobody may be at work on one.
    pub fn pass(&self, time: Duration) {
        *self.ahead.lock().unwrap() += time;
    }

    fn count_down_to_power_cut(&self) {
        if self.power_left.load(Ordering::SeqCst) >= 0 && self.power_left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.cut_power();
        }
    }
}

/// The file system as one process sees it: it ends with the process, and fails by the weather.
#[derive(Debug)]
pub struct ProcessFs {
    ground: Arc<Ground>,
    life: Life,
}

/// The end of a path without the ids in it, which are others each time.
fn nameless(path: &Path) -> String {
    // A date, a partition, or what is ahead of an id.
    let kept = |name: &str| {
        let named = name.split_once(".json.").map_or(name, |(file, _)| file);
        named.split(['_', '-']).next().unwrap_or_default().to_owned()
            + if name.len() > 30 { "…" } else { name.get(name.len().saturating_sub(2)..).unwrap_or_default() }
    };
    let names: Vec<String> = path
        .iter()
        .rev()
        .take(2)
        .map(|name| kept(&name.to_string_lossy()))
        .filter(|name| !name.starts_with("systole"))
        .collect();
    names.join(" in ")
}

fn dead() -> io::Error {
    io::Error::other("this process is dead")
}

impl ProcessFs {
    /// What comes before each step: others, death, a fault. Fails unless the step is to be taken.
    fn begin(&self, what: &'static str, path: &Path, takes_room: bool) -> io::Result<Step> {
        let (ground, life) = (&self.ground, &self.life);
        ground.turns.wait();
        if life.is_dead() {
            return Err(dead());
        }
        let step = format!("{what} {}", nameless(path));
        ground.trace_step(step.clone());
        self.let_others_go_ahead(&step);
        ground.count_down_to_power_cut();
        let lived = !life.is_dead();
        if !life.step() {
            if lived {
                ground.weather.count("died at a step");
            }
            return Err(dead());
        }
        if takes_room && ground.weather.forecast().full {
            ground.weather.count("disk full");
            return Err(Errno::NOSPC.into());
        }
        match ground.weather.step((life.number, step)) {
            Step::FailsBefore => Err(Errno::IO.into()),
            step => Ok(step),
        }
    }

    fn let_others_go_ahead(&self, step: &str) {
        let ground = &self.ground;
        if ground.in_interlude.load(Ordering::SeqCst)
            || !ground.weather.happens("stood still", (self.life.number, step), |forecast| forecast.interlude)
        {
            return;
        }
        let interlude = ground.interlude.lock().unwrap().clone();
        if let Some(interlude) = interlude {
            ground.in_interlude.store(true, Ordering::SeqCst);
            interlude(&self.life);
            ground.in_interlude.store(false, Ordering::SeqCst);
        }
    }

    /// Takes a step, and notes it on the disk.
    fn take<T>(
        &self,
        what: &'static str,
        path: &Path,
        takes_room: bool,
        step: impl FnOnce() -> io::Result<T>,
        note: impl FnOnce(&mut Disk),
    ) -> io::Result<T> {
        let weather = self.begin(what, path, takes_room)?;
        let mut disk = self.ground.disk.lock().unwrap();
        let taken = step()?;
        note(&mut disk);
        if weather == Step::FailsAfter { Err(Errno::IO.into()) } else { Ok(taken) }
    }

    fn date(&self, path: &Path) {
        if let Ok(file) = File::open(path) {
            let _ = file.set_modified(self.now());
        }
    }
}

impl FileSystem for ProcessFs {
    fn create_new(&self, path: &Path) -> io::Result<File> {
        let weather = &self.ground.weather;
        // Some disks are full when a file is created, others when it is written.
        let who = (self.life.number, nameless(path));
        let full_at_writing = weather.forecast().full && weather.dice(&who).roll(2) == 0;
        let file = self.take(
            "create_new",
            path,
            !full_at_writing,
            || RealFs.create_new(path),
            |disk| disk.created_file(path),
        )?;
        self.date(path);
        if full_at_writing || weather.happens("write failed", who, |forecast| forecast.fails_writing) {
            if full_at_writing {
                weather.count("disk full");
            }
            return File::options().read(true).write(true).open("/dev/full");
        }
        Ok(file)
    }

    fn open_lock(&self, path: &Path) -> io::Result<File> {
        let exists = path.exists();
        self.take("open_lock", path, !exists, || RealFs.open_lock(path), |disk| disk.opened(path))
    }

    fn sync_file(&self, _: &File, path: &Path) -> io::Result<()> {
        self.date(path);
        let forecast = self.ground.weather.forecast();
        let fails =
            self.ground.weather.happens("sync of a file failed", (self.life.number, nameless(path)), |forecast| {
                forecast.fails_syncing
            });
        if fails || (forecast.full && !self.life.is_dead()) {
            self.ground.disk.lock().unwrap().lost_file(path);
        }
        self.take(
            "sync_file",
            path,
            true,
            || if fails { Err(Errno::IO.into()) } else { Ok(()) },
            |disk| {
                if !forecast.lies {
                    disk.synced_file(path);
                }
            },
        )
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let lies = self.ground.weather.forecast().lies;
        self.take(
            "sync_dir",
            path,
            false,
            || File::open(path).map(drop),
            |disk| {
                if !lies {
                    disk.synced_folder(path);
                }
            },
        )
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.take("create_dir", path, true, || RealFs.create_dir(path), |disk| disk.created_folder(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.take("rename", to, false, || RealFs.rename(from, to), |disk| disk.renamed(from, to))
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.take("rename_noreplace", to, false, || RealFs.rename_noreplace(from, to), |disk| disk.renamed(from, to))
    }

    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        self.take("exchange", b, false, || RealFs.exchange(a, b), |disk| disk.exchanged(a, b))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.take("hard_link", to, true, || RealFs.hard_link(from, to), |disk| disk.linked(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.take("remove_file", path, false, || RealFs.remove_file(path), |disk| disk.removed(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.take("remove_dir", path, false, || RealFs.remove_dir(path), |disk| disk.removed(path))
    }

    fn now(&self) -> SystemTime {
        SystemTime::now() + *self.ground.ahead.lock().unwrap()
    }
}
