//! The log on the real file system, recorded, and the power cut after every call: what was acknowledged is there.

use super::*;
use crate::vfs::{CrashStyle, Recorded, RecordingVfs, Replay};

const GROUPS: u64 = 3;
const ROUNDS: u64 = 24;

/// What was called, and after how many calls which state was acknowledged.
struct Ran {
    root: tempfile::TempDir,
    calls: Vec<Recorded>,
    acknowledged: Vec<(usize, Groups)>,
}

impl Ran {
    /// Two directories deep, so that more than one has to be made.
    fn dir(&self) -> std::path::PathBuf {
        self.root.path().join("data/log")
    }
}

fn run() -> Ran {
    let (vfs, mut model) = (RecordingVfs::new(), MemoryLogStore::new());
    let mut ran =
        Ran { root: tempfile::tempdir().unwrap(), calls: Vec::new(), acknowledged: Vec::new() };
    let mut acknowledge = |vfs: &RecordingVfs, model: &MemoryLogStore| {
        ran.acknowledged.push((vfs.count(), all_of(model, GROUPS)));
    };
    let dir = ran.root.path().join("data/log");
    let mut wal = Wal::open(Arc::new(vfs.clone()), &dir, small()).unwrap().0;
    acknowledge(&vfs, &model);
    for (number, steps) in lively_rounds(ROUNDS).iter().enumerate() {
        append(&mut wal, steps).unwrap();
        append(&mut model, steps).unwrap();
        wal.sync().unwrap();
        acknowledge(&vfs, &model);
        if number % 9 == 8 {
            drop(wal);
            wal = Wal::open(Arc::new(vfs.clone()), &dir, small()).unwrap().0;
        }
    }
    ran.calls = vfs.calls();
    ran
}

/// Cuts the power after every call, less those that `forgets` to carry out. The first place at which something
/// acknowledged is not there.
fn first_loss(ran: &Ran, style: CrashStyle, forgets: impl Fn(&Recorded) -> bool) -> Option<String> {
    let mut replay = Replay::new(ran.root.path());
    for (call, at) in ran.calls.iter().zip(1..) {
        if !forgets(call) {
            replay.step(call);
        }
        let done = ran.acknowledged.iter().rposition(|(count, _)| *count <= at);
        let Some(done) = done else { continue };
        let opened = open_in(&replay.cut(style, at as u64), &ran.dir());
        let is_kept = opened.as_ref().is_ok_and(|groups| {
            ran.acknowledged.iter().skip(done).any(|(_, state)| state == groups)
        });
        if !is_kept {
            return Some(format!("{style:?} after call {at}, {call:?}: {opened:?}"));
        }
    }
    None
}

fn open_in(vfs: &MemoryVfs, dir: &Path) -> Result<Groups, LogError> {
    open_at(vfs, dir, small()).map(|(_, groups)| without_empty(groups))
}

#[test]
fn a_power_cut_after_any_call_loses_nothing_acknowledged() {
    let ran = run();
    for style in CrashStyle::ALL {
        assert_eq!(first_loss(&ran, style, |_| false), None);
    }
}

/// The judge judged: each directory has to be synced, or something is lost.
#[test]
fn a_forgotten_sync_of_any_directory_is_noticed() {
    let ran = run();
    for dir in [ran.dir(), ran.root.path().join("data"), ran.root.path().to_owned()] {
        let forgets = |call: &Recorded| *call == Recorded::SyncDir(dir.clone());
        assert!(ran.calls.iter().any(forgets), "{} is synced", dir.display());
        assert!(first_loss(&ran, CrashStyle::LoseAll, forgets).is_some(), "{}", dir.display());
    }
    let forgets = |call: &Recorded| matches!(call, Recorded::Sync(_));
    assert!(first_loss(&ran, CrashStyle::LoseAll, forgets).is_some());
}
