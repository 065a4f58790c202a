//! From the records of a round to one batch on the disk.

use std::io;

use quorate_node::{LogError, LogRecord};
use quorate_raft::{GroupId, Index};

use super::{
    Wal, error,
    format::{self, BATCH_HEADER_BYTES, BatchHeader, BatchWriter, Expected, FOOTER_BYTES},
    index::{Change, LogIndex, Misfit, Place},
    record::{self, Plain},
    rewrite::{self, Rewrite},
    write_at,
};

/// What a batch has around its records.
pub(super) const FRAME_BYTES: u64 = (BATCH_HEADER_BYTES + FOOTER_BYTES) as u64;

impl Wal {
    /// Length of the records that tell the state of every group.
    pub(super) fn checkpoint_bytes(&self) -> u64 {
        self.index.groups().map(|(_, state)| record_bytes(&rewrite::checkpoint(state))).sum()
    }

    /// Encodes and writes one batch, for which there is room.
    pub(super) fn write_batch(
        &mut self,
        rewrites: &[Rewrite],
        records: &[LogRecord<'_>],
    ) -> Result<(), LogError> {
        let header = self.batch_header(rewrites, records)?;
        let BatchHeader { salt, segment, batch, opening, .. } = header;
        self.writer.start(&header);
        self.encode_checkpoint();
        let mut encoder =
            Encoder { writer: &mut self.writer, index: &mut self.index, segment, start: self.end };
        rewrites.iter().try_for_each(|rewrite| encoder.put(rewrite.group, &rewrite.plain()))?;
        for record in records {
            each_part(record, |group, plain| encoder.put(group, plain))?;
        }
        let (bytes, chain) = self.writer.finish();
        let written_bytes = bytes.len() as u64;
        write_at(&self.segments, segment, bytes, self.end)?;
        self.end += written_bytes;
        self.next = Expected { salt, segment, batch: batch + 1, opening, chain };
        self.checkpoint_due = false;
        self.stats.batches += 1;
        self.stats.written_bytes += written_bytes;
        self.stats.rewritten_bytes += rewrites_bytes(rewrites);
        if let Some(segment) = self.segments.get_mut(segment) {
            segment.end = self.end;
        }
        Ok(())
    }

    fn batch_header(
        &self,
        rewrites: &[Rewrite],
        records: &[LogRecord<'_>],
    ) -> Result<BatchHeader, LogError> {
        let checkpoint = if self.checkpoint_due { self.checkpoint_bytes() } else { 0 };
        let sum = checkpoint + rewrites_bytes(rewrites) + records_bytes(records);
        let too_long = |_| {
            let source = io::ErrorKind::InvalidInput.into();
            error::io(self.segments.dir(), &format!("write {sum} bytes at once"), source)
        };
        let records_bytes = u32::try_from(sum).map_err(too_long)?;
        let Expected { salt, segment, batch, opening, chain } = self.next;
        let synced = self.synced;
        Ok(BatchHeader { salt, segment, batch, synced, opening, records_bytes, chain })
    }

    fn encode_checkpoint(&mut self) {
        if self.checkpoint_due {
            for (group, state) in self.index.groups() {
                encode(&mut self.writer, group, &rewrite::checkpoint(state));
            }
        }
    }
}

/// Encodes records and does to the index what they say, in one go.
struct Encoder<'a> {
    writer: &'a mut BatchWriter,
    index: &'a mut LogIndex,
    segment: u64,
    /// Where the batch starts in its segment.
    start: u64,
}

impl Encoder<'_> {
    fn put(&mut self, group: GroupId, plain: &Plain<'_>) -> Result<(), LogError> {
        let mut place = encode(self.writer, group, plain);
        place.segment = self.segment;
        place.offset += self.start;
        let unavailable = |misfit: Misfit| LogError::Unavailable { group, index: misfit.index };
        self.index.apply(group, &change(plain), place).map_err(unavailable)
    }
}

/// Appends a record; answers its place in the batch.
fn encode(writer: &mut BatchWriter, group: GroupId, plain: &Plain<'_>) -> Place {
    let (kind, flags, count) = plain.head();
    let written = writer.record((kind, flags, count, group.0), |buffer| plain.encode(buffer));
    let bytes = u32::try_from(written.bytes).unwrap_or(u32::MAX);
    Place { segment: 0, offset: written.offset as u64, bytes, seed: written.seed }
}

fn change<'a>(plain: &Plain<'a>) -> Change<'a> {
    let (_, _, count) = plain.head();
    match *plain {
        Plain::Save { hard_state, first, .. } => Change::Save { hard_state, first, count },
        Plain::Install { hard_state, base } => Change::Install { hard_state, base },
        Plain::Compacted { base } => Change::Compacted { base },
        Plain::State { hard_state, base, next } => Change::State { hard_state, base, next },
        Plain::Rewritten { first, .. } => Change::Rewritten { first, count },
    }
}

/// Hands the records that `record` becomes to `take`: a long save is cut into several, of which only the first holds
/// the hard state.
fn each_part<'a>(
    record: &LogRecord<'a>,
    mut take: impl FnMut(GroupId, &Plain<'a>) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let group = record.group();
    match *record {
        LogRecord::Save { mut hard_state, mut first, mut entries, .. } => loop {
            let (part, rest) = record::split_record(entries);
            take(group, &Plain::Save { hard_state, first, entries: part })?;
            if rest.is_empty() {
                return Ok(());
            }
            first = Index(first.0.saturating_add(part.len() as u64));
            (hard_state, entries) = (None, rest);
        },
        LogRecord::Install { hard_state, snapshot, .. } => {
            take(group, &Plain::Install { hard_state, base: snapshot })
        }
        LogRecord::Compacted { base, .. } => take(group, &Plain::Compacted { base }),
    }
}

pub(super) fn record_bytes(plain: &Plain<'_>) -> u64 {
    format::record_bytes(plain.body_bytes()) as u64
}

pub(super) fn records_bytes(records: &[LogRecord<'_>]) -> u64 {
    let mut bytes = 0;
    for record in records {
        let sum = each_part(record, |_, plain| {
            bytes += record_bytes(plain);
            Ok(())
        });
        debug_assert!(sum.is_ok(), "adding does not fail");
    }
    bytes
}

pub(super) fn rewrites_bytes(rewrites: &[Rewrite]) -> u64 {
    rewrites.iter().map(|rewrite| record_bytes(&rewrite.plain())).sum()
}
