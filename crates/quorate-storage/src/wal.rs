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
//! recovery (all of the log is read at a start, and checked, a segment at a time), and the repair of damaged entries, which is the peers' work.

mod batch;
mod config;
mod error;
mod format;
mod fuzz;
mod index;
mod marks;
mod reading;
mod record;
mod recover;
mod rewrite;
mod segments;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io, path::Path, sync::Arc, time::Instant};

use quorate_node::{Entry, GroupLog, LogError, LogRecord, LogStore};
use quorate_raft::{EntryMeta, EntryRange, GroupId, Index};

pub use self::config::{
    BATCH_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SyncObserver, WalConfig, WalStats,
};
#[doc(hidden)]
pub use self::fuzz::{decode_records, decode_segment, forged_headers};
use self::{
    batch::{FRAME_BYTES, records_bytes, rewrites_bytes},
    format::{BatchWriter, DATA_START, Expected, SegmentHeader},
    index::{GroupState, LogIndex},
    marks::{Mark, Marks},
    reading::Run,
    recover::Replayed,
    rewrite::RewriteQueue,
    segments::Segments,
};
use crate::vfs::{Vfs, VfsLock};

const LOCK_FILE_NAME: &str = "LOCK";

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
    /// Opens the log in `dir`, which is made when it is not there, and answers what it holds, but for the content of entries: of that
    /// one segment is in memory at a time, and none when this returns. The directory is locked until the log is dropped. What was
    /// readable is durable when this returns.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when acknowledged bytes are damaged or missing: no segment that holds any was changed then. [`LogError::Io`]
    /// with `WouldBlock` when somebody else has the log open.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        config: WalConfig,
    ) -> Result<(Self, BTreeMap<GroupId, GroupLog<EntryMeta>>), LogError> {
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
        let groups = wal.recovered()?;
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

    /// What all groups start from.
    fn recovered(&self) -> Result<BTreeMap<GroupId, GroupLog<EntryMeta>>, LogError> {
        let mut groups = BTreeMap::new();
        for (group, state) in self.index.groups() {
            let entries = self.metas(group, state)?;
            let (hard_state, base) = (state.hard_state, state.base.clone());
            groups.insert(group, GroupLog { hard_state, base, entries });
        }
        Ok(groups)
    }

    /// What is known of all entries of a group but their content, of which one run at a time is in memory.
    fn metas(&self, group: GroupId, state: &GroupState) -> Result<Vec<EntryMeta>, LogError> {
        let (mut metas, mut at, last) = (Vec::new(), state.first(), state.next - 1);
        while at <= last {
            let unavailable = LogError::Unavailable { group, index: Index(at) };
            let run = Run::plan(state, at, last, u64::MAX).ok_or(unavailable)?;
            run.read(&self.segments, group, at, |index, entry| {
                metas.push(entry.meta);
                at = index + 1;
                index < last
            })?;
        }
        Ok(metas)
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
        let checkpoint = if self.checkpoint_due { self.checkpoint_bytes() } else { 0 };
        if self.end + FRAME_BYTES + checkpoint + records_bytes <= size_bytes {
            return Ok(());
        }
        if self.synced + 1 < self.next.batch {
            self.failed = true;
            self.sync_batches()?;
            self.failed = false;
        }
        let needed_bytes = FRAME_BYTES + self.checkpoint_bytes() + records_bytes;
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
            salt: 0,
        };
        let created = self.segments.create(header, needed_bytes);
        self.failed |= matches!(created, Err(ref error) if !matches!(error, LogError::Full { .. }));
        self.next.salt = created?;
        self.next.segment += 1;
        self.end = DATA_START;
        self.checkpoint_due = true;
        Ok(())
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
            observer.observe(started.elapsed());
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
        if wanted_bytes > BATCH_BYTES_MAX {
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
        salt: 0,
    };
    let salt = segments.create(header, 0)?;
    Ok(Replayed {
        index: LogIndex::default(),
        expected: Expected { salt, segment: 1, batch: 1, opening: 0, chain: 0 },
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
