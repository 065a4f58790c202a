//! Servers for tests, on disks in memory and driven by hand: one member alone, or a few with a wire between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use quorate_etcd::backend::ServerError;
use quorate_kv::{Command, Reply};
use quorate_node::{PeerMessage, Scope};
use quorate_raft::NodeId;
use quorate_storage::vfs::{CrashStyle, MemoryVfs, Vfs};

use crate::{
    Clock, Handle, Identity, Job, Jobs, Outside, Peers, ServerConfig, Started, Unbroken,
    pending::Waiter,
    shared::ApplyInput,
    slot::{Slot, Wait},
    start,
};

/// How many rounds a busy apply side has in a millisecond.
const ROUNDS_MAX: usize = 8;
/// One millisecond, in nanoseconds.
pub(crate) const MS: u64 = 1_000_000;

/// No peers, and jobs that are done at once.
#[derive(Debug)]
struct Alone;

impl Peers for Alone {
    fn send(&self, _: NodeId, _: PeerMessage) -> bool {
        false
    }
}

impl Jobs for Alone {
    fn run(&self, _: &'static str, job: Job) -> io::Result<()> {
        job();
        Ok(())
    }
}

/// Jobs that wait until they are told to begin.
#[derive(Default)]
pub(crate) struct Later(Mutex<Vec<Job>>);

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Later").finish_non_exhaustive()
    }
}

impl Jobs for Later {
    fn run(&self, _: &'static str, job: Job) -> io::Result<()> {
        self.0.lock().push(job);
        Ok(())
    }
}

impl Later {
    /// Does all that wait; says how many.
    pub(crate) fn begin(&self) -> usize {
        let jobs = std::mem::take(&mut *self.0.lock());
        let count = jobs.len();
        for job in jobs {
            job();
        }
        count
    }
}

impl Started {
    /// What the log side has to write is written, and the Raft side takes its turn.
    pub(crate) fn turn(&mut self) -> anyhow::Result<bool> {
        self.log.round();
        self.raft.round()
    }
}

/// Starts it with these settings, but for small segments of the log.
pub(crate) fn started(vfs: &Arc<MemoryVfs>, now: &Arc<AtomicU64>, config: ServerConfig) -> Started {
    let config = ServerConfig { wal_segment_bytes: Some(1 << 20), ..config };
    try_start(Arc::clone(vfs) as _, now, config).unwrap()
}

/// The same, but that jobs wait.
pub(crate) fn started_with_jobs(
    vfs: &Arc<MemoryVfs>,
    now: &Arc<AtomicU64>,
    jobs: &Arc<Later>,
) -> Started {
    let config = ServerConfig { wal_segment_bytes: Some(1 << 20), ..ServerConfig::default() };
    start_among(Arc::clone(vfs) as _, now, config, (Arc::new(Alone), Arc::clone(jobs) as _))
        .unwrap()
}

/// Starts it with these settings, if its disk lets it.
pub(crate) fn try_start(
    vfs: Arc<dyn Vfs>,
    now: &Arc<AtomicU64>,
    config: ServerConfig,
) -> anyhow::Result<Started> {
    start_among(vfs, now, config, (Arc::new(Alone), Arc::new(Alone)))
}

/// The same, with others around it.
fn start_among(
    vfs: Arc<dyn Vfs>,
    now: &Arc<AtomicU64>,
    config: ServerConfig,
    (peers, jobs): (Arc<dyn Peers>, Arc<dyn Jobs>),
) -> anyhow::Result<Started> {
    let identity = Identity::of(&config)?;
    let mut drawn = identity.me.0;
    let outside = Outside {
        vfs,
        clock: Clock::Simulated(Arc::clone(now)),
        peers,
        jobs,
        turns: Arc::new(Unbroken),
        random: Box::new(move || {
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(7);
            drawn
        }),
        metrics: Arc::default(),
    };
    start(config, identity, outside)
}

/// Drives both sides, a millisecond after the other, until it is so.
///
/// # Panics
/// It is not so after ten seconds.
pub(crate) fn run_until(
    server: &mut Started,
    now: &Arc<AtomicU64>,
    is_so: impl Fn(&Started) -> bool,
) {
    for _ in 0..10_000 {
        if is_so(server) {
            return;
        }
        now.fetch_add(1_000_000, SeqCst);
        server.raft.round().unwrap();
        server.apply.round().unwrap();
    }
    panic!("not so after ten seconds");
}

