//! What happens before the sides begin: the disk is opened and checked, and becomes a node.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use quorate_etcd::{metrics::Metrics, watches::Watches};
use quorate_kv::{COMMAND_VERSION, Command, Lessor, Store, watch::WatchLimits};
use quorate_node::{CommandPort, GroupLog, GroupStart, LogRecord, LogStore, Node, NodeConfig};
use quorate_raft::{Config, EntryId, EntryMeta, GroupId, Index, Term};
use quorate_storage::{EngineConfig, StateDir, Wal, WalConfig, vfs::Vfs, wal::SyncObserver};

use crate::{
    Identity, ServerConfig,
    apply_loop::ApplyLoop,
    backend::Handle,
    beside::Beside,
    bugs::Bug,
    clock::nanoseconds,
    directory::{DataDir, Used},
    door::{AlreadyBootstrapped, Door},
    hashes::CompactionHashes,
    inbox::Inbox,
    keeper::Keeper,
    log_loop::{LogLoop, LogQueue},
    pending::Pending,
    ports::Outside,
    raft_loop::RaftLoop,
    readiness::{self, Readiness},
    services::Calls,
    shared::{GROUP, Shared, Sizes, Standing},
    snapshots::Snapshots,
    troubles::Refusals,
};

/// A server whose sides wait to be driven.
#[derive(Debug)]
pub struct Started {
    /// What clients and peers talk to.
    pub handle: Handle,
    /// The Raft side.
    pub raft: RaftLoop,
    /// The log side.
    pub log: LogLoop,
    /// The apply side.
    pub apply: ApplyLoop,
    /// The side that looks at the clock.
    pub keeper: Keeper,
}

/// Opens the data directory of `config` and recovers what it holds. A directory that was used before is whose it says, whatever
/// `identity` is; another one becomes `identity`'s.
///
/// # Errors
/// The directory is in use, damaged, or part of it is missing: which file, where.
pub fn start(
    config: ServerConfig,
    identity: Identity,
    mut outside: Outside,
) -> anyhow::Result<Started> {
    let vfs = Arc::clone(&outside.vfs);
    let directory = DataDir::open(&*vfs, &config.data_dir)?;
    let identity = directory.identity(identity, &config.name);
    let (mut log, mut groups) = open_log(&config, &outside.vfs, &outside.metrics)?;
    let state_path = config.data_dir.join("state");
    let (dir, engine) =
        StateDir::open(Arc::clone(&outside.vfs), &state_path, EngineConfig::default())
            .context("open the state")?;
    let installed = engine.installed_snapshot().context("open the state")?;
    let store = Store::open(Box::new(engine)).context("open the state")?;
    let group = groups.remove(&GROUP);
    let door = {
        let (dir, me) = (&config.data_dir, identity.me);
        Door::open(&*outside.vfs, dir, me, group.is_none(), &mut outside.random)?
    };
    let applied = store.applied();
    anyhow::ensure!(
        group.is_some() || applied.index == 0,
        "{} holds state up to entry {}, but its log is gone: restore the log or remove the directory",
        config.data_dir.display(),
        applied.index
    );
    let has_entries = group.is_some() || applied.index > 0;
    let has_met = door.has_met().then_some(Used::Met);
    directory.claim(&identity, if has_entries { Some(Used::Entries) } else { has_met })?;
    let start = GroupStart {
        group: GROUP,
        log: group.unwrap_or_default(),
        applied: entry_id(applied.term, applied.index),
        installed: installed.map(|head| entry_id(head.term, head.index)),
        first_membership: identity.membership(),
    };
    let start = catch_up(&config, start, &mut log)?;
    let agreed = store.reader().member_directories().context("read the members")?;
    if door.learn(&agreed) {
        return Err(AlreadyBootstrapped::new(identity.me, "the group".into(), &config).into());
    }
    tell(&identity, &config, &start);
    let node = recover(&config, &identity, start, &mut outside)?;
    let term = node.view(GROUP).map_or(Term(0), |view| view.term);
    let shared = Arc::new(share(config, identity, door, term, &store, dir, outside)?);
    shared.tell_command_version();
    readiness::ask(&shared);
    Ok(Started {
        handle: Handle(Arc::clone(&shared)),
        raft: RaftLoop::new(Arc::clone(&shared), node, log),
        log: LogLoop::new(Arc::clone(&shared)),
        apply: ApplyLoop::new(Arc::clone(&shared), store),
        keeper: Keeper::new(shared),
    })
}

fn entry_id(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: Index(index) }
}

fn open_log(
    config: &ServerConfig,
    vfs: &Arc<dyn Vfs>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Wal, BTreeMap<GroupId, GroupLog<EntryMeta>>)> {
    let metrics = Arc::clone(metrics);
    let observer = SyncObserver::new(move |took| metrics.wal_fsync_seconds.observe(took));
    let mut wal_config = WalConfig { on_sync: Some(observer), ..WalConfig::default() };
    if let Some(segment_bytes) = config.wal_segment_bytes {
        wal_config.segment_bytes = segment_bytes;
    }
    Wal::open(Arc::clone(vfs), &config.data_dir.join("wal"), wal_config).context("open the log")
}

