//! Reading a snapshot file.

use std::path::{Path, PathBuf};

use super::{
    Record, SnapshotError,
    chunk::{self, CHUNK_HEADER_BYTES, Chain},
    record::Decoder,
};
use crate::vfs::{Open, Vfs, VfsFile};

/// Reads the records of a snapshot file and checks every byte of it. Memory is one chunk and one record.
#[derive(Debug)]
pub struct SnapshotReader {
    file: Box<dyn VfsFile>,
    path: PathBuf,
    offset: u64,
    chain: Chain,
    decoder: Decoder,
}

impl SnapshotReader {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`SnapshotError::Io`] when it can't be opened.
    pub fn open(vfs: &dyn Vfs, path: &Path) -> Result<Self, SnapshotError> {
        let file = vfs.open(path, Open::Read).map_err(SnapshotError::io(path, "open"))?;
        let (path, chain, decoder) = (path.to_owned(), Chain::default(), Decoder::default());
        Ok(Self { file, path, offset: 0, chain, decoder })
    }

    /// The next record; `None` after [`Record::End`], when the snapshot was whole.
    ///
    /// # Errors
    /// [`SnapshotError::Corrupt`] with the offset of the chunk at fault; [`SnapshotError::Io`].
    pub fn next_record(&mut self) -> Result<Option<Record>, SnapshotError> {
        loop {
            let start = self.offset;
            match self.decoder.next() {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) if self.chain.complete => return self.finish(),
                Ok(None) => self.read_chunk()?,
                Err(what) => return Err(self.corrupt(start, what)),
            }
        }
    }

    fn finish(&self) -> Result<Option<Record>, SnapshotError> {
        if self.decoder.has_rest() || !self.decoder.ended {
            return Err(self.corrupt(self.offset, "the stream ends inside a record".into()));
        }
        Ok(None)
    }

    fn read_chunk(&mut self) -> Result<(), SnapshotError> {
        let mut bytes = vec![0; CHUNK_HEADER_BYTES];
        self.read(&mut bytes, self.offset)?;
        let length =
            chunk::payload_bytes(&bytes).map_err(|what| self.corrupt(self.offset, what))?;
        bytes.resize(CHUNK_HEADER_BYTES + length, 0);
        let (_, payload) = bytes.split_at_mut(CHUNK_HEADER_BYTES);
        self.read(payload, self.offset + CHUNK_HEADER_BYTES as u64)?;
        let chunk = self.chain.check(&bytes).map_err(|what| self.corrupt(self.offset, what))?;
        self.decoder.push(chunk.payload);
        self.chain.follow(chunk);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), SnapshotError> {
        self.file.read_exact_at(bytes, offset).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                self.corrupt(offset, "the file ends inside a chunk".into())
            } else {
                SnapshotError::io(&self.path, "read")(error)
            }
        })
    }

    fn corrupt(&self, offset: u64, what: String) -> SnapshotError {
        SnapshotError::Corrupt { location: self.path.display().to_string(), offset, what }
    }
}
