//! What the sides of a server share.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use quorate_etcd::{
    backend::{Admitted, ServerError},
    metrics::Metrics,
    open_views::OpenViews,
    watches::Watches,
};
use quorate_kv::{Command, Lessor, Reader, Reply};
use quorate_node::{Apply, NodeEvent, PeerMessage, ProposeError, RoleChange, Scope};
use quorate_proto::inspect::RaftResponse;
use quorate_raft::{GroupId, Mono, NodeId, Role, SnapshotMeta, Term};
use quorate_storage::vfs::Vfs;

use crate::{
    ServerConfig,
    beside::Beside,
    bugs::Bug,
    clock::Clock,
    door::Door,
    hashes::CompactionHashes,
    identity::Identity,
    inbox::{Inbox, Source},
    log_loop::{LogQueue, Written},
    pending::{Open, Pending, Waiter},
    ports::{Jobs, Peers, Turns},
    readiness::Readiness,
    services::Calls,
    slot::WakeBatch,
    snapshots::Snapshots,
    troubles::Refusals,
};

/// The only group so far: etcd's key space.
pub(crate) const GROUP: GroupId = GroupId(0);

/// What the Raft thread is given.
#[derive(Debug)]
pub(crate) enum RaftInput {
    /// For the node.
    Event(NodeEvent),
    /// A linearizable read.
    Read(Waiter<()>),
    /// Somebody asks what this side knows.
    Inspect(Waiter<RaftResponse>),
    /// Something was applied that this side waits for.
    Applied,
    /// A batch was written to the log, or could not be.
    Written(Box<Written>),
    /// The state machine is the snapshot that it was told to install.
    Installed,
    /// Keep a flight recording.
    KeepRecording,
    /// Something beside the log failed: end at once, with this error.
    Failed(anyhow::Error),
    /// End, after handing leadership over if that is quick.
    Stop,
}

/// What the apply thread is given, in the order in which it must happen.
#[derive(Debug)]
pub(crate) enum ApplyInput {
    /// Committed entries.
    Entries(Apply),
    /// This node's role changed.
    Role(RoleChange),
    /// The log is about to begin behind this snapshot: install it, and say so.
    Install(SnapshotMeta),
    /// Somebody waits until what was compacted up to this revision is gone.
    Purged(i64, Waiter<()>),
    /// The compaction that was being hashed is, or can't be.
    Hashed(anyhow::Result<()>),
    /// Checkpoint and end.
    Stop,
}

/// What the sides share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ServerConfig,
    pub(crate) identity: Identity,
    pub(crate) door: Door,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) clock: Clock,
    pub(crate) raft: Inbox<RaftInput>,
    pub(crate) log: LogQueue,
    pub(crate) apply: Inbox<ApplyInput>,
    pub(crate) pending: Pending,
    pub(crate) calls: Calls,
    pub(crate) beside: Beside,
    pub(crate) reader: ArcSwap<Reader>,
    pub(crate) watches: Arc<Watches>,
    pub(crate) views: Arc<OpenViews>,
    pub(crate) lessor: Mutex<Lessor>,
    pub(crate) standing: Standing,
    pub(crate) refusals: Refusals,
    pub(crate) readiness: Readiness,
    pub(crate) sizes: Sizes,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) jobs: Arc<dyn Jobs>,
    pub(crate) turns: Arc<dyn Turns>,
    pub(crate) snapshots: Snapshots,
    pub(crate) hashes: CompactionHashes,
    /// Where clients find the members that are or were connected.
    pub(crate) client_urls: Mutex<BTreeMap<NodeId, Vec<String>>>,
}

impl Shared {
    /// Proposes a command of this server itself; nobody waits for it, or somebody does something short.
    pub(crate) fn propose(&self, command: &Command, scope: Scope, waiter: Option<Waiter<Reply>>) {
        self.put_proposal(command, scope, waiter.map(|waiter| (waiter, None)));
    }

    /// Proposes a client's command.
    pub(crate) fn propose_admitted(
        &self,
        command: &Command,
        waiter: Waiter<Reply>,
        admitted: Admitted,
    ) {
        let mut room = Some(admitted);
        if self.makes(Bug::RoomGivenBackEarly) {
            room = None;
        }
        if self.makes(Bug::RoomKept) {
            room.take().into_iter().for_each(std::mem::forget);
        }
        self.put_proposal(command, Scope::Anywhere, Some((waiter, room)));
    }

    fn put_proposal(&self, command: &Command, scope: Scope, waiter: Option<Open>) {
        let proposal = self.pending.open(self.clock.now(), command, scope, waiter);
        let (sequence, bytes) = (proposal.sequence, proposal.payload.len() as u64);
        let input = RaftInput::Event(NodeEvent::Propose { group: GROUP, proposal });
        if self.makes(Bug::RefusedWithoutLeader) && self.standing.leader().is_none() {
            return self.pending.close(
                sequence,
                Err(ServerError::NoLeader),
                &mut WakeBatch::default(),
            );
        }
        if self.raft.offer(Source::Client, input, bytes).is_err() {
            self.metrics.proposals_failed.increment();
            let outcome = Err(ServerError::TooManyRequests);
            self.pending.close(sequence, outcome, &mut WakeBatch::default());
        }
    }

