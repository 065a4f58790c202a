//! What happens before the threads begin: the disk is opened and checked, and becomes a node.
//!
//! | In the data directory | What |
//! |---|---|
//! | `identity` | whose it is |
//! | `wal/` | the log |
//! | `state/` | the state machine |

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
    sync::{Arc, OnceLock, mpsc},
};

use anyhow::Context;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use quorate_etcd::{metrics::Metrics, watches::Watches};
use quorate_kv::{Lessor, Store, watch::WatchLimits};
use quorate_node::{GroupLog, GroupStart, LogRecord, LogStore, Node, NodeConfig};
use quorate_raft::{Config, EntryId, Index, Term};
use quorate_storage::{
    EngineConfig, StateDir, Wal, WalConfig,
    vfs::{RealVfs, Vfs},
    wal::SyncObserver,
};

use super::{
    ServerConfig,
    clock::{Clock, nanoseconds},
    hashes::CompactionHashes,
    identity::Identity,
    inbox::Inbox,
    pending::Pending,
    services::Calls,
    shared::{Exit, GROUP, Shared, Sizes, Standing},
    snapshots::Snapshots,
    unsynced::UnsyncedVfs,
};

/// A server whose threads have not begun.
pub(super) struct Started {
    pub(super) shared: Arc<Shared>,
    pub(super) node: Node,
    pub(super) log: Wal,
    pub(super) store: Store,
}

/// Opens the data directory and recovers what it holds.
///
/// # Errors
/// The directory is somebody else's, in use, or damaged: which file, where.
pub(super) fn start(config: ServerConfig, exit: mpsc::Sender<Exit>) -> anyhow::Result<Started> {
    let identity = Identity::of(&config)?;
    let was_there = identity.claim(&config.data_dir)?;
    let metrics = Arc::new(Metrics::default());
    let vfs: Arc<dyn Vfs> =
        if config.unsafe_no_fsync { Arc::new(UnsyncedVfs) } else { Arc::new(RealVfs) };
    let (mut log, mut groups) = open_log(&config, &vfs, &metrics)?;
    let state_path = config.data_dir.join("state");
    let (dir, engine) =
        StateDir::open(vfs, &state_path, EngineConfig::default()).context("open the state")?;
    let store = Store::open(Box::new(engine)).context("open the state")?;
    let group = groups.remove(&GROUP);
    let applied = store.applied();
    anyhow::ensure!(
        group.is_some() || applied.index == 0,
        "{} holds state up to entry {}, but its log is gone: restore the log or remove the directory",
        config.data_dir.display(),
        applied.index
    );
    let start = GroupStart {
        group: GROUP,
        log: group.unwrap_or_default(),
        applied: EntryId { term: Term(applied.term), index: Index(applied.index) },
        first_membership: identity.membership(),
    };
    let start = catch_up(start, &mut log)?;
    tell(&identity, &config, was_there, &start);
    let clock = Clock::start();
    let node = recover(&config, &identity, start, clock)?;
    let term = node.view(GROUP).map_or(Term(0), |view| view.term);
    let shared = share(config, identity, (clock, term), &store, dir, metrics, exit)?;
    Ok(Started { shared: Arc::new(shared), node, log, store })
}

fn open_log(
    config: &ServerConfig,
    vfs: &Arc<dyn Vfs>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Wal, BTreeMap<quorate_raft::GroupId, GroupLog>)> {
    let metrics = Arc::clone(metrics);
    let observer = SyncObserver::new(move |took| metrics.wal_fsync_seconds.observe(took));
    let wal_config = WalConfig { on_sync: Some(observer), ..WalConfig::default() };
    Wal::open(Arc::clone(vfs), &config.data_dir.join("wal"), wal_config).context("open the log")
}

fn catch_up(mut start: GroupStart, log: &mut Wal) -> anyhow::Result<GroupStart> {
    if let Some((hard_state, snapshot)) = start.catch_up() {
        tracing::info!(last = %snapshot.last, "the log goes on behind an installed snapshot");
        let record = LogRecord::Install { group: GROUP, hard_state, snapshot: &snapshot };
        log.append(&[record]).context("note an installed snapshot")?;
        log.sync().context("note an installed snapshot")?;
    }
    Ok(start)
}

fn tell(identity: &Identity, config: &ServerConfig, was_there: bool, start: &GroupStart) {
    tracing::info!(
        name = config.name,
        member = format!("{:x}", identity.me.0),
        cluster = format!("{:x}", identity.cluster_id),
        members = identity.members.len(),
        data_dir = %config.data_dir.display(),
        was_there,
        log_entries = start.log.entries.len(),
        applied = %start.applied,
        "starting"
    );
}

fn recover(
    config: &ServerConfig,
    identity: &Identity,
    start: GroupStart,
    clock: Clock,
) -> anyhow::Result<Node> {
    let raft = Config {
        id: identity.me,
        heartbeat_interval_ns: nanoseconds(config.heartbeat_interval),
        election_timeout_ns: nanoseconds(config.election_timeout),
        ..Config::default()
    };
    let node_config = NodeConfig {
        snapshot_count: config.snapshot_count,
        snapshot_catchup_entries: config.snapshot_catchup_entries,
        ..NodeConfig::new(raft, random())
    };
    Node::recover(node_config, [start], clock.now(), random()).map_err(|(group, error)| {
        anyhow::Error::new(error).context(format!("recover group {group}"))
    })
}

fn share(
    config: ServerConfig,
    identity: Identity,
    (clock, term): (Clock, Term),
    store: &Store,
    dir: StateDir,
    metrics: Arc<Metrics>,
    exit: mpsc::Sender<Exit>,
) -> anyhow::Result<Shared> {
    let reader = store.reader();
    let leases = reader.leases().context("read the leases")?;
    let size = store.size().context("measure the state")?;
    let me = identity.me;
    Ok(Shared {
        clock,
        raft: Inbox::default(),
        apply: Inbox::default(),
        pending: Pending::new(me, random()),
        calls: Calls::default(),
        watches: Arc::new(Watches::new(reader.revision(), WatchLimits::default())),
        lessor: Mutex::new(Lessor::new(leases)),
        standing: Standing::new(clock.now(), term, store.applied().index),
        sizes: Sizes { total: size.total.into(), live: size.in_use.into() },
        metrics,
        transport: OnceLock::new(),
        snapshots: Snapshots::new(dir, random()),
        hashes: CompactionHashes::default(),
        client_urls: Mutex::new(BTreeMap::from([(me, config.advertise_client_urls.clone())])),
        exit: Mutex::new(exit),
        reader: ArcSwap::from_pointee(reader),
        config,
        identity,
    })
}

/// A number that nobody can guess, from the system's source.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
