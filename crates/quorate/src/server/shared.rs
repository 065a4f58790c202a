//! What the threads of a server share.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
        mpsc,
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use quorate_etcd::{backend::ServerError, metrics::Metrics, watches::Watches};
use quorate_kv::{Command, Lessor, Reader, Reply};
use quorate_net::Transport;
use quorate_node::{Apply, NodeEvent, PeerMessage, ProposeError, RoleChange, Scope};
use quorate_raft::{GroupId, Mono, NodeId, Role, SnapshotMeta, Term};

use super::{
    QUOTA_BYTES_DEFAULT, ServerConfig,
    clock::Clock,
    hashes::CompactionHashes,
    identity::Identity,
    inbox::Inbox,
    pending::{Pending, Waiter},
    services::Calls,
    snapshots::Snapshots,
};

/// The only group so far: etcd's key space.
pub(super) const GROUP: GroupId = GroupId(0);

/// What the Raft thread is given.
#[derive(Debug)]
pub(super) enum RaftInput {
    /// For the node.
    Event(NodeEvent),
    /// A linearizable read.
    Read(Waiter<()>),
    /// Something was applied that the thread waits for.
    Applied,
    /// End, after handing leadership over if that is quick.
    Stop,
}

/// What the apply thread is given, in the order in which it must happen.
#[derive(Debug)]
pub(super) enum ApplyInput {
    /// Committed entries.
    Entries(Apply),
    /// This node's role changed.
    Role(RoleChange),
    /// The log is about to begin behind this snapshot: install it, and say so.
    Install(SnapshotMeta, mpsc::Sender<()>),
    /// Somebody waits until what was compacted up to this revision is gone.
    Purged(i64, Waiter<()>),
    /// The compaction that was being hashed is.
    Hashed,
    /// Checkpoint and end.
    Stop,
}

/// Why the server ends.
#[derive(Debug)]
pub(super) enum Exit {
    /// It was told to.
    Signal(i32),
    /// It can't go on.
    Failed(anyhow::Error),
}

/// What the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: ServerConfig,
    pub(super) identity: Identity,
    pub(super) clock: Clock,
    pub(super) raft: Inbox<RaftInput>,
    pub(super) apply: Inbox<ApplyInput>,
    pub(super) pending: Pending,
    pub(super) calls: Calls,
    pub(super) reader: ArcSwap<Reader>,
    pub(super) watches: Arc<Watches>,
    pub(super) lessor: Mutex<Lessor>,
    pub(super) standing: Standing,
    pub(super) sizes: Sizes,
    pub(super) metrics: Arc<Metrics>,
    pub(super) transport: OnceLock<Transport>,
    pub(super) snapshots: Snapshots,
    pub(super) hashes: CompactionHashes,
    /// Where clients find the members that are or were connected.
    pub(super) client_urls: Mutex<BTreeMap<NodeId, Vec<String>>>,
    pub(super) exit: Mutex<mpsc::Sender<Exit>>,
}

impl Shared {
    /// Proposes a command of this server itself; nobody waits for it, or somebody does something short.
    pub(super) fn propose(&self, command: &Command, scope: Scope, waiter: Option<Waiter<Reply>>) {
        let proposal = self.pending.open(command, scope, waiter);
        self.raft.put(RaftInput::Event(NodeEvent::Propose { group: GROUP, proposal }));
    }

    /// Sends to a peer. A message that can't be sent is lost; says whether it was taken.
    pub(super) fn send(&self, to: NodeId, message: PeerMessage) -> bool {
        self.transport.get().is_some_and(|transport| transport.send(to, message).is_ok())
    }

    /// Ends the server.
    pub(super) fn end(&self, exit: Exit) {
        // Nobody listens any more: it ends already.
        let _ = self.exit.lock().send(exit);
    }

    /// The most that the state may hold, in bytes.
    pub(super) fn quota_bytes(&self) -> u64 {
        match self.config.quota_backend_bytes {
            0 => QUOTA_BYTES_DEFAULT,
            bytes => bytes,
        }
    }

    /// How long a request may take (etcd: `ReqTimeout`).
    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.config.election_timeout
    }
}

/// The node's standing as its Raft thread last saw it.
#[derive(Debug)]
pub(super) struct Standing {
    term: AtomicU64,
    leader: AtomicU64,
    leads: AtomicBool,
    commit: AtomicU64,
    applied: AtomicU64,
    leaderless_since: AtomicU64,
    /// The Raft thread wants to hear when more is applied.
    wants_applied: AtomicBool,
}

/// No moment: there is a leader.
const NEVER: u64 = u64::MAX;

impl Standing {
    pub(super) fn new(now: Mono, term: Term, applied: u64) -> Self {
        Self {
            term: AtomicU64::new(term.0),
            leader: AtomicU64::new(0),
            leads: AtomicBool::new(false),
            commit: AtomicU64::new(applied),
            applied: AtomicU64::new(applied),
            leaderless_since: AtomicU64::new(now.0),
            wants_applied: AtomicBool::new(false),
        }
    }

    pub(super) fn term(&self) -> Term {
        Term(self.term.load(Relaxed))
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        Some(NodeId(self.leader.load(Relaxed))).filter(|leader| leader.0 != 0)
    }

    /// The term in which this node leads, if it does.
    pub(super) fn leads(&self) -> Option<Term> {
        self.leads.load(Relaxed).then(|| self.term())
    }

    pub(super) fn commit(&self) -> u64 {
        self.commit.load(Relaxed)
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied.load(SeqCst)
    }

    pub(super) fn leaderless_since(&self) -> Option<Mono> {
        Some(Mono(self.leaderless_since.load(Relaxed))).filter(|since| since.0 != NEVER)
    }

    pub(super) fn set_commit(&self, commit: u64) {
        self.commit.store(commit, Relaxed);
    }

    pub(super) fn set_role(&self, now: Mono, change: &RoleChange) {
        self.term.store(change.term.0, Relaxed);
        self.leader.store(change.leader.map_or(0, |leader| leader.0), Relaxed);
        self.leads.store(change.role == Role::Leader, Relaxed);
        match change.leader {
            Some(_) => self.leaderless_since.store(NEVER, Relaxed),
            None => {
                // An earlier moment stays.
                let _ = self.leaderless_since.compare_exchange(NEVER, now.0, Relaxed, Relaxed);
            }
        }
    }

    /// More is applied; says whether the Raft thread wants to hear of it.
    pub(super) fn set_applied(&self, applied: u64) -> bool {
        self.applied.store(applied, SeqCst);
        self.wants_applied.swap(false, SeqCst)
    }

    /// The Raft thread wants to hear when more than `known` is applied. Says whether that is so already.
    pub(super) fn want_applied(&self, known: u64) -> bool {
        self.wants_applied.store(true, SeqCst);
        self.applied.load(SeqCst) > known
    }
}

/// How large the state is, as the apply thread last saw it, in bytes.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    pub(super) total: AtomicU64,
    pub(super) live: AtomicU64,
}

/// What a client hears of a node's refusal.
pub(super) fn server_error(error: ProposeError) -> ServerError {
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
