//! One member: a real server behind its sockets, over a disk in memory, with a clock of its own.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use quorate_etcd::{Front, PROPOSAL_BYTES, Settings, metrics::Metrics};
use quorate_kv::Reader;
use quorate_raft::NodeId;
use quorate_server::{
    ApplyLoop, Clock, Handle, Identity, Keeper, LogLoop, Outside, RaftLoop, ServerConfig, Started,
    start,
};
use quorate_storage::vfs::MemoryVfs;

use super::{
    bugs,
    conservation::Views,
    plan::Plan,
    ports::{Backlog, Chances, Outbox},
    world::Side,
};
use crate::dice::{Dice, mix};

/// What a flight recorder keeps, in bytes: enough to wrap around in a long run.
const FLIGHT_BYTES: usize = 256 << 10;

/// A member, running or not.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) number: usize,
    pub(super) id: NodeId,
    identity: Identity,
    config: ServerConfig,
    pub(super) disk: MemoryVfs,
    clock: MemberClock,
    pub(super) running: Option<Running>,
    /// How often it was started.
    pub(super) boots: u64,
    /// What its process draws at its starts.
    dice: Dice,
    /// How many of a million places between two things that its apply side makes visible end the round.
    turn_ppm: u32,
    /// Nothing happens here before: the process stands still.
    pub(super) paused_until: u64,
    /// Whether the last crash was that of a machine, which loses what its disk had not synced.
    pub(super) power_was_lost: bool,
    /// Every sync takes this much longer until then.
    pub(super) slow_disk: (u64, u64),
    /// Nothing is written to its disk before.
    pub(super) hung_until: u64,
    /// Since when its process has run without standing still.
    pub(super) awake_since: u64,
    /// Since when it has served clients. Before, they wait without an end of their own.
    pub(super) serves_since: u64,
    /// Since when a write has been under way.
    pub(super) writes_since: Option<u64>,
    /// Since when its state has been becoming a snapshot.
    pub(super) installs_since: Option<u64>,
    /// Since when something has waited for its Raft side.
    pub(super) unheard_since: Option<u64>,
}

/// The process.
pub(super) struct Running {
    pub(super) handle: Handle,
    pub(super) raft: RaftLoop,
    pub(super) log: LogLoop,
    pub(super) apply: ApplyLoop,
    pub(super) keeper: Keeper,
    pub(super) front: Arc<Front<Handle>>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) backlog: Arc<Backlog>,
    /// How many proposals of clients may be on their way.
    pub(super) proposals_max: u64,
    /// The views that it has published.
    pub(super) views: Views,
    /// When the next round of each side is planned.
    pub(super) planned: [Option<u64>; 4],
    /// The state machine does nothing until then.
    busy_until: u64,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("raft", &self.raft).finish_non_exhaustive()
    }
}

impl Running {
    /// The state machine does nothing before `until`.
    pub(super) fn hang(&mut self, until: u64) {
        self.busy_until = self.busy_until.max(until);
    }

    /// Until when a side does nothing.
    pub(super) fn busy_until(&self, side: Side) -> u64 {
        if side == Side::Apply { self.busy_until } else { 0 }
    }
}

/// A clock that runs a little fast or slow.
#[derive(Clone, Debug)]
struct MemberClock {
    shown: Arc<AtomicU64>,
    /// How much faster than the world's, in millionths; it may be negative.
    drift_ppm: i64,
}

impl MemberClock {
    fn local(&self, world: u64) -> u64 {
        let gained = i128::from(world) * i128::from(self.drift_ppm) / 1_000_000;
        u64::try_from(i128::from(world) + gained).unwrap_or(0)
    }

    /// The first moment of the world at which it shows at least `local`.
    fn world(&self, local: u64) -> u64 {
        let scaled = i128::from(local) * 1_000_000 / i128::from(1_000_000 + self.drift_ppm);
        let mut world = u64::try_from(scaled).unwrap_or(0);
        while self.local(world) < local {
            world += 1;
        }
        world
    }
}

