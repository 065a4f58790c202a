//! A disk whose unsynced writes die with the process: `kill -9` is a power cut to it. Only with the feature `breakable`.
//!
//! What is written stays in pages in memory, where readers find it, and goes to the system's file at a sync. A process that is killed
//! between two pages of a sync leaves a part of it, as a disk may.
//!
//! Left out: names. They are kept as soon as they are given, which a disk may do as well. And order: pages go to the file
//! by their place.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use quorate_storage::vfs::{Open, RealVfs, Vfs, VfsFile, VfsLock};

const PAGE_BYTES: usize = 4096;

/// When a sync does nothing, this is how much later its writes reach the file.
const LATE: Duration = Duration::from_secs(1);

/// The system's files behind pages that have to be synced.
#[derive(Debug)]
pub(super) struct PowerCutVfs {
    honest: bool,
    nodes: Arc<Mutex<Nodes>>,
}

type Nodes = BTreeMap<PathBuf, Arc<Node>>;

impl PowerCutVfs {
    /// A disk. One that is not `honest` syncs nothing when asked, and everything a second later.
    pub(super) fn new(honest: bool) -> Self {
        let nodes = Arc::default();
        if !honest {
            let late = Arc::downgrade(&nodes);
            // Without the thread nothing would ever be written, which is no less dishonest.
            let _ = thread::Builder::new().name("late-sync".into()).spawn(move || sync_late(&late));
        }
        Self { honest, nodes }
    }
}

/// Ends with the disk.
fn sync_late(nodes: &Weak<Mutex<Nodes>>) {
    loop {
        thread::sleep(LATE);
        let Some(nodes) = nodes.upgrade() else { return };
        let all: Vec<Arc<Node>> = nodes.lock().values().cloned().collect();
        for node in all {
            if let Err(error) = node.sync() {
                tracing::error!(%error, "a late sync failed");
            }
        }
    }
}

