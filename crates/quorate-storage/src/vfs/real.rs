//! The operating system's files, with positional reads and writes. What is made is for its owner alone: directories have mode 0700,
//! files 0600, less what the umask takes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
};

use super::{Open, Vfs, VfsFile, VfsLock};

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealVfs;

#[derive(Debug)]
struct RealFile(File);

#[derive(Debug)]
struct RealLock {
    /// The system lets go of the lock when this is closed.
    _file: File,
}

impl VfsLock for RealLock {}

impl Vfs for RealVfs {
    fn open(&self, path: &Path, open: Open) -> io::Result<Box<dyn VfsFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(open != Open::Read).mode(FILE_MODE);
        options.create(open == Open::Create).create_new(open == Open::CreateNew);
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        create_dir_all(self, dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        DirCalls::sync(self, dir)
    }

    fn random(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl VfsFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        self.0.set_len(size_bytes)
    }

    fn allocate(&self, size_bytes: u64) -> io::Result<()> {
        allocate(&self.0, size_bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// What is asked of the system about a directory, call by call.
pub(super) trait DirCalls {
    /// Makes it, in one that is there.
    fn make(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in it durable.
    fn sync(&self, dir: &Path) -> io::Result<()>;
}

impl DirCalls for RealVfs {
    fn make(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().mode(DIR_MODE).create(dir)
    }

    fn sync(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// [`Vfs::create_dir_all`], for whoever makes the calls.
pub(super) fn create_dir_all(calls: &dyn DirCalls, dir: &Path) -> io::Result<()> {
    let above = match dir.parent() {
        None => return Ok(()),
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
    };
    if dir.is_dir() {
        return match calls.sync(above) {
            // Somebody else made it there, where we may not look.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        };
    }
    if above != Path::new(".") {
        create_dir_all(calls, above)?;
    }
    match calls.make(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a directory"));
        }
        made => made?,
    }
    calls.sync(above)
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, size_bytes: u64) -> io::Result<()> {
    use rustix::{
        fs::{FallocateFlags, fallocate},
        io::Errno,
    };

    if size_bytes == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, size_bytes) {
        // A file system that cannot reserve: the length at least is fixed.
        Err(error) if error == Errno::OPNOTSUPP || error == Errno::NOSYS => {
            extend(file, size_bytes)
        }
        other => Ok(other?),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, size_bytes: u64) -> io::Result<()> {
    extend(file, size_bytes)
}

fn extend(file: &File, size_bytes: u64) -> io::Result<()> {
    if file.metadata()?.len() < size_bytes { file.set_len(size_bytes) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_read_renamed_listed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let vfs = RealVfs;
        let inner = dir.path().join("a/b");
        vfs.create_dir_all(&inner).unwrap();
        let file = vfs.open(&inner.join("x"), Open::CreateNew).unwrap();
        file.allocate(10).unwrap();
        file.write_all_at(b"hello", 2).unwrap();
        file.sync_data().unwrap();
        vfs.rename(&inner.join("x"), &inner.join("y")).unwrap();
        vfs.sync_dir(&inner).unwrap();
        assert_eq!(vfs.list(&inner).unwrap(), ["y"]);
        let mut read = [0; 10];
        let file = vfs.open(&inner.join("y"), Open::Read).unwrap();
        file.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"\0\0hello\0\0\0");
        assert!(file.read_exact_at(&mut read, 1).is_err());
        vfs.remove(&inner.join("y")).unwrap();
        assert!(vfs.open(&inner.join("y"), Open::Existing).is_err());
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        RealVfs.create_dir_all(&inner).unwrap();
        let _file = RealVfs.open(&inner.join("x"), Open::Create).unwrap();
        let _lock = RealVfs.lock(&inner.join("LOCK")).unwrap();
        for name in ["a", "a/b", "a/b/x", "a/b/LOCK"] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
        }
    }

    #[test]
    fn a_file_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, b"content").unwrap();
        for path in [path.clone(), path.join("inner")] {
            let refused = RealVfs.create_dir_all(&path).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::NotADirectory, "{refused}");
        }
    }

    #[test]
    fn a_lock_is_exclusive_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = RealVfs.lock(&path).unwrap();
        let refused = RealVfs.lock(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        RealVfs.lock(&path).unwrap();
    }
}
