//! A lone member on the real file system, recorded from its first start on, and the power cut after every call: what was acknowledged
//! is there, and the member starts.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use quorate_etcd::backend::Backend;
use quorate_kv::Command;
use quorate_node::Scope;
use quorate_proto::etcdserverpb::{PutRequest, RangeRequest};
use quorate_raft::Role;
use quorate_storage::vfs::{CrashStyle, Recorded, RecordingVfs, Replay, Vfs};

use crate::{ServerConfig, Started, testing};

/// How many keys are put before the member starts again, and after it.
const KEYS: u8 = 4;

struct Ran {
    root: tempfile::TempDir,
    calls: Vec<Recorded>,
    /// After how many calls which key was acknowledged.
    acknowledged: Vec<(usize, u8)>,
}

/// Two directories that are not there yet.
fn data_dir(root: &Path) -> PathBuf {
    root.join("made/data")
}

fn boot(vfs: Arc<dyn Vfs>, root: &Path) -> anyhow::Result<(Started, Arc<AtomicU64>)> {
    let now = Arc::new(AtomicU64::new(1));
    let config = ServerConfig {
        data_dir: data_dir(root),
        wal_segment_bytes: Some(16 << 10),
        ..ServerConfig::default()
    };
    let mut server = testing::try_start(vfs, &now, config)?;
    while server.raft.view().is_some_and(|view| view.role != Role::Leader) {
        now.fetch_add(10_000_000, SeqCst);
        settle(&mut server)?;
    }
    settle(&mut server)?;
    Ok((server, now))
}

fn settle(server: &mut Started) -> anyhow::Result<()> {
    while server.raft.is_ready() || server.log.is_ready() || server.apply.is_ready() {
        server.turn()?;
        server.apply.round()?;
    }
    Ok(())
}

fn run() -> Ran {
    let (vfs, root) = (RecordingVfs::new(), tempfile::tempdir().unwrap());
    let mut acknowledged = Vec::new();
    for keys in [0..KEYS, KEYS..2 * KEYS] {
        let (mut server, _) = boot(Arc::new(vfs.clone()), root.path()).unwrap();
        for key in keys {
            let request = PutRequest { key: vec![key].into(), ..PutRequest::default() };
            server.handle.0.propose(&Command::Put(request), Scope::Anywhere, None);
            settle(&mut server).unwrap();
            acknowledged.push((vfs.count(), key));
        }
    }
    Ran { root, calls: vfs.calls(), acknowledged }
}

/// Cuts the power after every call, less those that are forgotten. The first place at which the member does not start, or
/// lacks what it acknowledged.
fn first_loss(ran: &Ran, style: CrashStyle, forgets: impl Fn(&Recorded) -> bool) -> Option<String> {
    let mut replay = Replay::new(ran.root.path());
    for (call, at) in ran.calls.iter().zip(1..) {
        if !forgets(call) {
            replay.step(call);
        }
        let place = format!("{style:?} after call {at}, {call:?}");
        let (server, _) = match boot(Arc::new(replay.cut(style, at as u64)), ran.root.path()) {
            Ok(started) => started,
            Err(error) => return Some(format!("{place}: {error:#}")),
        };
        let known = ran.acknowledged.iter().filter(|(count, _)| *count <= at);
        for (_, key) in known {
            let request = RangeRequest { key: vec![*key].into(), ..RangeRequest::default() };
            if server.handle.reader().range(&request).unwrap().count != 1 {
                return Some(format!("{place}: key {key} is gone"));
            }
        }
    }
    None
}

#[test]
fn a_power_cut_after_any_call_loses_nothing_acknowledged() {
    let ran = run();
    for style in [CrashStyle::LoseAll, CrashStyle::Scatter] {
        assert_eq!(first_loss(&ran, style, |_| false), None);
    }
}

/// The judge judged: the sync of each directory is needed, of those above the data directory too.
#[test]
fn a_forgotten_sync_of_any_directory_is_noticed() {
    let ran = run();
    let (root, data) = (ran.root.path().to_owned(), data_dir(ran.root.path()));
    let dirs =
        [root.clone(), root.join("made"), data.clone(), data.join("wal"), data.join("state")];
    for dir in dirs {
        let forgets = |call: &Recorded| *call == Recorded::SyncDir(dir.clone());
        assert!(ran.calls.iter().any(forgets), "{} is synced", dir.display());
        assert!(first_loss(&ran, CrashStyle::LoseAll, forgets).is_some(), "{}", dir.display());
    }
}
