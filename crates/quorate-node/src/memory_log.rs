//! A log in memory with a crash model, for tests and simulation.
//!
//! What was appended is readable at once and durable after a sync. A crash keeps a prefix of the records that were not
//! synced, as a torn write would.

use std::collections::BTreeMap;

use quorate_raft::{EntryId, EntryMeta, EntryRange, GroupId, HardState, Index, SnapshotMeta, Term};

use crate::log_store::{Entry, LogError, LogRecord, LogStore};

/// A log in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryLogStore {
    durable: Logs,
    /// `durable` with all of `unsynced` on top.
    current: Logs,
    unsynced: Vec<(GroupId, OwnedRecord)>,
    fail_next_sync: bool,
    appends: u64,
    syncs: u64,
}

type Logs = BTreeMap<GroupId, GroupLog>;

/// What a log holds of one group. A restart recovers from one without content: `GroupLog<EntryMeta>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLog<E = Entry> {
    /// The latest hard state.
    pub hard_state: HardState,
    /// Where the log starts; `None` when nothing was ever installed or compacted.
    pub base: Option<SnapshotMeta>,
    /// The entries behind the base.
    pub entries: Vec<E>,
}

impl<E> Default for GroupLog<E> {
    fn default() -> Self {
        Self { hard_state: HardState::default(), base: None, entries: Vec::new() }
    }
}

impl<E> GroupLog<E> {
    /// The last entry that is only in the state machine: position 0 when there is none.
    pub fn base(&self) -> EntryId {
        self.base.as_ref().map_or_else(EntryId::default, |base| base.last)
    }

    /// The position of the last entry.
    pub fn last_index(&self) -> Index {
        Index(self.base().index.0 + self.entries.len() as u64)
    }

    fn first(&self) -> Index {
        self.base().index.next()
    }

    fn offset(&self, index: Index) -> Option<usize> {
        usize::try_from(index.0.checked_sub(self.first().0)?).ok()
    }
}

impl GroupLog<EntryMeta> {
    /// The term of the entry at `index`, if this log knows it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base().index {
            return Some(self.base().term);
        }
        let meta = self.offset(index).and_then(|offset| self.entries.get(offset));
        meta.map(|meta| meta.term)
    }
}

impl GroupLog {
    /// What a restart needs of it.
    pub fn without_content(&self) -> GroupLog<EntryMeta> {
        let entries = self.entries.iter().map(|entry| entry.meta).collect();
        GroupLog { hard_state: self.hard_state, base: self.base.clone(), entries }
    }

    fn save(&mut self, first: Index, entries: &[Entry]) -> Result<(), Index> {
        if entries.is_empty() {
            return Ok(());
        }
        let offset = self.offset(first).filter(|offset| *offset <= self.entries.len());
        self.entries.truncate(offset.ok_or(first)?);
        self.entries.extend_from_slice(entries);
        Ok(())
    }

    fn compact(&mut self, base: &SnapshotMeta) {
        let dropped = (base.last.index.0 + 1).saturating_sub(self.first().0);
        if dropped > 0 {
            let dropped = usize::try_from(dropped).unwrap_or(usize::MAX).min(self.entries.len());
            self.entries.drain(..dropped);
            self.base = Some(base.clone());
        }
    }

