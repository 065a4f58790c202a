//! A disk in memory that keeps apart what is written and what is durable, crashes, and misbehaves by plan.
//!
//! Every file has two contents: the one readers see and the one that survives, and between them the writes that were not
//! synced. Names work the same way. A crash decides by style and seed what becomes of the difference; the same calls and
//! the same seed give the same disk.
//!
//! Left out: slow disks (there is no clock here), and directories that must be made durable themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Call, Counts, CrashStyle, Faults, Open, Vfs, VfsFile, VfsLock,
    crash::{self, Choices, Pending, SECTOR_BYTES},
};

/// A disk in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryVfs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    nodes: BTreeMap<u64, Node>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// What leads from `durable_names` to `names`.
    pending_names: Vec<NameChange>,
    next_node: u64,
    locks: BTreeSet<PathBuf>,
    /// Grows with every crash; handles of an earlier one are dead.
    boot: u64,
    off: bool,
    counts: Counts,
    faults: Faults,
    /// `None`: every number is the same.
    random: Option<Choices>,
}

#[derive(Debug, Default)]
struct Node {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// What leads from `durable` to `seen`, less what a failed sync forgot.
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
struct NameChange {
    gone: Option<PathBuf>,
    new: Option<(PathBuf, u64)>,
}

impl NameChange {
    fn is_in(&self, dir: &Path) -> bool {
        let path = self.gone.as_ref().or(self.new.as_ref().map(|(path, _)| path));
        path.and_then(|path| path.parent()) == Some(dir)
    }

    /// A file that is renamed twice does not survive under both names.
    fn is_possible(&self, names: &BTreeMap<PathBuf, u64>) -> bool {
        match (&self.gone, &self.new) {
            (Some(gone), Some((_, node))) => names.get(gone) == Some(node),
            (None | Some(_), None) | (None, Some(_)) => true,
        }
    }

    fn settle(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((path, node)) = &self.new {
            names.insert(path.clone(), *node);
        }
    }
}

impl Default for MemoryVfs {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryVfs {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::with_seed(0)
    }

    /// The same; `seed` drives [`Vfs::random`].
    pub fn with_seed(seed: u64) -> Self {
        let vfs = Self::predictable();
        vfs.disk().random = Some(Choices::new(seed));
        vfs
    }

    /// The same, but [`Vfs::random`] always answers 0: for judging whoever must notice.
    pub fn predictable() -> Self {
        Self { disk: Arc::default() }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what goes wrong from now on; calls are counted from 0 again.
    pub fn set_faults(&self, faults: Faults) {
        let mut disk = self.disk();
        disk.faults = faults;
        disk.counts = Counts::default();
    }

    /// Calls since the disk was made or [`MemoryVfs::set_faults`].
    pub fn counts(&self) -> Counts {
        self.disk().counts
    }

    /// The machine goes down and comes up again: open files and locks are dead, unsynced state is what `style` and `seed`
    /// leave of it, and there are no faults any more.
    pub fn crash(&self, style: CrashStyle, seed: u64) {
        let mut guard = self.disk();
        let disk = &mut *guard;
        let mut choices = Choices::new(seed);
        for node in disk.nodes.values_mut() {
            crash::crash_file(&mut node.durable, &node.pending, style, &mut choices);
            node.seen.clone_from(&node.durable);
            node.pending.clear();
        }
        disk.crash_names(style, &mut choices);
        disk.locks.clear();
        disk.boot += 1;
        disk.off = false;
        disk.faults = Faults::default();
        disk.counts = Counts::default();
    }

    /// A copy of the disk as a crash now would leave it. This one goes on.
    #[must_use]
    pub fn crashed_copy(&self, style: CrashStyle, seed: u64) -> Self {
        let copy = Self::new();
        {
            let from = self.disk();
            let mut to = copy.disk();
            to.names.clone_from(&from.names);
            to.durable_names.clone_from(&from.durable_names);
            to.pending_names.clone_from(&from.pending_names);
            to.next_node = from.next_node;
            to.random = from.random;
            for (id, node) in &from.nodes {
                let node = Node {
                    seen: node.seen.clone(),
                    durable: node.durable.clone(),
                    pending: node.pending.clone(),
                };
                to.nodes.insert(*id, node);
            }
        }
        copy.crash(style, seed);
        copy
    }

    /// Every file with its length, in order.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let disk = self.disk();
        let size = |id: &u64| disk.nodes.get(id).map_or(0, |node| node.seen.len() as u64);
        disk.names.iter().map(|(path, id)| (path.clone(), size(id))).collect()
    }

