//! The log on a disk in memory: against its model, through crashes, damage and want of room.

mod crashes;
mod damage;
mod fixture;
mod forged;
mod model;
mod power_cuts;
mod room;

use bytes::Bytes;
use quorate_node::MemoryLogStore;
use quorate_raft::{
    EntryId, EntryKind, EntryMeta, HardState, Membership, NodeId, SnapshotMeta, Term,
};

use super::*;
use crate::vfs::MemoryVfs;

const DIR: &str = "/log";

type Groups = BTreeMap<GroupId, GroupLog>;

fn dir() -> &'static Path {
    Path::new(DIR)
}

/// Segments as small as they get.
fn small() -> WalConfig {
    WalConfig { segment_bytes: SEGMENT_BYTES_MIN, ..WalConfig::default() }
}

fn open(vfs: &MemoryVfs) -> Result<(Wal, Groups), LogError> {
    open_with(vfs, small())
}

/// The log, and everything it holds, content included.
fn open_with(vfs: &MemoryVfs, config: WalConfig) -> Result<(Wal, Groups), LogError> {
    open_at(vfs, dir(), config)
}

fn open_at(
    vfs: &(impl Vfs + Clone + 'static),
    dir: &Path,
    config: WalConfig,
) -> Result<(Wal, Groups), LogError> {
    let (mut wal, found) = Wal::open(Arc::new(vfs.clone()), dir, config)?;
    let mut groups = Groups::new();
    for (group, GroupLog { hard_state, base, entries }) in found {
        let first = base.as_ref().map_or(1, |base| base.last.index.0 + 1);
        let last = first + entries.len() as u64 - 1;
        let range = EntryRange { first: Index(first), last: Index(last) };
        let read = if entries.is_empty() { vec![] } else { wal.read(group, range, u64::MAX)? };
        assert!(read.iter().map(|entry| entry.meta).eq(entries), "group {group}");
        groups.insert(group, GroupLog { hard_state, base, entries: read });
    }
    Ok((wal, groups))
}

/// One record, owned.
#[derive(Clone, Debug)]
enum Step {
    Save { group: u64, hard_state: Option<HardState>, first: u64, entries: Vec<Entry> },
    Install { group: u64, hard_state: HardState, base: SnapshotMeta },
    Compacted { group: u64, base: SnapshotMeta },
}

impl Step {
    fn record(&self) -> LogRecord<'_> {
        match self {
            Self::Save { group, hard_state, first, entries } => LogRecord::Save {
                group: GroupId(*group),
                hard_state: *hard_state,
                first: Index(*first),
                entries,
            },
            Self::Install { group, hard_state, base } => {
                let (group, hard_state) = (GroupId(*group), *hard_state);
                LogRecord::Install { group, hard_state, snapshot: base }
            }
            Self::Compacted { group, base } => {
                LogRecord::Compacted { group: GroupId(*group), base }
            }
        }
    }
}

fn records(steps: &[Step]) -> Vec<LogRecord<'_>> {
    steps.iter().map(Step::record).collect()
}

fn append(log: &mut dyn LogStore, steps: &[Step]) -> Result<(), LogError> {
    log.append(&records(steps))
}

fn entry(term: u64, fill: u8, bytes: usize) -> Entry {
    let payload = Bytes::from(vec![fill; bytes]);
    let kind = if bytes == 0 { EntryKind::Noop } else { EntryKind::Normal };
    let bytes = u32::try_from(bytes).unwrap();
    Entry { meta: EntryMeta { term: Term(term), kind, bytes }, payload }
}

fn save(group: u64, first: u64, entries: Vec<Entry>) -> Step {
    Step::Save { group, hard_state: None, first, entries }
}

fn hard_state(term: u64, vote: Option<u64>) -> HardState {
    HardState { term: Term(term), vote: vote.map(NodeId), commit: Index(term / 2) }
}