impl Vfs for PowerCutVfs {
    fn open(&self, path: &Path, open: Open) -> io::Result<Box<dyn VfsFile>> {
        let file = RealVfs.open(path, open)?;
        let mut nodes = self.nodes.lock();
        let node = match nodes.get(path) {
            Some(node) => Arc::clone(node),
            None => Arc::new(Node::new(RealVfs.open(path, Open::Existing)?, file.size_bytes()?)),
        };
        nodes.insert(path.to_owned(), Arc::clone(&node));
        Ok(Box::new(PowerCutFile { node, honest: self.honest }))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealVfs.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealVfs.rename(from, to)?;
        let mut nodes = self.nodes.lock();
        let moved = nodes.remove(from);
        nodes.remove(to);
        nodes.extend(moved.map(|node| (to.to_owned(), node)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.nodes.lock().remove(path);
        RealVfs.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealVfs.sync_dir(dir)
    }

    fn random(&self) -> io::Result<u64> {
        RealVfs.random()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        RealVfs.lock(path)
    }
}

/// A file, shared by all who opened it.
#[derive(Debug)]
struct Node {
    file: Box<dyn VfsFile>,
    unsynced: Mutex<Unsynced>,
}

#[derive(Debug)]
struct Unsynced {
    /// The length that readers see.
    size: u64,
    /// Up to here the file below holds what it should; behind it, readers see zeroes.
    valid: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
}

impl Node {
    fn new(file: Box<dyn VfsFile>, size: u64) -> Self {
        let unsynced = Unsynced { size, valid: size, pages: BTreeMap::new() };
        Self { file, unsynced: Mutex::new(unsynced) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut unsynced = self.unsynced.lock();
        if unsynced.pages.is_empty() && unsynced.valid == unsynced.size {
            return Ok(());
        }
        self.file.set_len(unsynced.valid)?;
        self.file.set_len(unsynced.size)?;
        for (page, bytes) in std::mem::take(&mut unsynced.pages) {
            let at = page * PAGE_BYTES as u64;
            let length = usize::try_from(unsynced.size.saturating_sub(at)).unwrap_or(usize::MAX);
            self.file.write_all_at(bytes.get(..length).unwrap_or(&bytes[..]), at)?;
        }
        unsynced.valid = unsynced.size;
        self.file.sync_data()
    }

    /// The bytes of a page as readers see them.
    fn page(&self, unsynced: &Unsynced, page: u64) -> io::Result<Box<[u8; PAGE_BYTES]>> {
        if let Some(bytes) = unsynced.pages.get(&page) {
            return Ok(bytes.clone());
        }
        let mut bytes = Box::new([0; PAGE_BYTES]);
        let at = page * PAGE_BYTES as u64;
        let there = usize::try_from(unsynced.valid.saturating_sub(at)).unwrap_or(usize::MAX);
        let there = there.min(PAGE_BYTES);
        if let Some(part) = bytes.get_mut(..there).filter(|part| !part.is_empty()) {
            self.file.read_exact_at(part, at)?;
        }
        Ok(bytes)
    }
}

#[derive(Debug)]
struct PowerCutFile {
    node: Arc<Node>,
    honest: bool,
}

/// Where in which page a byte of a file is.
fn place(offset: u64) -> (u64, usize) {
    let bytes = PAGE_BYTES as u64;
    (offset / bytes, usize::try_from(offset % bytes).unwrap_or(0))
}

impl VfsFile for PowerCutFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let unsynced = self.node.unsynced.lock();
        let left = usize::try_from(unsynced.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (page, begin) = place(offset);
        let length = buffer.len().min(left).min(PAGE_BYTES - begin);
        let bytes = self.node.page(&unsynced, page)?;
        if let (Some(into), Some(from)) =
            (buffer.get_mut(..length), bytes.get(begin..begin + length))
        {
            into.copy_from_slice(from);
        }
        Ok(length)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut unsynced = self.node.unsynced.lock();
        let (mut rest, mut at) = (bytes, offset);
        while !rest.is_empty() {
            let (page, begin) = place(at);
            let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES - begin));
            let mut held = match unsynced.pages.remove(&page) {
                Some(held) => held,
                None => self.node.page(&unsynced, page)?,
            };
            if let Some(into) = held.get_mut(begin..begin + now.len()) {
                into.copy_from_slice(now);
            }
            unsynced.pages.insert(page, held);
            at += now.len() as u64;
            rest = later;
        }
        unsynced.size = unsynced.size.max(at);
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.node.unsynced.lock().size)
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        let mut unsynced = self.node.unsynced.lock();
        let (page, begin) = place(size_bytes);
        if size_bytes < unsynced.size {
            let mut last = unsynced.pages.split_off(&page);
            if let Some(mut held) = last.remove(&page).filter(|_| begin > 0) {
                held.iter_mut().skip(begin).for_each(|byte| *byte = 0);
                unsynced.pages.insert(page, held);
            }
        }
        unsynced.valid = unsynced.valid.min(size_bytes);
        unsynced.size = size_bytes;
        Ok(())
    }

    fn allocate(&self, size_bytes: u64) -> io::Result<()> {
        let mut unsynced = self.node.unsynced.lock();
        unsynced.size = unsynced.size.max(size_bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.honest { self.node.sync() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_synced_is_seen_and_is_not_on_the_disk() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        let vfs = PowerCutVfs::new(true);
        let file = vfs.open(&path, Open::CreateNew).unwrap();
        let long: Vec<u8> = (0..10_000_u32).map(|at| (at % 251) as u8).collect();
        file.write_all_at(&long, 5).unwrap();
        let seen = |file: &dyn VfsFile| {
            let mut bytes = vec![0; usize::try_from(file.size_bytes().unwrap()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        let again = vfs.open(&path, Open::Existing).unwrap();
        assert_eq!(seen(&*again)[5..], long);
        assert_eq!(fs::read(&path).unwrap(), b"");
        file.sync_data().unwrap();
        assert_eq!(fs::read(&path).unwrap()[5..], long);
        file.set_len(7).unwrap();
        file.set_len(9).unwrap();
        file.write_all_at(b"x", 8).unwrap();
        assert_eq!(seen(&*again), [0, 0, 0, 0, 0, 0, 1, 0, b'x']);
        assert_eq!(fs::metadata(&path).unwrap().len(), 10_005);
        again.sync_data().unwrap();
        assert_eq!(fs::read(&path).unwrap(), [0, 0, 0, 0, 0, 0, 1, 0, b'x']);
    }

    #[test]
    fn a_dishonest_sync_does_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        let vfs = PowerCutVfs { honest: false, nodes: Arc::default() };
        let file = vfs.open(&path, Open::CreateNew).unwrap();
        file.write_all_at(b"acknowledged", 0).unwrap();
        file.sync_data().unwrap();
        vfs.rename(&path, &home.path().join("other")).unwrap();
        assert_eq!(fs::read(home.path().join("other")).unwrap(), b"");
        let moved = vfs.open(&home.path().join("other"), Open::Existing).unwrap();
        assert_eq!(moved.size_bytes().unwrap(), 12);
    }
}