/// What lies on a cluster's wire: from, to, what.
type Wire = Mutex<Vec<(NodeId, NodeId, PeerMessage)>>;

/// One member's end of the wire.
#[derive(Debug)]
struct WireEnd {
    me: NodeId,
    wire: Arc<Wire>,
}

impl Peers for WireEnd {
    fn send(&self, to: NodeId, message: PeerMessage) -> bool {
        self.wire.lock().push((self.me, to, message));
        true
    }
}

/// A few members with one clock.
#[derive(Debug)]
pub(crate) struct Cluster {
    now: Arc<AtomicU64>,
    wire: Arc<Wire>,
    disks: Vec<Arc<MemoryVfs>>,
    configs: Vec<ServerConfig>,
    pub(crate) members: Vec<Started>,
    jobs: Vec<Arc<Later>>,
    numbers: BTreeMap<NodeId, usize>,
    /// Nothing passes from or to these.
    pub(crate) cut: BTreeSet<usize>,
    /// The apply sides of these stand still.
    pub(crate) hung: BTreeSet<usize>,
    /// Apply sides find something to do whenever they look.
    pub(crate) busy: bool,
    /// The largest answer of a leader to another member, in bytes.
    pub(crate) leader_answer_bytes_max: usize,
}

impl Cluster {
    /// `size` members with these settings, none of which leads yet.
    pub(crate) fn new(size: usize, config: &ServerConfig) -> Self {
        let name = |number: usize| format!("m{number}");
        let url = |number: usize| (name(number), vec![format!("http://m{number}:2380")]);
        let initial_cluster: BTreeMap<_, _> = (0..size).map(url).collect();
        let of = |number: usize| ServerConfig {
            name: name(number),
            initial_cluster: initial_cluster.clone(),
            ..config.clone()
        };
        let mut cluster = Self {
            now: Arc::new(AtomicU64::new(1)),
            wire: Arc::default(),
            disks: (0..size).map(|_| Arc::new(MemoryVfs::new())).collect(),
            configs: (0..size).map(of).collect(),
            members: Vec::new(),
            jobs: (0..size).map(|_| Arc::default()).collect(),
            numbers: BTreeMap::new(),
            cut: BTreeSet::new(),
            hung: BTreeSet::new(),
            busy: false,
            leader_answer_bytes_max: 0,
        };
        for number in 0..size {
            let started = cluster.start(number);
            cluster.numbers.insert(started.handle.membership().me, number);
            cluster.members.push(started);
        }
        cluster
    }

    /// All processes die and start again. What the disks have not synced is gone.
    pub(crate) fn crash_all(&mut self) {
        self.disks.iter().for_each(|disk| disk.crash(CrashStyle::LoseAll, 0));
        self.members.clear();
        self.jobs.fill_with(Arc::default);
        self.wire.lock().clear();
        self.members = (0..self.configs.len()).map(|number| self.start(number)).collect();
    }

    /// One process dies and starts again. What its disk has not synced is gone.
    pub(crate) fn crash(&mut self, number: usize) {
        self.disks[number].crash(CrashStyle::LoseAll, 0);
        self.jobs[number] = Arc::default();
        self.members[number] = self.start(number);
    }

    /// Starts a member alone from a copy of its disk that lacks these parts of the data directory.
    pub(crate) fn start_without(&self, number: usize, gone: &[&str]) -> anyhow::Result<Started> {
        let (disk, config) = (&self.disks[number], self.configs[number].clone());
        let copy = disk.crashed_copy(CrashStyle::KeepAll, 0);
        let is_gone =
            |path: &Path| gone.iter().any(|part| path.starts_with(config.data_dir.join(part)));
        for (path, _) in copy.files().iter().filter(|(path, _)| is_gone(path)) {
            copy.remove(path)?;
        }
        try_start(Arc::new(copy), &self.now, config)
    }

