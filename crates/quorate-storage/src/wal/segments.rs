//! The files of the log: preallocated, numbered without gaps, and used again.
//!
//! Order of durability when a segment begins: the one before is synced by the caller; the new name is made durable; then its
//! header, which says where the one before ended; only then may batches follow. A file that is used again keeps its old
//! bytes, and some of those are values that a client chose. Every batch holds the salt of its segment's use, which is drawn when
//! that begins, so nothing older is ever taken for new.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use quorate_node::LogError;

use super::{
    error,
    format::{DATA_START, SEGMENT_HEADER_BYTES, SegmentHeader},
};
use crate::vfs::{Open, Vfs, VfsFile};

const SUFFIX: &str = ".wal";
const SPARE_PREFIX: &str = "spare-";

/// A segment that is part of the log.
#[derive(Debug)]
pub(super) struct Segment {
    pub file: Box<dyn VfsFile>,
    pub path: PathBuf,
    pub size_bytes: u64,
    /// Where its batches end.
    pub end: u64,
}

/// What a directory holds of a log.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Numbers of the segments, in order.
    pub numbers: Vec<u64>,
    spares: Vec<String>,
}

/// All segments.
#[derive(Debug)]
pub(super) struct Segments {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    segment_bytes: u64,
    spares_max: usize,
    live: BTreeMap<u64, Segment>,
    spares: Vec<PathBuf>,
}

pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (file_name(number) == name).then_some(number)
}

/// Looks for segments and spares in `dir`; files of other names are left alone.
pub(super) fn find(vfs: &dyn Vfs, dir: &Path) -> Result<Found, LogError> {
    let mut found = Found::default();
    for name in vfs.list(dir).map_err(|e| error::io(dir, "list", e))? {
        if let Some(number) = number_of(&name) {
            found.numbers.push(number);
        } else if name.starts_with(SPARE_PREFIX) {
            found.spares.push(name);
        }
    }
    found.numbers.sort_unstable();
    Ok(found)
}

