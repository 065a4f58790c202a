//! The write-ahead log: one for all groups of a node.
//!
//! **A round.** All records of a round become one batch: a header, the records, a footer. It is encoded once into a buffer that
//! is kept, written with one call, and made durable with one `fdatasync`. A batch is there whole or not at all, so the term, the vote
//! and the entries of a save are too. Every record's CRC32C is seeded with that of the one before: a record fits only where it was
//! written. Byte-exact: `docs/formats/wal.md`.
//!
//! **What was acknowledged.** After a good sync, and before it is reported, a mark in a second file names the batch; the next batch's
//! header and the next segment's say it once more. At a start, a tail that nobody vouches for was never acknowledged and is
//! cut off; a tail that somebody does vouch for is damaged, and the answer is [`LogError::Corrupt`]. The log never shortens what
//! was acknowledged (Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018).
//!
//! **Room.** Segments are preallocated and used again. The first batch of each holds the state of every group, so only entries
//! keep old segments alive. When more than half of the closed segments (and one segment more) is dead, the oldest one's live entries are
//! copied forward, a bounded piece with each round, until it can go. A segment goes only after the sync of what made it
//! dead.
//!
//! **Order of durability**, which the code below keeps: batch, sync, mark, report; a full segment's sync, then the next
//! one's name, then its header, then its first batch; the sync of a compaction or copy, then the end of the old segment.
//!
//! **A failure is final.** After a failed write or sync every later call is refused. After a restart the bytes that nobody vouches
//! for are written and synced again before anything else, since the system may have marked them clean without storing them.
//!
//! Left out: direct I/O and `io_uring` (no gain was measured), compression, encryption, a sparse index for
//! recovery (all of the log is read at a start, and checked), and the repair of damaged entries, which is the peers' work.

mod error;
mod format;
mod index;
mod marks;
mod reading;
mod record;
mod recover;
mod rewrite;
mod segments;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use quorate_node::{Entry, GroupLog, LogError, LogRecord, LogStore};
use quorate_raft::{EntryRange, GroupId, Index};

use self::{
    format::{
        BATCH_HEADER_BYTES, BatchHeader, BatchWriter, DATA_START, Expected, FOOTER_BYTES, Raw,
        SegmentHeader,
    },
    index::{Change, LogIndex, Place},
    marks::{Mark, Marks},
    reading::Run,
    record::Plain,
    recover::Replayed,
    rewrite::{Rewrite, RewriteQueue},
    segments::Segments,
};
use crate::vfs::{Vfs, VfsLock};

/// The smallest segment: its header's page and one of batches.
pub const SEGMENT_BYTES_MIN: u64 = 2 * DATA_START;
/// The largest segment that is preallocated.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// The largest batch, that is, the largest call of [`LogStore::append`], encoded.
pub const BATCH_BYTES_MAX: u64 = 1024 * 1024 * 1024;

const LOCK_FILE_NAME: &str = "LOCK";

/// How a log is kept. The default suits a server.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// Length of a segment's file, in bytes; brought between [`SEGMENT_BYTES_MIN`] and [`SEGMENT_BYTES_MAX`].
    /// A batch that is larger gets a larger one.
    pub segment_bytes: u64,
    /// How many files of dead segments are kept for use again.
    pub spare_segments_max: usize,
    /// Is told how long each sync took.
    pub on_sync: Option<SyncObserver>,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024 * 1024, spare_segments_max: 2, on_sync: None }
    }
}

/// Is told how long each sync took; called on the thread that syncs.
#[derive(Clone)]
pub struct SyncObserver(Arc<dyn Fn(Duration) + Send + Sync>);

impl SyncObserver {
    /// One that calls `observe`, which must not block.
    pub fn new(observe: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }
}

impl fmt::Debug for SyncObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SyncObserver")
    }
}

/// What an operator may want to know of the log. Counters start at 0 when it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalStats {
    /// Files that are part of the log.
    pub segments: u64,
    /// Files kept for use again.
    pub spare_segments: u64,
    /// Length of all of them.
    pub total_bytes: u64,
    /// Length of the records that hold entries still part of the log.
    pub live_bytes: u64,
    /// Batches written.
    pub batches: u64,
    /// Bytes written in them.
    pub written_bytes: u64,
    /// Bytes of those that were copied forward.
    pub rewritten_bytes: u64,
    /// Syncs of batches.
    pub syncs: u64,
}