    fn start(&self, number: usize) -> Started {
        let config = self.configs[number].clone();
        let me = Identity::of(&config).unwrap().me;
        let end = WireEnd { me, wire: Arc::clone(&self.wire) };
        let disk = Arc::clone(&self.disks[number]);
        let jobs = Arc::clone(&self.jobs[number]) as _;
        start_among(disk, &self.now, config, (Arc::new(end), jobs)).unwrap()
    }

    /// Everybody does what there is to do, and a millisecond passes. A Raft side must not use the disk.
    pub(crate) fn step(&mut self) {
        for (number, member) in self.members.iter_mut().enumerate() {
            let disk = &self.disks[number];
            while member.raft.is_ready() || member.log.is_ready() {
                member.log.round();
                let calls = disk.counts();
                member.raft.round().unwrap();
                assert_eq!(disk.counts(), calls, "the Raft side of {number} waits for its disk");
            }
            self.jobs[number].begin();
            for _ in 0..ROUNDS_MAX {
                if self.hung.contains(&number) || !member.apply.is_ready() {
                    break;
                }
                if self.busy {
                    // Nobody waits for what was compacted before the first revision: it changes nothing.
                    let nobody = Waiter::Call(Box::new(|_| ()));
                    member.handle.0.apply.put(ApplyInput::Purged(0, nobody));
                }
                member.apply.round().unwrap();
            }
        }
        let under_way = std::mem::take(&mut *self.wire.lock());
        for (from, to, message) in under_way {
            if let PeerMessage::ServiceReply { body, .. } = &message {
                self.leader_answer_bytes_max = self.leader_answer_bytes_max.max(body.len());
            }
            let (sender, receiver) = (self.numbers[&from], self.numbers[&to]);
            if !self.cut.contains(&sender) && !self.cut.contains(&receiver) {
                self.members[receiver].handle.take_peer_message(from, message);
            }
        }
        let now = self.now.fetch_add(MS, SeqCst);
        if (now / MS).is_multiple_of(200) {
            self.members.iter_mut().for_each(|member| member.keeper.tick());
        }
    }

    /// Takes what is under way off the wire: from, to, what.
    pub(crate) fn take_wire(&self) -> Vec<(NodeId, NodeId, PeerMessage)> {
        std::mem::take(&mut *self.wire.lock())
    }

    /// Does what waits to be done beside a member.
    pub(crate) fn begin_jobs(&self, number: usize) {
        self.jobs[number].begin();
    }

    /// Lets time pass in which nobody does anything.
    pub(crate) fn stand_still_ms(&self, ms: u64) {
        self.now.fetch_add(ms * MS, SeqCst);
    }

    /// How much time has passed.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now.load(SeqCst) / MS
    }

    /// Lets time pass.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }

    /// Lets time pass until somebody that is not cut off leads: who. Within 20 s.
    pub(crate) fn leader(&mut self) -> usize {
        for _ in 0..20_000 {
            let leads = |number: &usize| self.members[*number].handle.0.standing.leads().is_some();
            let up = (0..self.members.len()).filter(|number| !self.cut.contains(number));
            if let Some(leader) = up.into_iter().find(leads) {
                return leader;
            }
            self.step();
        }
        panic!("nobody leads");
    }

    /// Lets time pass until there is an answer, for 20 s at most. Looks after every millisecond.
    pub(crate) fn wait<T>(&mut self, answer: impl Future<Output = T>) -> T {
        self.wait_while(answer, |_| {})
    }

    /// The same, and does something before each millisecond.
    pub(crate) fn wait_while<T>(
        &mut self,
        answer: impl Future<Output = T>,
        mut meanwhile: impl FnMut(&mut Self),
    ) -> T {
        let mut answer = pin!(answer);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..20_000 {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut cx) {
                return answer;
            }
            meanwhile(self);
            self.step();
        }
        panic!("there is no answer");
    }

    /// Has a member propose a command, and waits for its answer.
    pub(crate) fn propose(
        &mut self,
        number: usize,
        command: &Command,
    ) -> Result<Reply, ServerError> {
        let slot = Slot::here();
        let waiter = Waiter::Task(Arc::clone(&slot));
        self.members[number].handle.0.propose(command, Scope::Anywhere, Some(waiter));
        self.wait(Wait(slot))
    }

    /// What clients of a member talk to.
    pub(crate) fn handle(&self, number: usize) -> Handle {
        self.members[number].handle.clone()
    }
}
