//! Flipped bits, lost files and reads from the wrong place: the answer is right, or an error that names file and offset.

use super::*;
use crate::vfs::{CrashStyle, Faults};

const GROUPS: u64 = 3;

/// Rounds of three groups with every kind of record, of few bytes but for one that needs the next segment.
fn small_rounds() -> Vec<Vec<Step>> {
    let small = |fill| vec![entry(1, fill, 30), entry(1, fill, 0)];
    let vote = Some(hard_state(1, Some(2)));
    let mut rounds = vec![
        vec![save(0, 1, small(1)), save(1, 1, small(2))],
        vec![Step::Save { group: 0, hard_state: vote, first: 2, entries: small(3) }],
        vec![Step::Install { group: 2, hard_state: hard_state(2, None), base: base(4, 1) }],
        vec![save(1, 3, small(4)), save(2, 5, small(5))],
        vec![Step::Compacted { group: 1, base: base(1, 1) }],
        vec![save(0, 4, vec![entry(2, 6, 2700)])],
    ];
    rounds.extend((0..4_u8).map(|n| vec![save(1, 5 + 2 * u64::from(n), small(7 + n))]));
    rounds
}

/// A small log that was closed in good order, and all that was acknowledged; and the state before the last batch.
fn closed_log() -> (MemoryVfs, Groups, Groups) {
    let vfs = MemoryVfs::new();
    let mut model = MemoryLogStore::new();
    let (mut wal, _) = open(&vfs).unwrap();
    let mut before = Groups::new();
    for steps in small_rounds() {
        before = all_of(&model, GROUPS);
        append(&mut wal, &steps).unwrap();
        append(&mut model, &steps).unwrap();
        wal.sync().unwrap();
    }
    assert_eq!(wal.stats().segments, 2);
    (vfs, all_of(&model, GROUPS), before)
}

fn check_error(error: &LogError, what: &str) {
    match error {
        LogError::Corrupt { location, .. } => assert!(location.starts_with(DIR), "{what}"),
        LogError::Io { .. } | LogError::Full { .. } | LogError::Unavailable { .. } | _ => {
            panic!("{what}: {error}")
        }
    }
}

/// Flips one bit of a byte of a file, one at a time, and hands the disk to `check`; the offset picks the bit. Every
/// `stride`th byte that was ever written has its turn, and of the others some.
fn sweep(vfs: &MemoryVfs, stride: usize, mut check: impl FnMut(&MemoryVfs, &Path, u64)) {
    for (path, _) in vfs.files() {
        let content = vfs.content(&path).unwrap();
        let mut offset = 0;
        while let Some(rest) = content.get(offset..).filter(|rest| !rest.is_empty()) {
            let (at, mask) = (offset as u64, 1 << (offset % 8));
            vfs.flip(&path, at, mask);
            check(vfs, &path, at);
            vfs.flip(&path, at, mask);
            let unused = rest.iter().take(64).all(|byte| *byte == 0);
            offset += if unused { 61 } else { stride };
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_harmless_or_named() {
    let (vfs, acknowledged, _) = closed_log();
    let mut named = 0;
    sweep(&vfs, 1, |vfs, path, offset| {
        let what = format!("{} at {offset}", path.display());
        match open(&vfs.crashed_copy(CrashStyle::KeepAll, 0)) {
            Ok((_, groups)) => assert_eq!(without_empty(groups), acknowledged, "{what}"),
            Err(error) => {
                check_error(&error, &what);
                named += 1;
            }
        }
    });
    assert!(named > 3000, "{named} flips were named");
}

#[test]
fn without_the_marks_only_the_last_batch_has_no_witness() {
    let (vfs, acknowledged, before) = closed_log();
    vfs.remove(&dir().join(marks::FILE_NAME)).unwrap();
    let mut lost = 0;
    sweep(&vfs, 3, |vfs, path, offset| {
        let what = format!("{} at {offset}", path.display());
        match open(&vfs.crashed_copy(CrashStyle::KeepAll, 0)) {
            Ok((_, groups)) => {
                let groups = without_empty(groups);
                assert!(groups == acknowledged || groups == before, "{what}");
                lost += u64::from(groups == before);
            }
            Err(error) => check_error(&error, &what),
        }
    });
    assert!(lost > 0 && lost < SEGMENT_BYTES_MIN / 2, "{lost} flips hit the last batch");
}

#[test]
fn a_bit_flipped_under_an_open_log_never_gives_a_wrong_entry() {
    let (vfs, acknowledged, _) = closed_log();
    let (mut wal, _) = open(&vfs).unwrap();
    let mut named = 0;
    sweep(&vfs, 1, |_, path, offset| {
        if let Err(error) = read_back(&mut wal, &acknowledged) {
            check_error(&error, &format!("{} at {offset}", path.display()));
            named += 1;
        }
    });
    assert!(named > 1000, "{named} flips were named");
}

#[test]
fn a_lost_file_is_noticed() {
    let (vfs, acknowledged, _) = closed_log();
    let mut noticed = 0;
    for (path, _) in vfs.files() {
        let disk = vfs.crashed_copy(CrashStyle::KeepAll, 0);
        disk.remove(&path).unwrap();
        match open(&disk) {
            Ok((_, groups)) => assert_eq!(without_empty(groups), acknowledged),
            Err(error) => {
                check_error(&error, &path.display().to_string());
                noticed += 1;
            }
        }
    }
    assert_eq!(noticed, 2, "each segment is missed");
}

#[test]
fn a_file_cut_anywhere_is_noticed_or_harmless() {
    let (vfs, acknowledged, _) = closed_log();
    for (path, bytes) in vfs.files() {
        for kept in (0..bytes).step_by(97) {
            let disk = vfs.crashed_copy(CrashStyle::KeepAll, 0);
            let file = disk.open(&path, crate::vfs::Open::Existing).unwrap();
            file.set_len(kept).unwrap();
            match open(&disk) {
                Ok((_, groups)) => assert_eq!(without_empty(groups), acknowledged),
                Err(error) => check_error(&error, &format!("{} cut at {kept}", path.display())),
            }
        }
    }
}

#[test]
fn reads_from_the_wrong_place_are_noticed_and_short_ones_do_no_harm() {
    let (vfs, acknowledged, _) = closed_log();
    for nth in 0..20 {
        let disk = vfs.crashed_copy(CrashStyle::KeepAll, 0);
        let faults =
            Faults { misdirect_read: Some(nth), short_reads: nth % 2 == 0, ..Faults::default() };
        disk.set_faults(faults);
        match open(&disk) {
            Ok((_, groups)) => assert_eq!(without_empty(groups), acknowledged, "read {nth}"),
            Err(LogError::Io { source, .. }) => {
                assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof, "read {nth}");
            }
            Err(error) => check_error(&error, &format!("read {nth}")),
        }
    }
}

#[test]
fn an_error_says_what_was_lost() {
    let vfs = MemoryVfs::new();
    let (mut wal, _) = open(&vfs).unwrap();
    append(&mut wal, &[save(4, 1, vec![entry(1, 1, 100), entry(1, 2, 100)])]).unwrap();
    wal.sync().unwrap();
    drop(wal);
    let content = vfs.content(&dir().join(segments::file_name(1))).unwrap();
    let at = content.windows(50).position(|window| window == [1; 50]).unwrap() as u64;
    vfs.flip(&dir().join(segments::file_name(1)), at, 4);
    let error = open(&vfs).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("0000000000000001.wal: corrupt at offset 4168: record checksum"),
        "{error}"
    );
    assert!(error.contains("group 4 with 2 entries from 1 on"), "{error}");
}
