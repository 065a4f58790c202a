//! The receiver's side.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Record, SnapshotError, SnapshotHead, chunk::Chain, record::Decoder};
use crate::vfs::{Open, Vfs, VfsFile};

/// What a good chunk led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The chunk of this sequence number is wanted next.
    Wants(u64),
    /// The snapshot is all there and durable.
    Complete,
}

/// A snapshot that is being received into a file.
#[derive(Debug)]
pub struct IncomingSnapshot {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    file: Box<dyn VfsFile>,
    offset: u64,
    chain: Chain,
    decoder: Decoder,
    head: Option<SnapshotHead>,
    /// The file or the stream can't be trusted any more.
    failed: bool,
}

impl IncomingSnapshot {
    /// Starts with an empty file at `path`; what was there is gone.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn create(vfs: Arc<dyn Vfs>, path: &Path) -> Result<Self, SnapshotError> {
        let file = vfs.open(path, Open::Create).map_err(SnapshotError::io(path, "create"))?;
        file.set_len(0).map_err(SnapshotError::io(path, "empty"))?;
        Ok(Self {
            vfs,
            path: path.to_owned(),
            file,
            offset: 0,
            chain: Chain::default(),
            decoder: Decoder::default(),
            head: None,
            failed: false,
        })
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is a snapshot of, once that has arrived.
    pub fn head(&self) -> Option<&SnapshotHead> {
        self.head.as_ref()
    }

    /// Bytes received so far.
    pub fn received_bytes(&self) -> u64 {
        self.offset
    }

    /// The sequence number of the chunk that is wanted.
    pub fn next_sequence(&self) -> u64 {
        self.chain.next
    }

    /// Whether all of it is there and durable.
    pub fn is_complete(&self) -> bool {
        self.chain.complete && !self.failed
    }

    /// Takes the next chunk, as [`Chunk::bytes`](super::Chunk) left the sender. The last one is durable, with all before it,
    /// when this returns.
    ///
    /// # Errors
    /// [`SnapshotError::Refused`] for a chunk that is damaged or not the next: nothing changed. After any other error the
    /// snapshot is lost; start again.
    pub fn accept(&mut self, bytes: &[u8]) -> Result<Progress, SnapshotError> {
        if self.failed {
            return Err(self.corrupt("an earlier chunk failed".into()));
        }
        let expected = self.chain.next;
        let refuse = |what| SnapshotError::Refused { expected, what };
        let chunk = self.chain.check(bytes).map_err(refuse)?;
        self.failed = true;
        self.decoder.push(chunk.payload);
        self.take_records()?;
        self.file
            .write_all_at(bytes, self.offset)
            .map_err(SnapshotError::io(&self.path, "write"))?;
        self.offset += bytes.len() as u64;
        if chunk.last {
            self.finish()?;
        }
        self.chain.follow(chunk);
        self.failed = false;
        Ok(if chunk.last { Progress::Complete } else { Progress::Wants(self.chain.next) })
    }

    /// Gives the snapshot up: its file is gone, and the room it took.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]; the file is removed when the directory is opened again then.
    pub fn discard(self) -> Result<(), SnapshotError> {
        let Self { vfs, path, file, .. } = self;
        drop(file);
        vfs.remove(&path).map_err(SnapshotError::io(&path, "remove"))
    }

    /// Checks the records that are whole, and forgets them but for the head.
    fn take_records(&mut self) -> Result<(), SnapshotError> {
        while let Some(record) = self.decoder.next().map_err(|what| self.corrupt(what))? {
            if let Record::Head(head) = record {
                self.head = Some(head);
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), SnapshotError> {
        if self.decoder.has_rest() || !self.decoder.ended {
            return Err(self.corrupt("the stream ends inside a record".into()));
        }
        self.file.sync_data().map_err(SnapshotError::io(&self.path, "sync"))?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        self.vfs.sync_dir(dir).map_err(SnapshotError::io(dir, "sync"))
    }

    fn corrupt(&self, what: String) -> SnapshotError {
        let (location, offset) = ("stream".into(), self.decoder.position());
        SnapshotError::Corrupt { location, offset, what }
    }
}