impl Segments {
    pub(super) fn new(vfs: Arc<dyn Vfs>, dir: &Path, limits: (u64, usize), found: &Found) -> Self {
        let spares = found.spares.iter().map(|name| dir.join(name)).collect();
        let (segment_bytes, spares_max) = limits;
        Self { vfs, dir: dir.to_owned(), segment_bytes, spares_max, live: BTreeMap::new(), spares }
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.dir.join(file_name(number))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The header of segment `number`, as it stands there.
    pub(super) fn peek(&self, number: u64) -> Result<Vec<u8>, LogError> {
        let path = self.path(number);
        let failed = |what, source| error::io(&path, what, source);
        let file = self.vfs.open(&path, Open::Read).map_err(|e| failed("open", e))?;
        let mut head = vec![0; SEGMENT_HEADER_BYTES];
        match file.read_exact_at(&mut head, 0) {
            Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => Ok(Vec::new()),
            Err(source) => Err(failed("read", source)),
            Ok(()) => Ok(head),
        }
    }

    /// Opens segment `number`, which exists, and reads all of it into `image`.
    pub(super) fn load(&mut self, number: u64, image: &mut Vec<u8>) -> Result<(), LogError> {
        let path = self.path(number);
        let failed = |what, source| error::io(&path, what, source);
        let file = self.vfs.open(&path, Open::Existing).map_err(|e| failed("open", e))?;
        let size_bytes = file.size_bytes().map_err(|e| failed("ask for its length", e))?;
        // Fresh zeroes come from the system for nothing; filling the old buffer would cost.
        *image = vec![0; usize::try_from(size_bytes).unwrap_or(usize::MAX)];
        file.read_exact_at(image, 0).map_err(|e| failed("read", e))?;
        self.live.insert(number, Segment { file, path, size_bytes, end: DATA_START });
        Ok(())
    }

    pub(super) fn get(&self, number: u64) -> Option<&Segment> {
        self.live.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Segment> {
        self.live.get_mut(&number)
    }

    /// Number of the oldest segment.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.live.keys().next().copied()
    }

    pub(super) fn count(&self) -> usize {
        self.live.len()
    }

    pub(super) fn spare_count(&self) -> usize {
        self.spares.len()
    }

    /// Bytes of all files.
    pub(super) fn total_bytes(&self) -> u64 {
        let live: u64 = self.live.values().map(|segment| segment.size_bytes).sum();
        live + self.spares.len() as u64 * self.segment_bytes
    }

    /// Bytes of batches in all segments but `current`.
    pub(super) fn closed_bytes(&self, current: u64) -> u64 {
        self.live.range(..current).map(|(_, segment)| segment.end.saturating_sub(DATA_START)).sum()
    }

    /// Makes segment `header.number` from a spare file or a new one, with room for `needed_bytes` of batches at least, its
    /// length and a salt of its own. It is durable, with its header, when this returns; the answer is the salt.
    pub(super) fn create(
        &mut self,
        header: SegmentHeader,
        needed_bytes: u64,
    ) -> Result<u64, LogError> {
        let wanted = (DATA_START + needed_bytes).next_multiple_of(DATA_START);
        let size_bytes = self.segment_bytes.max(wanted);
        let path = self.path(header.number);
        let file = self
            .take_spare(&path, size_bytes)?
            .map_or_else(|| self.create_file(&path, size_bytes), Ok)?;
        let sync_dir = self.vfs.sync_dir(&self.dir);
        sync_dir.map_err(|e| error::io(&self.dir, "sync directory", e))?;
        let salt = self.vfs.random().map_err(|e| error::io(&path, "draw a salt", e))?;
        let bytes = SegmentHeader { size_bytes, salt, ..header }.encode();
        file.write_all_at(&bytes, 0).map_err(|e| error::io(&path, "write the header", e))?;
        file.sync_data().map_err(|e| error::io(&path, "sync the header", e))?;
        self.live.insert(header.number, Segment { file, path, size_bytes, end: DATA_START });
        Ok(salt)
    }

    fn take_spare(
        &mut self,
        path: &Path,
        size_bytes: u64,
    ) -> Result<Option<Box<dyn VfsFile>>, LogError> {
        if size_bytes != self.segment_bytes {
            return Ok(None);
        }
        let Some(spare) = self.spares.pop() else { return Ok(None) };
        self.vfs.rename(&spare, path).map_err(|e| error::io(&spare, "rename", e))?;
        let file = self.vfs.open(path, Open::Existing).map_err(|e| error::io(path, "open", e))?;
        file.allocate(size_bytes).map_err(|e| error::no_room(path, size_bytes, e))?;
        Ok(Some(file))
    }

    fn create_file(&self, path: &Path, size_bytes: u64) -> Result<Box<dyn VfsFile>, LogError> {
        let file = self.vfs.open(path, Open::Create).map_err(|e| error::io(path, "create", e))?;
        if let Err(source) = file.allocate(size_bytes) {
            drop(file);
            // Its half of the room is wanted back; a file that stays does no harm.
            let _ = self.vfs.remove(path);
            return Err(error::no_room(path, size_bytes, source));
        }
        Ok(file)
    }

    /// Takes the oldest segment out of the log, for use again. Nothing in it may be alive, durably.
    pub(super) fn retire_oldest(&mut self) -> Result<(), LogError> {
        let Some((number, segment)) = self.live.pop_first() else { return Ok(()) };
        drop(segment.file);
        self.retire_file(number, segment.size_bytes)
    }

    /// The same for a file that is not part of the log (any more, or not yet).
    pub(super) fn retire_file(&mut self, number: u64, size_bytes: u64) -> Result<(), LogError> {
        let path = self.path(number);
        if size_bytes != self.segment_bytes || self.spares.len() >= self.spares_max {
            return self.vfs.remove(&path).map_err(|e| error::io(&path, "remove", e));
        }
        let spare = self.dir.join(format!("{SPARE_PREFIX}{number:016x}"));
        self.vfs.rename(&path, &spare).map_err(|e| error::io(&path, "rename", e))?;
        self.spares.push(spare);
        Ok(())
    }

    /// Forgets segment `number`, whose file is not part of the log, and keeps the file for use again.
    pub(super) fn discard(&mut self, number: u64) -> Result<(), LogError> {
        let size_bytes = self.live.remove(&number).map_or(0, |segment| segment.size_bytes);
        self.retire_file(number, size_bytes)
    }
}
