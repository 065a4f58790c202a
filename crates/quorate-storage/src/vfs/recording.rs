//! The real file system, written down call by call, and what a power cut after any of them would have left.
//!
//! Judges of crashes that run over a disk in memory believe what that disk says of directories: that they are there. Here the calls
//! that reach the system are recorded, those within [`RealVfs::create_dir_all`](Vfs::create_dir_all) too, and played again under the
//! strict rules of POSIX: a name is durable when its directory was synced, content when its file was; a directory whose own name is
//! not durable is lost with all that it holds.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    CrashStyle, MemoryVfs, Open, RealVfs, Vfs, VfsFile, VfsLock,
    crash::{self, Choices, Pending},
    real::{self, DirCalls},
};

/// A call that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// A directory was made.
    MakeDir(PathBuf),
    /// A directory was synced.
    SyncDir(PathBuf),
    /// A file was opened, and made if it was not there.
    Open(PathBuf, u64),
    /// Bytes were written at an offset of an open file.
    Write(u64, u64, Vec<u8>),
    /// An open file got a length.
    SetLen(u64, u64),
    /// An open file got at least this length.
    Allocate(u64, u64),
    /// An open file was synced.
    Sync(u64),
    /// A file was renamed.
    Rename(PathBuf, PathBuf),
    /// A file was removed.
    Remove(PathBuf),
}

/// The real file system under a recorder. Clones share the record.
#[derive(Clone, Debug, Default)]
pub struct RecordingVfs {
    calls: Arc<Mutex<Vec<Recorded>>>,
}

impl RecordingVfs {
    /// Nothing is recorded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was called so far.
    pub fn calls(&self) -> Vec<Recorded> {
        self.record().clone()
    }

    /// How many calls there were.
    pub fn count(&self) -> usize {
        self.record().len()
    }

    fn record(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, call: Recorded) {
        self.record().push(call);
    }
}

impl DirCalls for RecordingVfs {
    fn make(&self, dir: &Path) -> io::Result<()> {
        DirCalls::make(&RealVfs, dir)?;
        self.note(Recorded::MakeDir(dir.to_owned()));
        Ok(())
    }

    fn sync(&self, dir: &Path) -> io::Result<()> {
        DirCalls::sync(&RealVfs, dir)?;
        self.note(Recorded::SyncDir(dir.to_owned()));
        Ok(())
    }
}

impl Vfs for RecordingVfs {
    fn open(&self, path: &Path, open: Open) -> io::Result<Box<dyn VfsFile>> {
        let file = RealVfs.open(path, open)?;
        let handle = self.count() as u64;
        self.note(Recorded::Open(path.to_owned(), handle));
        Ok(Box::new(RecordingFile { vfs: self.clone(), file, handle }))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        real::create_dir_all(self, dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealVfs.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealVfs.rename(from, to)?;
        self.note(Recorded::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealVfs.remove(path)?;
        self.note(Recorded::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        DirCalls::sync(self, dir)
    }

    fn random(&self) -> io::Result<u64> {
        RealVfs.random()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        RealVfs.lock(path)
    }
}

#[derive(Debug)]
struct RecordingFile {
    vfs: RecordingVfs,
    file: Box<dyn VfsFile>,
    handle: u64,
}

impl VfsFile for RecordingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        self.vfs.note(Recorded::Write(self.handle, offset, bytes.to_owned()));
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.file.size_bytes()
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        self.file.set_len(size_bytes)?;
        self.vfs.note(Recorded::SetLen(self.handle, size_bytes));
        Ok(())
    }

    fn allocate(&self, size_bytes: u64) -> io::Result<()> {
        self.file.allocate(size_bytes)?;
        self.vfs.note(Recorded::Allocate(self.handle, size_bytes));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.vfs.note(Recorded::Sync(self.handle));
        Ok(())
    }
}

/// A record played again, call by call.
#[derive(Clone, Debug)]
pub struct Replay {
    root: PathBuf,
    dirs: BTreeMap<PathBuf, Names>,
    files: BTreeMap<u64, Content>,
    /// Which file an open one is: the one under that name when it was opened.
    handles: BTreeMap<u64, u64>,
}

/// What a name stands for: a file, or (`None`) the directory of that path.
type Target = Option<u64>;

#[derive(Clone, Debug, Default)]
struct Names {
    seen: BTreeMap<PathBuf, Target>,
    durable: BTreeMap<PathBuf, Target>,
    /// What leads from `durable` to `seen`: a name, and what it stands for now, if anything.
    pending: Vec<(PathBuf, Option<Target>)>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

impl Replay {
    /// Begins with `root`, an empty directory that is there for good.
    pub fn new(root: &Path) -> Self {
        let dirs = BTreeMap::from([(root.to_owned(), Names::default())]);
        Self { root: root.to_owned(), dirs, files: BTreeMap::new(), handles: BTreeMap::new() }
    }