    /// What stands in the file at `path`.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.nodes.get(disk.names.get(path)?).map(|node| node.seen.clone())
    }

    /// Puts a durable file with `content` at `path`.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let mut disk = self.disk();
        let id = disk.add_node();
        if let Some(node) = disk.nodes.get_mut(&id) {
            node.seen = content.to_vec();
            node.durable = content.to_vec();
        }
        disk.names.insert(path.to_owned(), id);
        disk.durable_names.insert(path.to_owned(), id);
    }

    /// Flips the bits of `mask` in the byte at `offset`, as a failing medium would. Nothing happens outside the file.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let mut guard = self.disk();
        let disk = &mut *guard;
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(node) = disk.names.get(path).and_then(|id| disk.nodes.get_mut(id)) {
            for content in [&mut node.seen, &mut node.durable] {
                if let Some(byte) = content.get_mut(at) {
                    *byte ^= mask;
                }
            }
        }
    }

    fn file(&self, disk: &Disk, node: u64) -> Box<dyn VfsFile> {
        Box::new(MemoryFile { vfs: self.clone(), node, boot: disk.boot })
    }
}

impl Disk {
    /// Counts the call. When it says that the power went, the call still does its work and then fails: what it did is as
    /// unsure as everything else that is not synced.
    fn enter(&mut self, call: Call) -> io::Result<PowerGoes> {
        if self.off {
            return Err(io::Error::other("the power is off"));
        }
        let number = self.counts.total;
        self.counts.count(call);
        self.off = self.faults.power_off_at_call == Some(number);
        Ok(PowerGoes(self.off))
    }

    fn add_node(&mut self) -> u64 {
        self.next_node += 1;
        self.nodes.insert(self.next_node, Node::default());
        self.next_node
    }

    fn change_name(&mut self, change: NameChange) {
        change.settle(&mut self.names);
        self.pending_names.push(change);
    }