fn catch_up(
    config: &ServerConfig,
    mut start: GroupStart,
    log: &mut Wal,
) -> anyhow::Result<GroupStart> {
    if config.makes(Bug::InstallByIndex)
        && let Some(term) = start.log.term_at(start.applied.index)
    {
        start.applied.term = term;
    }
    let installed = start.catch_up().context("the state and the log don't belong together")?;
    if let Some((hard_state, snapshot)) = installed {
        tracing::info!(last = %snapshot.last, "the log goes on behind an installed snapshot");
        let record = LogRecord::Install { group: GROUP, hard_state, snapshot: &snapshot };
        log.append(&[record]).context("note an installed snapshot")?;
        log.sync().context("note an installed snapshot")?;
    }
    Ok(start)
}

fn tell(identity: &Identity, config: &ServerConfig, start: &GroupStart) {
    tracing::info!(
        name = config.name,
        member = format!("{:x}", identity.me.0),
        cluster = format!("{:x}", identity.cluster_id),
        members = identity.members.len(),
        data_dir = %config.data_dir.display(),
        log_entries = start.log.entries.len(),
        applied = %start.applied,
        "starting"
    );
}

fn recover(
    config: &ServerConfig,
    identity: &Identity,
    start: GroupStart,
    outside: &mut Outside,
) -> anyhow::Result<Node> {
    let raft = Config {
        id: identity.me,
        heartbeat_interval_ns: nanoseconds(config.heartbeat_interval),
        election_timeout_ns: nanoseconds(config.election_timeout),
        #[cfg(feature = "breakable")]
        mutant: if config.breaks.bug == Some(Bug::TermUnbounded) { 60 } else { 0 },
        ..Config::default()
    };
    let mut usual = NodeConfig::new(raft, (outside.random)());
    if let Some(lower) = &config.lower_limits {
        lower.lower_node(&mut usual);
    }
    let node_config = NodeConfig {
        commands: commands(config),
        apply_bytes_max: config.apply_bytes_max.unwrap_or(usual.apply_bytes_max),
        snapshot_count: config.snapshot_count,
        snapshot_catchup_entries: config.snapshot_catchup_entries,
        flight_bytes_max: config.flight_recorder_bytes,
        ..usual
    };
    let (now, seed) = (outside.clock.now(), (outside.random)());
    Node::recover(node_config, [start], now, seed).map_err(|(group, error)| {
        anyhow::Error::new(error).context(format!("recover group {group}"))
    })
}

/// What the state machine can apply.
#[cfg_attr(
    not(feature = "breakable"),
    allow(unused_variables, reason = "only its mistakes are asked for")
)]
fn commands(config: &ServerConfig) -> CommandPort {
    #[cfg(feature = "breakable")]
    if config.breaks.bug == Some(Bug::CommandsUnexamined) {
        return CommandPort::default();
    }
    CommandPort { newest: COMMAND_VERSION, version_of: Command::version_of }
}

fn share(
    config: ServerConfig,
    identity: Identity,
    door: Door,
    term: Term,
    store: &Store,
    dir: StateDir,
    mut outside: Outside,
) -> anyhow::Result<Shared> {
    let reader = store.reader();
    let leases = reader.leases().context("read the leases")?;
    let size = store.size().context("measure the state")?;
    let checkpoint_seconds = config.lease_checkpoint_interval.as_secs();
    let checkpoint_seconds = u32::try_from(checkpoint_seconds).unwrap_or(u32::MAX);
    let me = identity.me;
    let now = outside.clock.now();
    let mut watch_limits = WatchLimits::default();
    if let Some(lower) = &config.lower_limits {
        lower.lower_watches(&mut watch_limits);
    }
    Ok(Shared {
        vfs: outside.vfs,
        raft: Inbox::default(),
        log: LogQueue::default(),
        apply: Inbox::default(),
        pending: Pending::new(me, (outside.random)()),
        calls: Calls::default(),
        beside: Beside::default(),
        watches: Arc::new(Watches::new(reader.revision(), watch_limits)),
        views: Arc::default(),
        lessor: Mutex::new(Lessor::new(leases, checkpoint_seconds)),
        standing: Standing::new(now, term, store.applied().index),
        refusals: Refusals::default(),
        readiness: Readiness::new(now.after(nanoseconds(config.cluster_ready_wait))),
        sizes: Sizes { total: size.total.into(), live: size.in_use.into() },
        clock: outside.clock,
        peers: outside.peers,
        jobs: outside.jobs,
        turns: outside.turns,
        metrics: outside.metrics,
        snapshots: Snapshots::new(dir, (outside.random)()),
        hashes: CompactionHashes::default(),
        client_urls: Mutex::new(BTreeMap::from([(me, config.advertise_client_urls.clone())])),
        reader: ArcSwap::from_pointee(reader),
        config,
        identity,
        door,
    })
}