    /// Plays the next call.
    pub fn step(&mut self, call: &Recorded) {
        match call {
            Recorded::MakeDir(dir) => {
                self.dirs.entry(dir.clone()).or_default();
                self.name(dir, Some(None));
            }
            Recorded::SyncDir(dir) => {
                if let Some(names) = self.dirs.get_mut(dir) {
                    names.durable.clone_from(&names.seen);
                    names.pending.clear();
                }
            }
            Recorded::Open(path, handle) => self.open(path, *handle),
            Recorded::Write(handle, offset, bytes) => {
                self.change(*handle, Pending::Write { offset: *offset, bytes: bytes.clone() });
            }
            Recorded::SetLen(handle, size_bytes) => {
                self.change(*handle, Pending::Resize { size_bytes: *size_bytes });
            }
            Recorded::Allocate(handle, size_bytes) => {
                let now = self.content(*handle).map_or(0, |content| content.seen.len() as u64);
                let size_bytes = now.max(*size_bytes);
                self.change(*handle, Pending::Resize { size_bytes });
            }
            Recorded::Sync(handle) => {
                if let Some(content) = self.content(*handle) {
                    content.durable.clone_from(&content.seen);
                    content.pending.clear();
                }
            }
            Recorded::Rename(from, to) => {
                let target = self.target(from);
                self.name(from, None);
                self.name(to, target);
            }
            Recorded::Remove(path) => self.name(path, None),
        }
    }

    /// What is there after a power cut now: `style` and `seed` say what of the rest is left.
    pub fn cut(&self, style: CrashStyle, seed: u64) -> MemoryVfs {
        let (mut left, mut choices) = (self.clone(), Choices::new(seed));
        for content in left.files.values_mut() {
            crash::crash_file(&mut content.durable, &content.pending, style, &mut choices);
        }
        left.dirs.values_mut().for_each(|names| names.crash(style, &mut choices));
        let disk = MemoryVfs::with_seed(seed);
        left.put(&left.root, &disk);
        disk
    }

    /// Only what can be reached from the root is there.
    fn put(&self, dir: &Path, disk: &MemoryVfs) {
        let Some(names) = self.dirs.get(dir) else { return };
        for (path, target) in &names.durable {
            match target {
                None => self.put(path, disk),
                Some(file) => {
                    let content = self.files.get(file).map(|content| content.durable.as_slice());
                    disk.put(path, content.unwrap_or_default());
                }
            }
        }
    }

    fn open(&mut self, path: &Path, handle: u64) {
        let file = self.target(path).flatten().unwrap_or(handle);
        if file == handle {
            self.files.insert(file, Content::default());
            self.name(path, Some(Some(file)));
        }
        self.handles.insert(handle, file);
    }

    fn target(&self, path: &Path) -> Option<Target> {
        self.dirs.get(path.parent()?)?.seen.get(path).copied()
    }

    fn name(&mut self, path: &Path, target: Option<Target>) {
        let Some(names) = path.parent().and_then(|dir| self.dirs.get_mut(dir)) else { return };
        settle(&mut names.seen, path, target);
        names.pending.push((path.to_owned(), target));
    }

    fn content(&mut self, handle: u64) -> Option<&mut Content> {
        self.handles.get(&handle).and_then(|file| self.files.get_mut(file))
    }

    fn change(&mut self, handle: u64, change: Pending) {
        if let Some(content) = self.content(handle) {
            crash::settle(&mut content.seen, &change);
            content.pending.push(change);
        }
    }
}

impl Names {
    fn crash(&mut self, style: CrashStyle, choices: &mut Choices) {
        let kept = choices.up_to(self.pending.len() as u64);
        for (nth, (path, target)) in self.pending.iter().enumerate() {
            let survives = match style {
                CrashStyle::LoseAll => false,
                CrashStyle::KeepAll => true,
                // Names of one directory become durable in their order: a rename is one change of two.
                CrashStyle::Tear | CrashStyle::Scatter => (nth as u64) < kept,
            };
            if survives {
                settle(&mut self.durable, path, *target);
            }
        }
    }
}

fn settle(names: &mut BTreeMap<PathBuf, Target>, path: &Path, target: Option<Target>) {
    match target {
        Some(target) => names.insert(path.to_owned(), target),
        None => names.remove(path),
    };
}