/// The write-ahead log of a node. See the module's head.
#[derive(Debug)]
pub struct Wal {
    segments: Segments,
    marks: Marks,
    index: LogIndex,
    writer: BatchWriter,
    /// What the next batch is.
    next: Expected,
    /// Where it goes in its segment.
    end: u64,
    /// The last batch known to be durable.
    synced: u64,
    /// The segment has no batch yet, so that the next one has to tell the state of every group.
    checkpoint_due: bool,
    /// A write or a sync failed, or is under way.
    failed: bool,
    rewrites: RewriteQueue,
    stats: WalStats,
    config: WalConfig,
    _lock: Box<dyn VfsLock>,
}

impl Wal {
    /// Opens the log in `dir`, which is made when it is not there, and answers what it holds. The directory is locked until the
    /// log is dropped. What was readable is durable when this returns.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when acknowledged bytes are damaged or missing: nothing was changed then. [`LogError::Io`]
    /// with `WouldBlock` when somebody else has the log open.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        config: WalConfig,
    ) -> Result<(Self, BTreeMap<GroupId, GroupLog>), LogError> {
        vfs.create_dir_all(dir).map_err(|e| error::io(dir, "make the directory", e))?;
        let lock_path = dir.join(LOCK_FILE_NAME);
        let lock = vfs.lock(&lock_path).map_err(|e| error::io(&lock_path, "lock", e))?;
        let found = segments::find(&*vfs, dir)?;
        let (marks, mark) = Marks::open(&*vfs, dir)?;
        let segment_bytes = config
            .segment_bytes
            .clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
            .next_multiple_of(DATA_START);
        let limits = (segment_bytes, config.spare_segments_max);
        let config = WalConfig { segment_bytes, ..config };
        let mut segments = Segments::new(vfs, dir, limits, &found);
        let replayed = match recover::replay(&mut segments, &found.numbers, mark)? {
            Some(replayed) => replayed,
            None => begin(&mut segments)?,
        };
        let mut wal = Self {
            segments,
            marks,
            index: replayed.index,
            writer: BatchWriter::default(),
            next: replayed.expected,
            end: replayed.end,
            synced: 0,
            checkpoint_due: replayed.segment_is_empty,
            failed: false,
            rewrites: RewriteQueue::default(),
            stats: WalStats::default(),
            config,
            _lock: lock,
        };
        let groups = wal.read_all()?;
        wal.announce(&replayed.unwitnessed, &replayed.strays)?;
        Ok((wal, groups))
    }

    /// Counters and sizes.
    pub fn stats(&self) -> WalStats {
        WalStats {
            segments: self.segments.count() as u64,
            spare_segments: self.segments.spare_count() as u64,
            total_bytes: self.segments.total_bytes(),
            live_bytes: self.index.usage().total().bytes,
            ..self.stats
        }
    }

    /// The group whose entries hold the oldest segment, when it is not the current one: compacting it makes room first.
    pub fn oldest_group(&self) -> Option<GroupId> {
        let oldest = self.segments.oldest().filter(|oldest| *oldest < self.next.segment)?;
        self.index.spans_in(oldest).first().map(|(group, _)| *group)
    }

    fn read_all(&self) -> Result<BTreeMap<GroupId, GroupLog>, LogError> {
        let mut groups = BTreeMap::new();
        for (group, state) in self.index.groups() {
            let entries = if state.first() < state.next {
                self.read_from(group, state.first(), state.next - 1, u64::MAX)?
            } else {
                Vec::new()
            };
            let (hard_state, base) = (state.hard_state, state.base.clone());
            groups.insert(group, GroupLog { hard_state, base, entries });
        }
        Ok(groups)
    }

    /// Entries `first..=last`, all of them in the log, up to `bytes_max` bytes of content but at least one.
    fn read_from(
        &self,
        group: GroupId,
        first: u64,
        last: u64,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, LogError> {
        let mut entries = Vec::new();
        let (mut at, mut bytes) = (first, 0_u64);
        while at <= last && (bytes < bytes_max || entries.is_empty()) {
            let room = bytes_max - bytes.min(bytes_max);
            let state = self.index.group(group);
            let run = state.and_then(|state| Run::plan(state, at, last, room));
            let unavailable = LogError::Unavailable { group, index: Index(at) };
            run.ok_or(unavailable)?.read(&self.segments, group, at, |index, entry| {
                bytes = bytes.saturating_add(entry.payload.len() as u64);
                let wanted = index <= last && (entries.is_empty() || bytes <= bytes_max);
                if wanted {
                    entries.push(entry);
                    at = index + 1;
                }
                wanted
            })?;
            if bytes > bytes_max {
                break;
            }
        }
        Ok(entries)
    }

    /// Makes durable what was found but has no witness, and begins this opening with a batch of its own, so that no bytes
    /// of an earlier one can ever be taken for what follows.
    fn announce(&mut self, unwitnessed: &(u64, Vec<u8>), strays: &[u64]) -> Result<(), LogError> {
        self.failed = true;
        let (start, tail) = unwitnessed;
        if !tail.is_empty() {
            self.write_current(tail, *start)?;
            self.sync_current()?;
        }
        self.synced = self.next.batch - 1;
        self.next.opening += 1;
        self.make_room(0)?;
        self.write_batch(&[], &[])?;
        self.sync_batches()?;
        self.marks.sync()?;
        strays.iter().try_for_each(|number| self.segments.retire_file(*number, 0))?;
        self.failed = false;
        Ok(())
    }

    fn check_usable(&self) -> Result<(), LogError> {
        if self.failed {
            let source = io::Error::other("an earlier write or sync failed, which is final");
            return Err(error::io(self.segments.dir(), "use the log", source));
        }
        Ok(())
    }

    /// Begins another segment when a batch with records of `records_bytes` does not fit into this one.
    fn make_room(&mut self, records_bytes: u64) -> Result<(), LogError> {
        let size_bytes = self.segments.get(self.next.segment).map_or(0, |s| s.size_bytes);
        let frame = (BATCH_HEADER_BYTES + FOOTER_BYTES) as u64;
        let checkpoint = if self.checkpoint_due { self.checkpoint_bytes() } else { 0 };
        if self.end + frame + checkpoint + records_bytes <= size_bytes {
            return Ok(());
        }
        if self.synced + 1 < self.next.batch {
            self.failed = true;
            self.sync_batches()?;
            self.failed = false;
        }
        let needed_bytes = frame + self.checkpoint_bytes() + records_bytes;
        self.begin_segment(needed_bytes)
    }

    /// Everything in the current segment is durable.
    fn begin_segment(&mut self, needed_bytes: u64) -> Result<(), LogError> {
        let header = SegmentHeader {
            number: self.next.segment + 1,
            size_bytes: 0,
            first_batch: self.next.batch,
            opening: self.next.opening,
            previous_end: self.end,
            chain: self.next.chain,
        };
        let created = self.segments.create(header, needed_bytes);
        self.failed |= matches!(created, Err(ref error) if !matches!(error, LogError::Full { .. }));
        created?;
        self.next.segment += 1;
        self.end = DATA_START;
        self.checkpoint_due = true;
        Ok(())
    }

    fn checkpoint_bytes(&self) -> u64 {
        self.index.groups().map(|(_, state)| record_bytes(&rewrite::checkpoint(state))).sum()
    }

    /// Encodes and writes one batch, for which there is room.
    fn write_batch(
        &mut self,
        rewrites: &[Rewrite],
        records: &[LogRecord<'_>],
    ) -> Result<(), LogError> {
        let checkpoint = if self.checkpoint_due { self.checkpoint_bytes() } else { 0 };
        let records_bytes = checkpoint + rewrites_bytes(rewrites) + records_bytes(records);
        let Expected { segment, batch, opening, chain } = self.next;
        let header = BatchHeader {
            segment,
            batch,
            synced: self.synced,
            opening,
            records_bytes: u32::try_from(records_bytes).unwrap_or(u32::MAX),
            chain,
        };
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
        self.next = Expected { segment, batch: batch + 1, opening, chain };
        self.checkpoint_due = false;
        self.stats.batches += 1;
        self.stats.written_bytes += written_bytes;
        self.stats.rewritten_bytes += rewrites_bytes(rewrites);
        if let Some(segment) = self.segments.get_mut(segment) {
            segment.end = self.end;
        }
        Ok(())
    }

    fn encode_checkpoint(&mut self) {
        if self.checkpoint_due {
            for (group, state) in self.index.groups() {
                encode(&mut self.writer, group, &rewrite::checkpoint(state));
            }
        }
    }

    fn write_current(&self, bytes: &[u8], offset: u64) -> Result<(), LogError> {
        write_at(&self.segments, self.next.segment, bytes, offset)
    }

    /// The current segment's file is made durable.
    fn sync_current(&mut self) -> Result<(), LogError> {
        let Some(segment) = self.segments.get(self.next.segment) else { return Ok(()) };
        let started = self.config.on_sync.as_ref().map(|observer| (observer, Instant::now()));
        segment.file.sync_data().map_err(|e| error::io(&segment.path, "sync", e))?;
        if let Some((observer, started)) = started {
            (observer.0)(started.elapsed());
        }
        self.stats.syncs += 1;
        Ok(())
    }

    /// Makes all batches durable and leaves a mark that says so. Segments that are dead by now go.
    fn sync_batches(&mut self) -> Result<(), LogError> {
        self.sync_current()?;
        self.synced = self.next.batch - 1;
        let Expected { segment, opening, chain, .. } = self.next;
        self.marks.write(&Mark { batch: self.synced, opening, segment, end: self.end, chain })?;
        while let Some(oldest) = self.segments.oldest().filter(|oldest| *oldest < segment) {
            if self.index.usage().of(oldest).spans > 0 {
                break;
            }
            self.segments.retire_oldest()?;
        }
        Ok(())
    }
}

impl LogStore for Wal {
    fn append(&mut self, records: &[LogRecord<'_>]) -> Result<(), LogError> {
        self.check_usable()?;
        if records.is_empty() {
            return Ok(());
        }
        let wanted_bytes = records_bytes(records);
        if wanted_bytes + self.checkpoint_bytes() > BATCH_BYTES_MAX {
            let what = format!("append {wanted_bytes} bytes, more than {BATCH_BYTES_MAX}");
            return Err(error::io(self.segments.dir(), &what, io::ErrorKind::InvalidInput.into()));
        }
        let mut rewrites = self.plan_rewrites()?;
        match self.make_room(wanted_bytes + rewrites_bytes(&rewrites)) {
            // A full disk is no time to copy; there may be room for the records alone.
            Err(LogError::Full { .. }) if !rewrites.is_empty() => {
                rewrites.clear();
                self.make_room(wanted_bytes)?;
            }
            other => other?,
        }
        self.failed = true;
        self.write_batch(&rewrites, records)?;
        self.failed = false;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.check_usable()?;
        if self.synced + 1 < self.next.batch {
            self.failed = true;
            self.sync_batches()?;
            self.failed = false;
        }
        Ok(())
    }

    fn read(
        &mut self,
        group: GroupId,
        range: EntryRange,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, LogError> {
        let unavailable = LogError::Unavailable { group, index: range.first };
        let Some(state) = self.index.group(group) else { return Err(unavailable) };
        let last = range.last.0.min(state.next - 1);
        if range.first.0 < state.first() || range.first.0 > last {
            return Err(unavailable);
        }
        self.read_from(group, range.first.0, last, bytes_max)
    }
}

/// A log that was never begun.
fn begin(segments: &mut Segments) -> Result<Replayed, LogError> {
    let header = SegmentHeader {
        number: 1,
        size_bytes: 0,
        first_batch: 1,
        opening: 0,
        previous_end: 0,
        chain: 0,
    };
    segments.create(header, 0)?;
    Ok(Replayed {
        index: LogIndex::default(),
        expected: Expected { segment: 1, batch: 1, opening: 0, chain: 0 },
        end: DATA_START,
        segment_is_empty: true,
        unwitnessed: (DATA_START, Vec::new()),
        strays: Vec::new(),
    })
}

fn write_at(segments: &Segments, number: u64, bytes: &[u8], offset: u64) -> Result<(), LogError> {
    let path = || segments.path(number);
    let gone = || error::io(&path(), "write", io::ErrorKind::NotFound.into());
    let segment = segments.get(number).ok_or_else(gone)?;
    segment.file.write_all_at(bytes, offset).map_err(|e| error::io(&path(), "write", e))
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
        let unavailable =
            |misfit: index::Misfit| LogError::Unavailable { group, index: misfit.index };
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

fn record_bytes(plain: &Plain<'_>) -> u64 {
    format::record_bytes(plain.body_bytes()) as u64
}

fn records_bytes(records: &[LogRecord<'_>]) -> u64 {
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

fn rewrites_bytes(rewrites: &[Rewrite]) -> u64 {
    rewrites.iter().map(|rewrite| record_bytes(&rewrite.plain())).sum()
}

/// Reads `image` as a segment, whatever it is, and answers how many batches and records it holds. For fuzzing: it never
/// panics, and does the work of recovery on bytes that nobody checked before.
#[doc(hidden)]
pub fn decode_segment(image: &[u8]) -> (u64, u64) {
    let (mut batches, mut records_seen) = (0, 0);
    let Ok(header) = SegmentHeader::decode(image) else { return (0, 0) };
    let SegmentHeader { number: segment, first_batch: batch, opening, chain, .. } = header;
    let mut expected = Expected { segment, batch, opening, chain };
    let mut at = usize::try_from(DATA_START).unwrap_or(usize::MAX);
    let mut records: Vec<Raw<'_>> = Vec::new();
    let mut index = LogIndex::default();
    while let Ok(read) = format::batch_at(image, at, &expected, &mut records) {
        for raw in &records {
            if recover::apply(&mut index, segment, raw).is_err() {
                return (batches, records_seen);
            }
            records_seen += 1;
        }
        batches += 1;
        at = read.end;
        let Some(batch) = read.header.batch.checked_add(1) else { break };
        expected = Expected { batch, opening: read.header.opening, chain: read.chain, ..expected };
    }
    (batches, records_seen)
}