    fn crash_names(&mut self, style: CrashStyle, choices: &mut Choices) {
        let kept = choices.up_to(self.pending_names.len() as u64);
        for (nth, change) in self.pending_names.iter().enumerate() {
            let survives = match style {
                CrashStyle::LoseAll => false,
                CrashStyle::KeepAll => true,
                CrashStyle::Tear => (nth as u64) < kept,
                CrashStyle::Scatter => choices.coin(),
            };
            if survives && change.is_possible(&self.durable_names) {
                change.settle(&mut self.durable_names);
            }
        }
        self.pending_names.clear();
        self.names.clone_from(&self.durable_names);
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|id| self.nodes.get(id)).map(|n| n.seen.len() as u64).sum()
    }

    /// Whether the file may become `size_bytes` long.
    fn check_room(&self, node: u64, size_bytes: u64) -> io::Result<()> {
        let now = self.nodes.get(&node).map_or(0, |node| node.seen.len() as u64);
        let wanted = self.used_bytes() + size_bytes.saturating_sub(now);
        match self.faults.capacity_bytes {
            Some(capacity) if size_bytes > now && wanted > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn node(&mut self, id: u64) -> io::Result<&mut Node> {
        self.nodes.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Whether this call is the last one before the crash.
#[must_use]
struct PowerGoes(bool);

impl PowerGoes {
    fn check(self) -> io::Result<()> {
        if self.0 { Err(io::Error::other("the power goes off")) } else { Ok(()) }
    }
}

impl Node {
    fn change(&mut self, change: Pending) {
        crash::settle(&mut self.seen, &change);
        self.pending.push(change);
    }
}

impl Vfs for MemoryVfs {
    fn open(&self, path: &Path, open: Open) -> io::Result<Box<dyn VfsFile>> {
        let mut disk = self.disk();
        let found = disk.names.get(path).copied();
        let node = match (found, open) {
            (Some(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, Open::Read | Open::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (Some(node), Open::Read | Open::Existing | Open::Create) => {
                disk.enter(Call::Look)?.check()?;
                node
            }
            (None, Open::Create | Open::CreateNew) => {
                let power = disk.enter(Call::Name)?;
                let node = disk.add_node();
                disk.change_name(NameChange { gone: None, new: Some((path.to_owned(), node)) });
                power.check()?;
                node
            }
        };
        Ok(self.file(&disk, node))
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        self.disk().enter(Call::SyncDir)?.check()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.enter(Call::Look)?.check()?;
        let here = disk.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let power = disk.enter(Call::Name)?;
        let node = *disk.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        let (gone, new) = (Some(from.to_owned()), Some((to.to_owned(), node)));
        disk.change_name(NameChange { gone, new });
        power.check()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let power = disk.enter(Call::Name)?;
        if !disk.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change_name(NameChange { gone: Some(path.to_owned()), new: None });
        power.check()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut guard = self.disk();
        let disk = &mut *guard;
        disk.enter(Call::SyncDir)?.check()?;
        let durable = &mut disk.durable_names;
        disk.pending_names.retain(|change| {
            let synced = change.is_in(dir);
            if synced {
                change.settle(durable);
            }
            !synced
        });
        Ok(())
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.disk().random.as_mut().map_or(0, |choices| choices.up_to(u64::MAX)))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        let mut disk = self.disk();
        disk.enter(Call::Look)?.check()?;
        if !disk.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock { vfs: self.clone(), path: path.to_owned(), boot: disk.boot }))
    }
}

#[derive(Debug)]
struct MemoryFile {
    vfs: MemoryVfs,
    node: u64,
    boot: u64,
}

impl MemoryFile {
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.vfs.disk();
        if disk.boot == self.boot {
            Ok(disk)
        } else {
            Err(io::Error::other("the file was open before the crash"))
        }
    }

    fn resize(&self, size_bytes: u64, shrink: bool) -> io::Result<()> {
        let mut disk = self.disk()?;
        let power = disk.enter(Call::Resize)?;
        disk.check_room(self.node, size_bytes)?;
        let node = disk.node(self.node)?;
        if shrink || size_bytes > node.seen.len() as u64 {
            node.change(Pending::Resize { size_bytes });
        }
        power.check()
    }
}

impl VfsFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk()?;
        let number = disk.counts.reads;
        disk.enter(Call::Read)?.check()?;
        let faults = disk.faults;
        if faults.fail_read == Some(number) {
            return Err(io::Error::other("the read was told to fail"));
        }
        let shift = if faults.misdirect_read == Some(number) { SECTOR_BYTES } else { 0 };
        let start = usize::try_from(offset + shift).unwrap_or(usize::MAX);
        let there = disk.node(self.node)?.seen.get(start..).unwrap_or_default();
        let most = if faults.short_reads { buffer.len().div_ceil(2) } else { buffer.len() };
        let read = there.len().min(most);
        for (to, from) in buffer.iter_mut().zip(there.iter().take(read)) {
            *to = *from;
        }
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk()?;
        let number = disk.counts.writes;
        let power = disk.enter(Call::Write)?;
        disk.check_room(self.node, offset + bytes.len() as u64)?;
        let fails = disk.faults.fail_write == Some(number);
        let kept = if fails { bytes.len() / 2 } else { bytes.len() };
        let bytes = bytes.get(..kept).unwrap_or_default().to_vec();
        disk.node(self.node)?.change(Pending::Write { offset, bytes });
        power.check()?;
        if fails { Err(io::Error::other("the write was told to fail")) } else { Ok(()) }
    }

    fn size_bytes(&self) -> io::Result<u64> {
        let mut disk = self.disk()?;
        disk.enter(Call::Look)?.check()?;
        Ok(disk.node(self.node)?.seen.len() as u64)
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        self.resize(size_bytes, true)
    }

    fn allocate(&self, size_bytes: u64) -> io::Result<()> {
        self.resize(size_bytes, false)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk()?;
        let number = disk.counts.syncs;
        disk.enter(Call::Sync)?.check()?;
        let fails = disk.faults.fail_sync == Some(number);
        let node = disk.node(self.node)?;
        let pending = std::mem::take(&mut node.pending);
        if fails {
            return Err(io::Error::other("the sync was told to fail"));
        }
        for change in &pending {
            crash::settle(&mut node.durable, change);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryLock {
    vfs: MemoryVfs,
    path: PathBuf,
    boot: u64,
}

impl VfsLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut disk = self.vfs.disk();
        if disk.boot == self.boot {
            disk.locks.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> PathBuf {
        PathBuf::from("/d/x")
    }

    fn synced_file(vfs: &MemoryVfs) -> Box<dyn VfsFile> {
        let file = vfs.open(&path(), Open::Create).unwrap();
        file.write_all_at(&[1; 2000], 0).unwrap();
        file.sync_data().unwrap();
        vfs.sync_dir(Path::new("/d")).unwrap();
        file
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_may_tear_the_rest() {
        let vfs = MemoryVfs::new();
        let file = synced_file(&vfs);
        file.write_all_at(&[2; 2000], 1000).unwrap();
        let mut lengths = BTreeSet::new();
        for style in CrashStyle::ALL {
            for seed in 0..20 {
                let content = vfs.crashed_copy(style, seed).content(&path()).unwrap();
                assert!(content[..1000].iter().all(|byte| *byte == 1));
                let new: u64 = content.iter().map(|byte| u64::from(*byte == 2)).sum();
                lengths.insert((content.len(), new));
            }
        }
        assert!(lengths.contains(&(2000, 0)) && lengths.contains(&(3000, 2000)));
        assert!(lengths.len() > 15, "tears differ by seed");
        vfs.crash(CrashStyle::LoseAll, 0);
        assert!(file.read_at(&mut [0], 0).is_err(), "handles die in a crash");
    }

    #[test]
    fn a_name_needs_a_directory_sync() {
        let vfs = MemoryVfs::new();
        let file = vfs.open(&path(), Open::CreateNew).unwrap();
        file.write_all_at(b"x", 0).unwrap();
        file.sync_data().unwrap();
        assert!(vfs.crashed_copy(CrashStyle::LoseAll, 0).files().is_empty());
        vfs.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(vfs.crashed_copy(CrashStyle::LoseAll, 0).files(), [(path(), 1)]);
        vfs.remove(&path()).unwrap();
        assert!(vfs.files().is_empty());
        assert_eq!(vfs.crashed_copy(CrashStyle::LoseAll, 0).files(), [(path(), 1)]);
    }

    #[test]
    fn a_failed_sync_forgets_what_readers_still_see() {
        let vfs = MemoryVfs::new();
        let file = synced_file(&vfs);
        vfs.set_faults(Faults { fail_sync: Some(0), ..Faults::default() });
        file.write_all_at(&[3; 10], 0).unwrap();
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(vfs.content(&path()).unwrap()[..10], [3; 10]);
        assert_eq!(vfs.crashed_copy(CrashStyle::KeepAll, 0).content(&path()).unwrap()[0], 1);
    }

    #[test]
    fn the_disk_fills_up_and_the_power_goes() {
        let vfs = MemoryVfs::new();
        let file = synced_file(&vfs);
        vfs.set_faults(Faults {
            capacity_bytes: Some(2500),
            power_off_at_call: Some(2),
            ..Faults::default()
        });
        let full = file.allocate(2501).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        file.allocate(2500).unwrap();
        assert!(file.write_all_at(b"y", 0).is_err());
        assert!(file.sync_data().is_err(), "off is off");
        assert_eq!(vfs.counts().total, 3);
        assert_eq!(vfs.crashed_copy(CrashStyle::KeepAll, 0).content(&path()).unwrap()[0], b'y');
    }

    #[test]
    fn reads_may_be_short_or_misdirected() {
        let vfs = MemoryVfs::new();
        let file = synced_file(&vfs);
        file.write_all_at(&[7; 512], 512).unwrap();
        vfs.set_faults(Faults { short_reads: true, misdirect_read: Some(0), ..Faults::default() });
        let mut read = [0; 8];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), 4);
        assert_eq!(read, [7, 7, 7, 7, 0, 0, 0, 0]);
        file.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(read, [1; 8]);
    }
}