    /// Asks the Raft side to confirm that everything acknowledged before is known here.
    pub(crate) fn read(&self, waiter: Waiter<()>) {
        let refused = self.raft.offer(Source::Client, RaftInput::Read(waiter), 0).err();
        if let Some(RaftInput::Read(waiter)) = refused {
            self.metrics.read_indexes_failed.increment();
            waiter.give(Err(ServerError::TooManyRequests), &mut WakeBatch::default());
        }
    }

    /// Asks the Raft side what it knows.
    pub(crate) fn inspect(&self, waiter: Waiter<RaftResponse>) {
        let refused = self.raft.offer(Source::Client, RaftInput::Inspect(waiter), 0).err();
        if let Some(RaftInput::Inspect(waiter)) = refused {
            waiter.give(Err(ServerError::TooManyRequests), &mut WakeBatch::default());
        }
    }

    /// Sends to a peer. A message that can't be sent is lost; says whether it was taken.
    pub(crate) fn send(&self, to: NodeId, message: PeerMessage) -> bool {
        self.peers.send(to, message)
    }

    /// How long a request may take (etcd: `ReqTimeout`).
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.config.election_timeout
    }
}

/// The node's standing as its Raft thread last saw it.
#[derive(Debug)]
pub(crate) struct Standing {
    /// One picture: a term goes with who leads it.
    leadership: ArcSwap<Leadership>,
    commit: AtomicU64,
    applied: AtomicU64,
    /// The Raft thread wants to hear when more is applied.
    wants_applied: AtomicBool,
}

/// Who leads which term, as far as this node knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leadership {
    pub(crate) term: Term,
    pub(crate) leader: Option<NodeId>,
    /// This node does.
    leads: bool,
    /// Since when nobody is known to; `None`: there is a leader.
    leaderless_since: Option<Mono>,
}

impl Standing {
    pub(crate) fn new(now: Mono, term: Term, applied: u64) -> Self {
        let leaderless_since = Some(now);
        let leadership = Leadership { term, leader: None, leads: false, leaderless_since };
        Self {
            leadership: ArcSwap::from_pointee(leadership),
            commit: AtomicU64::new(applied),
            applied: AtomicU64::new(applied),
            wants_applied: AtomicBool::new(false),
        }
    }

    /// Who leads which term. Whoever needs two of these asks once.
    pub(crate) fn leadership(&self) -> Leadership {
        **self.leadership.load()
    }

    pub(crate) fn term(&self) -> Term {
        self.leadership().term
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.leadership().leader
    }

    /// The term in which this node leads, if it does.
    pub(crate) fn leads(&self) -> Option<Term> {
        let Leadership { term, leads, .. } = self.leadership();
        leads.then_some(term)
    }

    pub(crate) fn commit(&self) -> u64 {
        self.commit.load(Relaxed)
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(SeqCst)
    }

    pub(crate) fn leaderless_since(&self) -> Option<Mono> {
        self.leadership().leaderless_since
    }

    pub(crate) fn set_commit(&self, commit: u64) {
        self.commit.store(commit, Relaxed);
    }

    /// For the Raft side alone.
    pub(crate) fn set_role(&self, now: Mono, change: &RoleChange) {
        let RoleChange { role, term, leader, .. } = *change;
        // An earlier moment stays.
        let since = self.leaderless_since().unwrap_or(now);
        let leaderless_since = leader.is_none().then_some(since);
        let leads = role == Role::Leader;
        self.leadership.store(Arc::new(Leadership { term, leader, leads, leaderless_since }));
    }

    /// More is applied; says whether the Raft thread wants to hear of it.
    pub(crate) fn set_applied(&self, applied: u64) -> bool {
        self.applied.store(applied, SeqCst);
        self.wants_applied.swap(false, SeqCst)
    }

    /// The Raft thread wants to hear when more than `known` is applied. Says whether that is so already.
    pub(crate) fn want_applied(&self, known: u64) -> bool {
        self.wants_applied.store(true, SeqCst);
        self.applied.load(SeqCst) > known
    }
}

/// How large the state is, as the apply thread last saw it, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    pub(crate) total: AtomicU64,
    pub(crate) live: AtomicU64,
}

/// What a client hears of a node's refusal.
pub(crate) fn server_error(error: ProposeError) -> ServerError {
    match error {
        ProposeError::Overloaded => ServerError::TooManyRequests,
        ProposeError::NoLeader => ServerError::NoLeader,
        ProposeError::NotLeader => ServerError::NotLeader,
        ProposeError::LeaderLost => ServerError::TimeoutDueToLeaderFail,
        ProposeError::Superseded => ServerError::LeaderChanged,
        ProposeError::Timeout => ServerError::Timeout,
        // `ProposeError` may grow.
        ProposeError::Faulted | _ => ServerError::Internal(error.to_string()),
    }
}
