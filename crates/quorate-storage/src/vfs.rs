//! Files as the log and the engine see them: a port with a real disk behind it, or one in memory that crashes and lies.
//!
//! What every implementation promises, and all that the code above may rely on:
//!
//! - A write is readable at once by everybody, and durable only after a good [`VfsFile::sync_data`] on the file.
//! - A name (created, renamed, removed) is durable only after a good [`Vfs::sync_dir`] on its directory.
//! - Before that, a crash may keep any part of it, or nothing.
//! - A failed sync is final: what it should have made durable may be lost although later syncs succeed, as on Linux, where the
//!   failed pages are marked clean (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).
//!
//! Left out: asynchronous I/O, memory maps, permissions, links, and files that grow under two writers.

mod crash;
mod faults;
mod memory;
mod real;
mod recording;

use std::{fmt, io, path::Path};

pub use self::{
    crash::CrashStyle,
    faults::{Call, Counts, Faults},
    memory::MemoryVfs,
    real::RealVfs,
    recording::{Recorded, RecordingVfs, Replay},
};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It has to exist, and is only read.
    Read,
    /// It has to exist.
    Existing,
    /// It is created when it does not exist.
    Create,
    /// It must not exist.
    CreateNew,
}

/// A file system.
pub trait Vfs: fmt::Debug + Send + Sync {
    /// Opens the file at `path`. A new name is durable after [`Vfs::sync_dir`].
    ///
    /// # Errors
    /// Those of the system; `NotFound` and `AlreadyExists` as [`Open`] says.
    fn open(&self, path: &Path, open: Open) -> io::Result<Box<dyn VfsFile>>;

    /// Makes the directory `dir` and those above it, durably, where they do not exist, for their owner alone. The name of one that
    /// does exist is made durable too: whoever made it may not have.
    ///
    /// # Errors
    /// Those of the system; `NotADirectory` when something else has the name.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Names of the files in `dir`, sorted. Directories in it are left out.
    ///
    /// # Errors
    /// Those of the system.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Renames `from` to `to`, over whatever is there, at once for every reader. Durable after [`Vfs::sync_dir`]; a crash
    /// before that leaves either the old state or the new one. Both are in the same directory.
    ///
    /// # Errors
    /// Those of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the file at `path`. Durable after [`Vfs::sync_dir`].
    ///
    /// # Errors
    /// Those of the system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable.
    ///
    /// # Errors
    /// Any error is final.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// A number that nobody outside can guess: what formats salt their checksums with, so that no bytes that somebody sends are
    /// ever taken for structure. In memory, the numbers are those of a seed.
    ///
    /// # Errors
    /// Those of the system.
    fn random(&self) -> io::Result<u64>;

    /// Takes the lock file at `path` for this process until the answer is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>>;
}

/// An open file. Offsets and lengths are bytes.
pub trait VfsFile: fmt::Debug + Send + Sync {
    /// Reads into `buffer` from `offset` on; answers how much, which is 0 only at the end of the file. May read less than is
    /// there: [`VfsFile::read_exact_at`] does not.
    ///
    /// # Errors
    /// Those of the system.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`; the file grows when they end behind it.
    ///
    /// # Errors
    /// Those of the system. Part of `bytes` may be written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// The length of the file.
    ///
    /// # Errors
    /// Those of the system.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Cuts the file at `size_bytes`, or extends it with zeroes.
    ///
    /// # Errors
    /// Those of the system.
    fn set_len(&self, size_bytes: u64) -> io::Result<()>;

    /// Reserves room for the file's first `size_bytes` and makes it at least so long; what is there stays, what is new reads
    /// as zeroes. Writes inside do not fail for want of space afterwards.
    ///
    /// # Errors
    /// `StorageFull` when there is no room; the file may have grown part of the way.
    fn allocate(&self, size_bytes: u64) -> io::Result<()>;

    /// Makes what was written, and the length, durable.
    ///
    /// # Errors
    /// Any error is final: do not try again, do not trust what was written since the last good sync.
    fn sync_data(&self) -> io::Result<()>;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; those of the system.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut rest = buffer;
        let mut at = offset;
        while !rest.is_empty() {
            let read = match self.read_at(rest, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            rest = rest.get_mut(read..).unwrap_or_default();
            at += read as u64;
        }
        Ok(())
    }
}

/// A lock file that is held; dropping it lets go.
pub trait VfsLock: fmt::Debug + Send + Sync {}
