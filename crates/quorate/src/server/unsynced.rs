//! A disk that nobody waits for: `--unsafe-no-fsync`.
//!
//! What the process wrote survives the process, but not the machine. For tests and throw-away clusters.

use std::{io, path::Path};

use quorate_storage::vfs::{Open, RealVfs, Vfs, VfsFile, VfsLock};

/// The system's files, never synced.
#[derive(Debug)]
pub(super) struct UnsyncedVfs;

impl Vfs for UnsyncedVfs {
    fn open(&self, path: &Path, open: Open) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(UnsyncedFile(RealVfs.open(path, open)?)))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealVfs.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealVfs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealVfs.remove(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn random(&self) -> io::Result<u64> {
        RealVfs.random()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        RealVfs.lock(path)
    }
}

#[derive(Debug)]
struct UnsyncedFile(Box<dyn VfsFile>);

impl VfsFile for UnsyncedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.0.size_bytes()
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        self.0.set_len(size_bytes)
    }

    fn allocate(&self, size_bytes: u64) -> io::Result<()> {
        self.0.allocate(size_bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}
