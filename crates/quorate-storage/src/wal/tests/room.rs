//! Room on the disk: dead segments go, laggards pin nothing, and a full disk is survived.

use super::*;
use crate::vfs::Faults;

/// Group 0 writes and compacts for ever; the others have whatever they have.
fn busy_round(wal: &mut Wal, round: u64) -> Result<(), LogError> {
    let next = round * 2 + 1;
    append(wal, &[save(0, next, vec![entry(1, 1, 500), entry(1, 2, 500)])])?;
    wal.sync()?;
    if round > 2 {
        append(wal, &[Step::Compacted { group: 0, base: base(next - 3, 1) }])?;
    }
    Ok(())
}

#[test]
fn a_lagging_group_never_pins_old_segments() {
    let vfs = MemoryVfs::new();
    let (mut wal, _) = open(&vfs).unwrap();
    let laggard = vec![entry(1, 7, 300), entry(1, 8, 300)];
    append(&mut wal, &[save(9, 1, laggard.clone())]).unwrap();
    let vote = Some(hard_state(3, Some(2)));
    append(&mut wal, &[Step::Save { group: 8, hard_state: vote, first: 1, entries: vec![] }])
        .unwrap();
    let mut most = 0;
    for round in 0..300 {
        busy_round(&mut wal, round).unwrap();
        most = most.max(wal.stats().total_bytes);
    }
    let stats = wal.stats();
    assert!(stats.written_bytes > 40 * SEGMENT_BYTES_MIN);
    assert!(most <= 8 * SEGMENT_BYTES_MIN, "{most} bytes at most");
    assert!(stats.rewritten_bytes < stats.written_bytes / 10, "{stats:?}");
    drop(wal);
    let (_, groups) = open(&vfs).unwrap();
    assert_eq!(groups[&GroupId(9)].entries, laggard);
    assert_eq!(groups[&GroupId(8)].hard_state, hard_state(3, Some(2)));
}

#[test]
fn a_group_that_is_all_alive_is_named_as_the_one_to_compact() {
    let vfs = MemoryVfs::new();
    let (mut wal, _) = open(&vfs).unwrap();
    assert_eq!(wal.oldest_group(), None);
    for position in 1..40 {
        append(&mut wal, &[save(5, position, vec![entry(1, 1, 900)])]).unwrap();
        wal.sync().unwrap();
    }
    assert_eq!(wal.oldest_group(), Some(GroupId(5)));
    assert_eq!(wal.stats().rewritten_bytes, 0, "living entries stay where they are");
    append(&mut wal, &[Step::Compacted { group: 5, base: base(39, 1) }]).unwrap();
    let before = wal.stats().segments;
    assert!(before > 4, "not before the sync");
    wal.sync().unwrap();
    assert_eq!(wal.stats().segments, 1);
    assert_eq!(wal.stats().spare_segments, 2);
}

#[test]
fn a_full_disk_refuses_and_takes_more_when_there_is_room_again() {
    let vfs = MemoryVfs::new();
    let (mut wal, _) = open(&vfs).unwrap();
    let capacity = 4 * SEGMENT_BYTES_MIN;
    vfs.set_faults(Faults { capacity_bytes: Some(capacity), ..Faults::default() });
    let mut position = 1;
    let step = |position| save(0, position, vec![entry(1, 3, 1000)]);
    let full = loop {
        match append(&mut wal, &[step(position)]) {
            Ok(()) => wal.sync().unwrap(),
            Err(error) => break error,
        }
        position += 1;
    };
    assert!(matches!(full, LogError::Full { .. }), "{full}");
    assert!(position > 5);
    wal.sync().unwrap();
    let whole = EntryRange { first: Index(1), last: Index(position) };
    assert_eq!(wal.read(GroupId(0), whole, u64::MAX).unwrap().len() as u64, position - 1);
    vfs.set_faults(Faults::default());
    append(&mut wal, &[step(position)]).unwrap();
    wal.sync().unwrap();
    drop(wal);
    let (_, groups) = open(&vfs).unwrap();
    assert_eq!(groups[&GroupId(0)].entries.len() as u64, position);
}

#[test]
fn compaction_on_a_full_disk_makes_room() {
    let vfs = MemoryVfs::new();
    let (mut wal, _) = open(&vfs).unwrap();
    vfs.set_faults(Faults { capacity_bytes: Some(6 * SEGMENT_BYTES_MIN), ..Faults::default() });
    for round in 0..200 {
        busy_round(&mut wal, round).unwrap();
    }
}

#[test]
fn a_batch_larger_than_a_segment_gets_one_of_its_own() {
    let vfs = MemoryVfs::new();
    let (mut wal, _) = open(&vfs).unwrap();
    let large = vec![entry(1, 1, 100_000)];
    append(&mut wal, &[save(0, 1, large.clone())]).unwrap();
    append(&mut wal, &[save(0, 2, vec![entry(1, 2, 10)])]).unwrap();
    wal.sync().unwrap();
    drop(wal);
    let (mut wal, groups) = open(&vfs).unwrap();
    assert_eq!(groups[&GroupId(0)].entries[0], large[0]);
    append(&mut wal, &[Step::Compacted { group: 0, base: base(2, 1) }]).unwrap();
    for position in 3..12 {
        append(&mut wal, &[save(0, position, vec![entry(1, 1, 1500)])]).unwrap();
        wal.sync().unwrap();
    }
    assert!(wal.stats().total_bytes < 100_000, "a file of odd size is not kept");
}
