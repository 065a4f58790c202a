//! The sender's side.

use std::{
    fmt,
    ops::{Bound, ControlFlow},
    sync::Arc,
};

use quorate_engine::{Direction, Table, View};

use super::{
    CHUNK_BYTES_MAX, Chunk, RECORD_BYTES_MAX, SnapshotError, SnapshotHead, chunk::Chain,
    record::Encoder,
};

/// The longest name of a table, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// The longest header, or key and value together, in bytes: a record less its fixed part, rounded.
const CONTENT_BYTES_MAX: usize = RECORD_BYTES_MAX - 64;

/// Makes the chunks of a snapshot of one view, one at a time and in order: whoever may have to send one again keeps it. The same view, tables, head, chunk size and salt give the
/// same chunks, byte for byte.
///
/// Holds the view, and so the space of what is deleted meanwhile, until it is dropped.
pub struct SnapshotWriter {
    view: Arc<dyn View>,
    tables: Vec<Table>,
    head: SnapshotHead,
    chunk_bytes: usize,
    encoder: Encoder,
    chain: Chain,
    stage: Stage,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    /// The table of this number, behind this key.
    Table(usize, Option<Vec<u8>>),
    /// Everything is in the buffer.
    Rest,
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWriter")
            .field("head", &self.head)
            .field("next", &self.chain.next)
            .finish_non_exhaustive()
    }
}

impl SnapshotWriter {
    /// A snapshot of `tables` of `view`, in chunks of `chunk_bytes` (at most [`CHUNK_BYTES_MAX`]) of payload. `salt` is drawn at
    /// random for each transfer: nothing in the view can look like a chunk of it.
    pub fn new(
        view: Arc<dyn View>,
        tables: Vec<Table>,
        head: SnapshotHead,
        (chunk_bytes, salt): (usize, u64),
    ) -> Self {
        Self {
            view,
            tables,
            head,
            chunk_bytes: chunk_bytes.clamp(1, CHUNK_BYTES_MAX),
            encoder: Encoder::default(),
            chain: Chain::salted(salt),
            stage: Stage::Head,
        }
    }

    /// What it is a snapshot of.
    pub fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// The next chunk; `None` after the last.
    ///
    /// # Errors
    /// Those of the view; [`SnapshotError::Corrupt`] for a pair or name too long for the format.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, SnapshotError> {
        if self.chain.complete {
            return Ok(None);
        }
        while self.encoder.buffer.len() < self.chunk_bytes && self.stage != Stage::Rest {
            self.fill()?;
        }
        let bytes = self.encoder.buffer.len().min(self.chunk_bytes);
        let payload = self.encoder.buffer.split_to(bytes);
        let last = self.stage == Stage::Rest && self.encoder.buffer.is_empty();
        Ok(Some(self.chain.append(last, &payload)))
    }

    /// Puts at least one record into the buffer.
    fn fill(&mut self) -> Result<(), SnapshotError> {
        match std::mem::replace(&mut self.stage, Stage::Rest) {
            Stage::Head => {
                check_bytes(self.head.header.len(), "the header")?;
                self.encoder.head(&self.head);
                self.stage = Stage::Table(0, None);
            }
            Stage::Table(number, behind) => match self.tables.get(number) {
                Some(table) => self.stage = self.fill_table(number, *table, behind.as_deref())?,
                None => self.encoder.end(),
            },
            Stage::Rest => {}
        }
        Ok(())
    }

    /// Puts pairs of `table` into the buffer until a chunk is full; answers what comes next.
    fn fill_table(
        &mut self,
        number: usize,
        table: Table,
        behind: Option<&[u8]>,
    ) -> Result<Stage, SnapshotError> {
        if behind.is_none() {
            if table.0.len() > NAME_BYTES_MAX {
                return Err(too_long(format!("table name of {} bytes", table.0.len())));
            }
            self.encoder.table(table.0);
        }
        let (mut full_at, mut longest) = (None, 0);
        let (encoder, chunk_bytes) = (&mut self.encoder, self.chunk_bytes);
        let low = behind.map_or(Bound::Unbounded, Bound::Excluded);
        self.view.scan(table, (low, Bound::Unbounded), Direction::Forward, &mut |key, value| {
            longest = longest.max(key.len() + value.len());
            if longest > CONTENT_BYTES_MAX {
                return ControlFlow::Break(());
            }
            encoder.pair(key, value);
            if encoder.buffer.len() < chunk_bytes {
                return ControlFlow::Continue(());
            }
            full_at = Some(key.to_vec());
            ControlFlow::Break(())
        })?;
        check_bytes(longest, table.0)?;
        Ok(full_at.map_or(Stage::Table(number + 1, None), |key| Stage::Table(number, Some(key))))
    }
}

fn check_bytes(bytes: usize, what: &str) -> Result<(), SnapshotError> {
    if bytes > CONTENT_BYTES_MAX {
        return Err(too_long(format!("{what}: {bytes} bytes in one record")));
    }
    Ok(())
}

fn too_long(what: String) -> SnapshotError {
    SnapshotError::Corrupt { location: "stream".into(), offset: 0, what }
}