fn base(index: u64, term: u64) -> SnapshotMeta {
    let mut membership = Membership::of_voters([1, 2, 3].map(NodeId));
    membership.learners.insert(NodeId(index + 10));
    SnapshotMeta { last: EntryId { term: Term(term), index: Index(index) }, membership }
}

/// The log as the model has it, of the groups that anything was said of.
fn all_of(model: &MemoryLogStore, groups: u64) -> Groups {
    let all = (0..groups).map(|group| (GroupId(group), model.group(GroupId(group))));
    all.filter(|(_, log)| *log != GroupLog::default()).collect()
}

fn without_empty(groups: Groups) -> Groups {
    groups.into_iter().filter(|(_, log)| *log != GroupLog::default()).collect()
}

/// Everything the open log has of its groups, read through the port.
fn read_back(wal: &mut Wal, wanted: &Groups) -> Result<(), LogError> {
    for (group, log) in wanted {
        let first = log.base.as_ref().map_or(1, |base| base.last.index.0 + 1);
        let last = first + log.entries.len() as u64 - u64::from(!log.entries.is_empty());
        if !log.entries.is_empty() {
            let range = EntryRange { first: Index(first), last: Index(last) };
            assert_eq!(wal.read(*group, range, u64::MAX)?, log.entries, "group {group}");
        }
    }
    Ok(())
}

/// Rounds of a lively log: three groups, one of which lags; overwritten tails, votes, snapshots, compaction, saves larger
/// than a segment. Deterministic.
fn lively_rounds(count: u64) -> Vec<Vec<Step>> {
    let mut next = [1_u64; 3];
    let mut rounds = Vec::new();
    for round in 0..count {
        let mut steps = Vec::new();
        for group in 0..3_u64 {
            let position = &mut next[usize::try_from(group).unwrap()];
            let term = round / 5 + 1;
            match (round * 3 + group * 5) % 13 {
                0 if *position > 3 && group != 2 => {
                    steps.push(Step::Compacted { group, base: base(*position - 2, term) });
                }
                1 if group != 2 && round > 8 => {
                    *position += 3;
                    let base = base(*position - 1, term);
                    steps.push(Step::Install { group, hard_state: hard_state(term, None), base });
                }
                2 => {
                    let (hard_state, entries) = (Some(hard_state(term, Some(group + 1))), vec![]);
                    steps.push(Step::Save { group, hard_state, first: *position, entries });
                }
                5 if round % 4 == 3 && group == 0 => {
                    steps.push(save(group, *position, vec![entry(term, 9, 9000)]));
                    *position += 1;
                }
                _ if group == 2 && round % 6 != 0 => {}
                other => {
                    let bytes = usize::try_from(other * 90).unwrap();
                    let fill = u8::try_from(round % 250).unwrap();
                    let entries = vec![entry(term, fill, bytes), entry(term, fill, bytes / 2)];
                    steps.push(save(group, *position, entries));
                    *position += 2;
                }
            }
        }
        rounds.push(steps);
    }
    rounds
}

#[test]
fn a_log_gives_back_what_was_appended_and_after_a_reopen_too() {
    let vfs = MemoryVfs::new();
    let (mut wal, groups) = open(&vfs).unwrap();
    assert!(groups.is_empty());
    let mut model = MemoryLogStore::new();
    for steps in lively_rounds(60) {
        append(&mut wal, &steps).unwrap();
        append(&mut model, &steps).unwrap();
        wal.sync().unwrap();
        read_back(&mut wal, &all_of(&model, 3)).unwrap();
    }
    assert!(wal.stats().rewritten_bytes > 0, "the lagging group was copied forward");
    drop(wal);
    let (mut wal, groups) = open(&vfs).unwrap();
    assert_eq!(without_empty(groups), all_of(&model, 3));
    read_back(&mut wal, &all_of(&model, 3)).unwrap();
}