    fn take(&mut self, record: &OwnedRecord) -> Result<(), Index> {
        match record {
            OwnedRecord::Save { hard_state, first, entries } => {
                self.save(*first, entries)?;
                self.hard_state = hard_state.unwrap_or(self.hard_state);
            }
            OwnedRecord::Install { hard_state, snapshot } => {
                *self = Self {
                    hard_state: *hard_state,
                    base: Some(snapshot.clone()),
                    entries: Vec::new(),
                };
            }
            OwnedRecord::Compacted { base } => self.compact(base),
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum OwnedRecord {
    Save { hard_state: Option<HardState>, first: Index, entries: Vec<Entry> },
    Install { hard_state: HardState, snapshot: SnapshotMeta },
    Compacted { base: SnapshotMeta },
}

impl OwnedRecord {
    fn of(record: &LogRecord<'_>) -> Self {
        match *record {
            LogRecord::Save { hard_state, first, entries, .. } => {
                Self::Save { hard_state, first, entries: entries.to_vec() }
            }
            LogRecord::Install { hard_state, snapshot, .. } => {
                Self::Install { hard_state, snapshot: snapshot.clone() }
            }
            LogRecord::Compacted { base, .. } => Self::Compacted { base: base.clone() },
        }
    }
}

impl MemoryLogStore {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// The process died: of the records not synced, the first `kept` survive.
    pub fn crash(&mut self, kept: usize) {
        let survivors: Vec<_> = self.unsynced.drain(..).take(kept).collect();
        for (group, record) in &survivors {
            // Taken once already by `append`, on top of the same records.
            let _ = self.durable.entry(*group).or_default().take(record);
        }
        self.current = self.durable.clone();
        self.fail_next_sync = false;
    }

    /// How many records a crash now may lose.
    pub fn unsynced_records(&self) -> usize {
        self.unsynced.len()
    }

    /// The next sync fails and makes nothing durable.
    pub fn fail_next_sync(&mut self) {
        self.fail_next_sync = true;
    }

    /// How many calls of `append` and `sync` there were.
    pub fn calls(&self) -> (u64, u64) {
        (self.appends, self.syncs)
    }

    /// What the log holds of `group`, durable or not.
    pub fn group(&self, group: GroupId) -> GroupLog {
        self.current.get(&group).cloned().unwrap_or_default()
    }
}

impl LogStore for MemoryLogStore {
    fn append(&mut self, records: &[LogRecord<'_>]) -> Result<(), LogError> {
        self.appends += 1;
        for record in records {
            let group = record.group();
            let owned = OwnedRecord::of(record);
            self.current
                .entry(group)
                .or_default()
                .take(&owned)
                .map_err(|index| LogError::Unavailable { group, index })?;
            self.unsynced.push((group, owned));
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.syncs += 1;
        if self.fail_next_sync {
            return Err(LogError::Io {
                location: "memory".into(),
                what: "sync".into(),
                source: std::io::Error::other("sync was told to fail"),
            });
        }
        for (group, record) in self.unsynced.drain(..) {
            // As in `crash`.
            let _ = self.durable.entry(group).or_default().take(&record);
        }
        Ok(())
    }

    fn read(
        &mut self,
        group: GroupId,
        range: EntryRange,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, LogError> {
        let unavailable = || LogError::Unavailable { group, index: range.first };
        let log = self.current.get(&group).ok_or_else(unavailable)?;
        let offset = log.offset(range.first).ok_or_else(unavailable)?;
        let wanted = usize::try_from(range.len()).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let read: Vec<Entry> = log
            .entries
            .iter()
            .skip(offset)
            .take(wanted)
            .enumerate()
            .take_while(|(nth, entry)| {
                bytes += entry.payload.len() as u64;
                *nth == 0 || bytes <= bytes_max
            })
            .map(|(_, entry)| entry.clone())
            .collect();
        if read.is_empty() { Err(unavailable()) } else { Ok(read) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_raft::{EntryKind, Membership};

    use super::*;

    const GROUP: GroupId = GroupId(0);

    fn entry(term: u64, content: &'static str) -> Entry {
        let payload = Bytes::from_static(content.as_bytes());
        let bytes = u32::try_from(payload.len()).unwrap();
        Entry { meta: EntryMeta { term: Term(term), kind: EntryKind::Normal, bytes }, payload }
    }

    fn save(log: &mut MemoryLogStore, first: u64, entries: &[Entry]) {
        let record =
            LogRecord::Save { group: GROUP, hard_state: None, first: Index(first), entries };
        log.append(&[record]).unwrap();
    }

    fn contents(log: &MemoryLogStore) -> Vec<Bytes> {
        log.group(GROUP).entries.into_iter().map(|entry| entry.payload).collect()
    }

    #[test]
    fn a_crash_loses_what_was_not_synced_but_keeps_a_prefix() {
        let mut log = MemoryLogStore::new();
        save(&mut log, 1, &[entry(1, "a")]);
        log.sync().unwrap();
        save(&mut log, 2, &[entry(1, "b")]);
        save(&mut log, 3, &[entry(1, "c")]);
        assert_eq!(contents(&log), ["a", "b", "c"]);
        log.crash(1);
        assert_eq!(contents(&log), ["a", "b"]);
        save(&mut log, 2, &[entry(2, "d")]);
        log.crash(0);
        assert_eq!(contents(&log), ["a", "b"]);
    }

    #[test]
    fn saved_entries_replace_the_tail() {
        let mut log = MemoryLogStore::new();
        save(&mut log, 1, &[entry(1, "a"), entry(1, "b"), entry(1, "c")]);
        save(&mut log, 2, &[entry(2, "x")]);
        assert_eq!(contents(&log), ["a", "x"]);
    }

    #[test]
    fn a_read_is_cut_at_its_bytes_but_gives_one_entry() {
        let mut log = MemoryLogStore::new();
        save(&mut log, 1, &[entry(1, "aaaa"), entry(1, "bb"), entry(1, "c")]);
        let all = EntryRange { first: Index(1), last: Index(3) };
        assert_eq!(log.read(GROUP, all, 1).unwrap().len(), 1);
        assert_eq!(log.read(GROUP, all, 6).unwrap().len(), 2);
        assert!(matches!(
            log.read(GROUP, EntryRange { first: Index(4), last: Index(4) }, 1),
            Err(LogError::Unavailable { index: Index(4), .. })
        ));
    }

    #[test]
    fn compaction_and_install_move_the_base() {
        let mut log = MemoryLogStore::new();
        save(&mut log, 1, &[entry(1, "a"), entry(1, "b")]);
        let base = |index| SnapshotMeta {
            last: EntryId { term: Term(1), index: Index(index) },
            membership: Membership::of_voters([]),
        };
        log.append(&[LogRecord::Compacted { group: GROUP, base: &base(1) }]).unwrap();
        assert_eq!(contents(&log), ["b"]);
        let hard_state = HardState::default();
        let install = LogRecord::Install { group: GROUP, hard_state, snapshot: &base(9) };
        log.append(&[install]).unwrap();
        assert!(contents(&log).is_empty());
        save(&mut log, 10, &[entry(2, "z")]);
        assert_eq!(log.group(GROUP).without_content().entries.len(), 1);
    }

    #[test]
    fn a_failed_sync_makes_nothing_durable() {
        let mut log = MemoryLogStore::new();
        save(&mut log, 1, &[entry(1, "a")]);
        log.fail_next_sync();
        assert!(log.sync().is_err());
        log.crash(0);
        assert!(contents(&log).is_empty());
    }
}