impl Member {
    /// All members of a cluster, not yet started.
    pub(super) fn all(plan: &Plan) -> Vec<Self> {
        let names: Vec<String> = (0..plan.members).map(|number| format!("m{number}")).collect();
        let url = |name: &String| vec![format!("http://{name}:2380")];
        let cluster: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), url(name))).collect();
        let member = |number: usize| {
            let mut dice = Dice::fork(plan.seed, 0x3e3b ^ mix(number as u64));
            let mut config = ServerConfig {
                name: names.get(number).cloned().unwrap_or_default(),
                data_dir: "data".into(),
                initial_cluster: cluster.clone(),
                quota_backend_bytes: plan.quota_bytes,
                snapshot_count: plan.snapshot_count,
                snapshot_catchup_entries: plan.catchup_entries,
                wal_segment_bytes: Some(plan.segment_bytes),
                lower_limits: plan.lower_limits,
                apply_bytes_max: Some(plan.apply_bytes_max),
                flight_recorder_bytes: FLIGHT_BYTES,
                limits: plan.limits.clone(),
                lease_checkpoint_interval: Duration::from_secs(plan.lease_checkpoint_seconds),
                heartbeat_interval: Duration::from_nanos(plan.heartbeat_ns),
                election_timeout: Duration::from_nanos(plan.election_ns),
                ..ServerConfig::default()
            };
            bugs::switch_on(&mut config, plan.mutant);
            let identity = Identity::of(&config).ok()?;
            let drift = dice.within(0, 2 * plan.drift_ppm).cast_signed();
            let drift_ppm = drift - plan.drift_ppm.cast_signed();
            Some(Self {
                number,
                id: identity.me,
                identity,
                config,
                disk: bugs::disk(plan.mutant, dice.draw()),
                clock: MemberClock { shown: Arc::default(), drift_ppm },
                running: None,
                boots: 0,
                dice,
                turn_ppm: plan.turn_ppm,
                paused_until: 0,
                power_was_lost: false,
                slow_disk: (0, 0),
                hung_until: 0,
                awake_since: 0,
                serves_since: 0,
                writes_since: None,
                installs_since: None,
                unheard_since: None,
            })
        };
        (0..plan.members).filter_map(member).collect()
    }

    /// Shows the world's time on this member's clock.
    pub(super) fn tell_time(&self, now: u64) {
        self.clock.shown.store(self.clock.local(now), SeqCst);
    }

    /// When this member's clock shows `local`.
    pub(super) fn world_time(&self, local: u64) -> u64 {
        self.clock.world(local)
    }

    /// Starts the process on its disk.
    ///
    /// # Errors
    /// What the server says of its disk.
    pub(super) fn start(&mut self, now: u64) -> anyhow::Result<()> {
        self.running = None;
        let running = self.start_on(&self.disk.clone(), now)?;
        self.running = Some(running);
        (self.awake_since, self.unheard_since) = (now, None);
        (self.writes_since, self.installs_since) = (None, None);
        Ok(())
    }

    /// Starts a process on a disk that looks like this member's.
    pub(super) fn start_on(&mut self, disk: &MemoryVfs, now: u64) -> anyhow::Result<Running> {
        self.boots += 1;
        self.tell_time(now);
        let (outbox, backlog) = (Arc::new(Outbox::default()), Arc::new(Backlog::default()));
        let metrics = Arc::new(Metrics::default());
        let mut dice = Dice::new(self.dice.draw());
        let outside = Outside {
            vfs: Arc::new(disk.clone()),
            clock: Clock::Simulated(Arc::clone(&self.clock.shown)),
            peers: Arc::clone(&outbox) as _,
            jobs: Arc::clone(&backlog) as _,
            turns: Arc::new(Chances::new(Dice::new(dice.draw()), self.turn_ppm)),
            random: Box::new(move || dice.draw()),
            metrics: Arc::clone(&metrics),
        };
        let started = start(self.config.clone(), self.identity.clone(), outside)?;
        let Started { handle, raft, log, apply, keeper } = started;
        let front = Arc::new(Front::new(handle.clone(), self.settings(), metrics));
        let (planned, busy_until) = ([None; 4], 0);
        let proposals_max = (self.config.limits.proposal_bytes_max / PROPOSAL_BYTES).max(1);
        let views = Views::default();
        Ok(Running {
            handle,
            raft,
            log,
            apply,
            keeper,
            front,
            outbox,
            backlog,
            proposals_max,
            views,
            planned,
            busy_until,
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            election_timeout: self.config.election_timeout,
            watch_progress_notify_interval: Duration::from_secs(600),
            limits: self.config.limits.clone(),
            ..Settings::default()
        }
    }

    /// The newest state that this member has applied, if it runs.
    pub(super) fn reader(&self) -> Option<Reader> {
        use quorate_etcd::backend::Backend;
        self.running.as_ref().map(|running| running.handle.reader())
    }
}

impl Member {
    /// When the state is the snapshot that it is to become, if it is to become one.
    pub(super) fn install_end(&mut self, side: Side, now: u64, lasts_ns: u64) -> u64 {
        let installs = self.running.as_ref().is_some_and(|running| running.raft.is_installing());
        if side != Side::Apply || !installs {
            self.installs_since = self.installs_since.filter(|_| installs);
            return 0;
        }
        *self.installs_since.get_or_insert(now) + lasts_ns
    }

    /// When a side has something to do; `None`: not before something happens.
    pub(super) fn next_round(&self, side: Side, now: u64) -> Option<u64> {
        let running = self.running.as_ref()?;
        let busy = running.busy_until(side);
        let (ready, deadline) = match side {
            Side::Raft => (running.raft.is_ready(), running.raft.next_deadline()),
            Side::Apply => (running.apply.is_ready(), running.apply.next_deadline()),
            Side::Beside => (running.backlog.len() > 0, None),
            Side::Log => (running.log.is_ready(), None),
        };
        if ready {
            return Some(now.max(busy));
        }
        deadline.map(|deadline| self.world_time(deadline.0).max(now).max(busy))
    }
}
