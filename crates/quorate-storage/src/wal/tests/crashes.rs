//! A power cut at every call of the disk: nothing acknowledged is lost, nothing half-done is seen, and the log always opens.

use super::*;
use crate::vfs::{CrashStyle, Faults};

const GROUPS: u64 = 3;
const ROUNDS: u64 = 36;

/// What a run that was cut short may have left.
#[derive(Debug)]
struct Ran {
    /// The log after nothing, after the first append, and so on; the last append may have failed.
    states: Vec<Groups>,
    /// How many of the appends were reported durable.
    acknowledged: usize,
    finished: bool,
}

/// Rounds with a reopen in the middle and two appends for each sync, until something fails.
fn run(vfs: &MemoryVfs) -> Ran {
    let mut model = MemoryLogStore::new();
    let mut ran = Ran { states: vec![Groups::new()], acknowledged: 0, finished: false };
    let rounds = lively_rounds(ROUNDS);
    for part in rounds.chunks(rounds.len() / 2) {
        let Ok((mut wal, _)) = open(vfs) else { return ran };
        for (nth, steps) in part.iter().enumerate() {
            append(&mut model, steps).unwrap();
            ran.states.push(all_of(&model, GROUPS));
            if append(&mut wal, steps).is_err() {
                return ran;
            }
            if nth % 2 == 1 {
                if wal.sync().is_err() {
                    return ran;
                }
                ran.acknowledged = ran.states.len() - 1;
            }
        }
    }
    ran.finished = true;
    ran
}

fn check_recovered(groups: Groups, ran: &Ran, what: &str) -> Groups {
    let groups = without_empty(groups);
    let allowed = &ran.states[ran.acknowledged..];
    assert!(
        allowed.contains(&groups),
        "{what}: {} states allowed; recovered the one before: {}",
        allowed.len(),
        ran.states.contains(&groups)
    );
    groups
}

/// The log that recovered is used further, and what it says stays.
fn use_further(vfs: &MemoryVfs, mut wal: Wal, recovered: &Groups, seed: u64) {
    let last = recovered.get(&GroupId(7)).map_or(0, |log| log.entries.len() as u64);
    let step = save(7, last + 1, vec![entry(99, 1, 300)]);
    append(&mut wal, &[step]).unwrap();
    wal.sync().unwrap();
    vfs.crash(CrashStyle::LoseAll, seed);
    let (_, mut groups) = open(vfs).unwrap();
    assert_eq!(groups.remove(&GroupId(7)).unwrap().entries.len() as u64, last + 1);
    assert_eq!(&without_empty(groups), recovered);
}

#[test]
fn a_crash_at_every_call_loses_nothing_acknowledged() {
    let mut cut = 0;
    loop {
        let vfs = MemoryVfs::new();
        vfs.set_faults(Faults { power_off_at_call: Some(cut), ..Faults::default() });
        let ran = run(&vfs);
        for style in CrashStyle::ALL {
            for seed in [cut, cut + 1000] {
                let disk = vfs.crashed_copy(style, seed);
                let what = format!("cut at call {cut}, {style:?}, seed {seed}");
                let (wal, groups) = open(&disk).unwrap_or_else(|e| panic!("{what}: {e}"));
                let recovered = check_recovered(groups, &ran, &what);
                use_further(&disk, wal, &recovered, seed);
            }
        }
        if ran.finished {
            break;
        }
        cut += 1;
    }
    assert!(cut > 100, "the run was long enough: {cut}");
}

#[test]
fn a_crash_at_every_call_of_a_recovery_loses_nothing_either() {
    for cut in (0..150).step_by(7) {
        let vfs = MemoryVfs::new();
        vfs.set_faults(Faults { power_off_at_call: Some(cut), ..Faults::default() });
        let ran = run(&vfs);
        for style in CrashStyle::ALL {
            for second in 0..40 {
                let disk = vfs.crashed_copy(style, cut);
                disk.set_faults(Faults { power_off_at_call: Some(second), ..Faults::default() });
                let opened = open(&disk).is_ok();
                disk.crash(style, second);
                let what = format!("cut at call {cut} and again at {second}, {style:?}");
                let (_, groups) = open(&disk).unwrap_or_else(|e| panic!("{what}: {e}"));
                check_recovered(groups, &ran, &what);
                if opened {
                    break;
                }
            }
        }
    }
}

#[test]
fn what_a_recovery_answered_stays_whatever_the_failed_sync_did() {
    let vfs = MemoryVfs::new();
    let (mut wal, _) = open(&vfs).unwrap();
    append(&mut wal, &[save(0, 1, vec![entry(1, 1, 100)])]).unwrap();
    wal.sync().unwrap();
    vfs.set_faults(Faults { fail_sync: Some(0), ..Faults::default() });
    append(&mut wal, &[save(0, 2, vec![entry(1, 2, 100)])]).unwrap();
    assert!(matches!(wal.sync(), Err(LogError::Io { .. })));
    assert!(wal.sync().is_err(), "a failed sync is final");
    assert!(append(&mut wal, &[save(0, 3, vec![])]).is_err(), "for appends too");
    drop(wal);
    let (wal, groups) = open(&vfs).unwrap();
    assert_eq!(groups[&GroupId(0)].entries.len(), 2, "the page cache shows it");
    drop(wal);
    vfs.crash(CrashStyle::LoseAll, 0);
    let (_, after) = open(&vfs).unwrap();
    assert_eq!(after, groups);
}

#[test]
fn a_failed_write_is_final_and_its_half_is_cut_off() {
    let vfs = MemoryVfs::new();
    let (mut wal, _) = open(&vfs).unwrap();
    append(&mut wal, &[save(0, 1, vec![entry(1, 1, 100)])]).unwrap();
    wal.sync().unwrap();
    vfs.set_faults(Faults { fail_write: Some(0), ..Faults::default() });
    assert!(append(&mut wal, &[save(0, 2, vec![entry(1, 2, 100)])]).is_err());
    assert!(wal.sync().is_err());
    drop(wal);
    let (_, groups) = open(&vfs).unwrap();
    assert_eq!(groups[&GroupId(0)].entries.len(), 1);
}

#[test]
fn a_record_that_does_not_fit_is_refused_and_never_written() {
    let vfs = MemoryVfs::new();
    let (mut wal, _) = open(&vfs).unwrap();
    append(&mut wal, &[save(0, 1, vec![entry(1, 1, 100)])]).unwrap();
    wal.sync().unwrap();
    let gap = append(&mut wal, &[save(0, 3, vec![entry(1, 2, 100)])]).unwrap_err();
    assert!(matches!(gap, LogError::Unavailable { index: Index(3), .. }));
    drop(wal);
    let (_, groups) = open(&vfs).unwrap();
    assert_eq!(groups[&GroupId(0)].entries.len(), 1);
}
