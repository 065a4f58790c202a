//! The second place that says which batches were acknowledged: a ring of marks in a small file of its own.
//!
//! A mark names the last batch of a good sync, where it ends and the chain there. It is written *after* that sync and before
//! the sync is reported, so a mark never speaks of anything that is not durable, and everything that was reported has one
//! as long as the machine stays up. Marks are not synced themselves, but for the one of an opening: a power cut may lose
//! the newest of them. Then the next batch's header (`synced`) and the next segment's header speak for what came before, and only
//! the very last batch has no witness.

use std::path::{Path, PathBuf};

use crc32c::crc32c;
use quorate_node::LogError;

use super::{
    error,
    format::{Fields, Flaw},
};
use crate::vfs::{Open, Vfs, VfsFile};

const MAGIC: [u8; 4] = *b"QMRK";
const MARK_BYTES: usize = 64;
/// How many marks the ring holds.
const MARKS: usize = 64;

/// The name of the file.
pub(super) const FILE_NAME: &str = "marks";

/// The last batch of a good sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub batch: u64,
    pub opening: u64,
    pub segment: u64,
    /// Where the batch ends in its segment.
    pub end: u64,
    /// The chain there.
    pub chain: u32,
}

impl Mark {
    fn encode(&self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        let fields = [self.batch, self.opening, self.segment, self.end, u64::from(self.chain)];
        let content: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
        fill(&mut bytes, 0, &MAGIC);
        fill(&mut bytes, 8, &content);
        let crc = crc32c(bytes.get(8..).unwrap_or_default());
        fill(&mut bytes, 4, &crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let mut fields = Fields(bytes);
        let magic = fields.take(4)?;
        let crc = fields.u32()?;
        if magic != MAGIC.as_slice() || crc != crc32c(fields.0) {
            return Err("not a mark");
        }
        Ok(Self {
            batch: fields.u64()?,
            opening: fields.u64()?,
            segment: fields.u64()?,
            end: fields.u64()?,
            chain: fields.u32()?,
        })
    }
}

fn fill(bytes: &mut [u8], offset: usize, content: &[u8]) {
    if let Some(place) = bytes.get_mut(offset..offset + content.len()) {
        place.copy_from_slice(content);
    }
}

/// The file of marks.
#[derive(Debug)]
pub(super) struct Marks {
    file: Box<dyn VfsFile>,
    path: PathBuf,
}

impl Marks {
    /// Opens the file, which is made when it is not there, and answers the newest mark that can be read.
    pub(super) fn open(vfs: &dyn Vfs, dir: &Path) -> Result<(Self, Option<Mark>), LogError> {
        let path = dir.join(FILE_NAME);
        let file = vfs.open(&path, Open::Create).map_err(|e| error::io(&path, "open", e))?;
        vfs.sync_dir(dir).map_err(|e| error::io(dir, "sync directory", e))?;
        let size = file.size_bytes().map_err(|e| error::io(&path, "ask for its length", e))?;
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(MARKS * MARK_BYTES);
        let mut ring = vec![0; size];
        file.read_exact_at(&mut ring, 0).map_err(|e| error::io(&path, "read", e))?;
        let marks = ring.chunks_exact(MARK_BYTES).filter_map(|bytes| Mark::decode(bytes).ok());
        let newest = marks.max_by_key(|mark| (mark.opening, mark.batch));
        Ok((Self { file, path }, newest))
    }

    /// Writes `mark` over the oldest one.
    pub(super) fn write(&self, mark: &Mark) -> Result<(), LogError> {
        let slot = mark.batch % MARKS as u64;
        self.file
            .write_all_at(&mark.encode(), slot * MARK_BYTES as u64)
            .map_err(|e| error::io(&self.path, "write a mark", e))
    }

    pub(super) fn sync(&self) -> Result<(), LogError> {
        self.file.sync_data().map_err(|e| error::io(&self.path, "sync", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::MemoryVfs;

    #[test]
    fn the_newest_readable_mark_counts() {
        let vfs = MemoryVfs::new();
        let dir = Path::new("/d");
        let (marks, none) = Marks::open(&vfs, dir).unwrap();
        assert_eq!(none, None);
        let mark = |batch| Mark { batch, opening: 1, segment: 1, end: 5000, chain: 7 };
        for batch in 1..=100 {
            marks.write(&mark(batch)).unwrap();
        }
        assert_eq!(Marks::open(&vfs, dir).unwrap().1, Some(mark(100)));
        vfs.flip(&dir.join(FILE_NAME), (100 % 64) * 64 + 9, 1);
        assert_eq!(Marks::open(&vfs, dir).unwrap().1, Some(mark(99)));
    }
}