#[test]
fn the_directory_belongs_to_one_log() {
    let vfs = MemoryVfs::new();
    let (wal, _) = open(&vfs).unwrap();
    let Err(LogError::Io { location, source, .. }) = open(&vfs).map(|_| ()) else {
        panic!("opened twice");
    };
    assert_eq!((location.as_str(), source.kind()), ("/log/LOCK", io::ErrorKind::WouldBlock));
    drop(wal);
    open(&vfs).unwrap();
}

#[test]
fn a_round_of_many_groups_costs_one_write_one_sync_and_a_mark() {
    let vfs = MemoryVfs::new();
    let (mut wal, _) = Wal::open(Arc::new(vfs.clone()), dir(), WalConfig::default()).unwrap();
    vfs.set_faults(crate::vfs::Faults::default());
    let steps: Vec<Step> = (0..1000).map(|group| save(group, 1, vec![entry(1, 1, 100)])).collect();
    append(&mut wal, &steps).unwrap();
    wal.sync().unwrap();
    let counts = vfs.counts();
    assert_eq!((counts.writes, counts.syncs, counts.total), (2, 1, 3));
    wal.sync().unwrap();
    assert_eq!(vfs.counts().total, 3, "nothing to sync");
}

#[test]
fn long_saves_are_read_in_pieces() {
    let vfs = MemoryVfs::new();
    let (mut wal, _) = open(&vfs).unwrap();
    let entries: Vec<Entry> = (0..40).map(|n| entry(1, n, 50_000)).collect();
    append(&mut wal, &[save(0, 1, entries.clone())]).unwrap();
    let read = |wal: &mut Wal, first, last, bytes_max| {
        let range = EntryRange { first: Index(first), last: Index(last) };
        wal.read(GroupId(0), range, bytes_max)
    };
    assert_eq!(read(&mut wal, 1, 40, u64::MAX).unwrap(), entries);
    assert_eq!(read(&mut wal, 7, 9, u64::MAX).unwrap(), entries[6..9]);
    assert_eq!(read(&mut wal, 7, 90, 100_000).unwrap(), entries[6..8]);
    assert_eq!(read(&mut wal, 7, 90, 149_999).unwrap(), entries[6..8]);
    assert_eq!(read(&mut wal, 40, 40, 0).unwrap(), entries[39..]);
    for (first, last) in [(41, 41), (0, 3), (5, 4)] {
        let error = read(&mut wal, first, last, 1).unwrap_err();
        assert!(matches!(error, LogError::Unavailable { .. }), "{first} {last}");
    }
}

#[test]
fn the_log_works_on_a_real_disk_and_times_its_syncs() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("member/wal");
    let observed = Arc::new(std::sync::Mutex::new(0_u64));
    let observer = Arc::clone(&observed);
    let on_sync = SyncObserver::new(move |_| *observer.lock().unwrap() += 1);
    let config = WalConfig { on_sync: Some(on_sync), ..small() };
    let mut model = MemoryLogStore::new();
    let vfs = crate::vfs::RealVfs;
    for part in lively_rounds(40).chunks(20) {
        let (mut wal, _) = open_at(&vfs, &path, config.clone()).unwrap();
        for steps in part {
            append(&mut wal, steps).unwrap();
            append(&mut model, steps).unwrap();
            wal.sync().unwrap();
        }
        assert!(wal.stats().syncs > 20);
    }
    let (_, groups) = open_at(&vfs, &path, config).unwrap();
    assert_eq!(without_empty(groups), all_of(&model, 3));
    assert!(*observed.lock().unwrap() > 40);
}

#[test]
fn garbage_is_read_without_harm() {
    assert_eq!(decode_segment(&[]), (0, 0));
    let vfs = MemoryVfs::new();
    let (mut wal, _) = open(&vfs).unwrap();
    append(&mut wal, &[save(0, 1, vec![entry(1, 1, 10)])]).unwrap();
    let image = vfs.content(&dir().join(segments::file_name(1))).unwrap();
    assert_eq!(decode_segment(&image), (2, 1));
    for cut in 0..image.len() {
        let _ = decode_segment(&image[..cut]);
    }
}
