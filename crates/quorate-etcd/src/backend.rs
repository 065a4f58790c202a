//! What the front door asks of a server: one trait, implemented by the binary and by the tests' server in memory.
//!
//! The front door translates and checks; the [`Backend`] decides. A write is [`Backend::propose`]d and answered when this
//! member has applied it. A linearizable read waits for [`Backend::read_barrier`] and then looks at [`Backend::reader`];
//! a serializable one looks at once. Watches follow [`Watches`].
//!
//! Left out: membership changes and authentication. They come with their issues.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_kv::{Command, HashKv, ReadError, Reader, Reply, RequestError};
use quorate_proto::{etcdserverpb::Member, inspect::RaftResponse};

use crate::{fair::Permit, open_views::OpenViews, watches::Watches};

/// A running member of a cluster, as its clients' requests see it. Cloning is cheap: clones share one server.
///
/// Every call is made on a runtime thread that serves other clients too: none may block for longer than a read takes.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Who answers; constant for the life of the process.
    fn identity(&self) -> Identity;

    /// A view of the newest state this member has applied.
    fn reader(&self) -> Reader;

    /// The newest Raft term this member knows, for response headers. Cheap: called for every response.
    fn raft_term(&self) -> u64;

    /// Resolves once this member may serve clients: soon after its start, and at once from then on. Every request waits for
    /// it first, but for those that ask the member about itself.
    ///
    /// # Errors
    /// [`ServerError::TooManyRequests`] when too many wait.
    fn ready(&self) -> impl Future<Output = Result<(), ServerError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Replicates `command`, once it is let in, and resolves when this member has applied it. Keeps what `admit` gives until the
    /// proposal is answered, also when nobody waits for the answer any more: that is how long it takes up room. Waiting to be let
    /// in is part of the request's time (etcd: `ReqTimeout`).
    ///
    /// # Errors
    /// [`ServerError::Request`] is a definite refusal, and so is what `admit` refuses with. Of the others, only
    /// [`ServerError::TooManyRequests`], [`ServerError::RequestTooLarge`] and [`ServerError::NoLeader`] promise that the
    /// command was not carried out.
    fn propose(
        &self,
        command: &Command,
        admit: impl Future<Output = Result<Admitted, ServerError>> + Send,
    ) -> impl Future<Output = Result<Reply, ServerError>> + Send;

    /// Resolves once [`Backend::reader`] shows everything that was acknowledged before this call, by any member.
    ///
    /// # Errors
    /// [`ServerError::Timeout`] and its kin, when leadership could not be confirmed in time.
    fn read_barrier(&self) -> impl Future<Output = Result<(), ServerError>> + Send;

    /// The member's state now.
    fn status(&self) -> Status;

    /// The member's view of consensus at one moment, by its core; the front door adds the header. Terms, votes and log are durable
    /// when it resolves. Needs no leader.
    ///
    /// # Errors
    /// [`ServerError::Internal`] when there is no core to look at.
    fn raft(&self) -> impl Future<Output = Result<RaftResponse, ServerError>> + Send;

    /// Hands leadership to the member `to`, and resolves when this member knows it as the leader.
    ///
    /// # Errors
    /// [`ServerError::NotLeader`] unless this member leads; [`ServerError::BadLeaderTransferee`] when `to` is no voter;
    /// [`ServerError::TransferTimeout`] when it did not take over in time.
    fn move_leader(&self, to: u64) -> impl Future<Output = Result<(), ServerError>> + Send;

    /// How long no leader has been known; `None` while there is one. Cheap: asked each second for each stream that
    /// wants a leader.
    fn leaderless_for(&self) -> Option<Duration>;

    /// The cluster's members, as last applied here.
    fn members(&self) -> Vec<Member>;

    /// Starts the time of these leases anew, together, and tells the full time to live of each in seconds; `None` for a
    /// lease that is not there. The leader does it; a follower asks the leader.
    ///
    /// # Errors
    /// [`ServerError::NoLeader`], [`ServerError::Timeout`] and their kin. Some may have been renewed then.
    fn leases_renew(
        &self,
        ids: Vec<i64>,
    ) -> impl Future<Output = Result<Vec<Option<i64>>, ServerError>> + Send;

    /// How long the lease still has, by the leader's clock; `None` for a lease that is not there.
    /// `keys` asks for the keys attached to it as well.
    ///
    /// # Errors
    /// [`ServerError::LeaderChanged`] when leadership moved meanwhile; [`ServerError::Timeout`] and its kin.
    fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> impl Future<Output = Result<Option<LeaseTimeToLive>, ServerError>> + Send;

    /// Where the member publishes every applied revision.
    fn watches(&self) -> &Arc<Watches>;

    /// Where streams that show an old state are noted, so that the member can take them back.
    fn views(&self) -> &Arc<OpenViews>;

    /// The hash that was kept of a compaction at exactly `revision`, if one was.
    fn compaction_hash(&self, revision: i64) -> Option<HashKv>;

    /// Resolves once this member has physically removed what a compaction at `revision` made unreachable.
    ///
    /// # Errors
    /// [`ServerError::Stopped`] when the member stops before.
    fn purged(&self, revision: i64) -> impl Future<Output = Result<(), ServerError>> + Send;

    /// Opens a snapshot of the newest applied state for streaming to a client.
    ///
    /// # Errors
    /// [`ServerError::Internal`] when the state can't be read.
    fn snapshot(&self) -> Result<SnapshotStream, ServerError>;
}

/// A proposal's leave to be on its way. It gives its room back when it is dropped.
#[derive(Debug)]
pub struct Admitted {
    _room: Permit,
    _heavy: Option<Permit>,
}

impl Admitted {
    pub(crate) fn new(room: Permit, heavy: Option<Permit>) -> Self {
        Self { _room: room, _heavy: heavy }
    }
}

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, as clients know it.
    pub cluster_id: u64,
    /// This member, as clients know it.
    pub member_id: u64,
}

/// A member's state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The leader's member id, as far as this member knows one.
    pub leader: Option<u64>,
    /// The newest Raft term seen.
    pub raft_term: u64,
    /// The newest log index known to be committed.
    pub commit_index: u64,
    /// The newest log index applied here.
    pub applied_index: u64,
    /// Whether this member has no vote.
    pub is_learner: bool,
    /// Bytes of all keys and values that are kept, with their history: what the quota counts.
    pub db_size_bytes: u64,
    /// Bytes that the state takes on disk. The free ones among them are used again, and no quota counts them.
    pub file_bytes: u64,
    /// Faults that an operator should know of, in words. Alarms and a missing leader are added by the front door.
    pub errors: Vec<String>,
}

/// What is known of a lease's time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseTimeToLive {
    /// Seconds left, rounded as etcd does; at least 0.
    pub remaining_ttl: i64,
    /// Seconds it was granted.
    pub granted_ttl: i64,
    /// The keys attached to it, in order; empty unless asked for.
    pub keys: Vec<Bytes>,
}

/// A snapshot being read. Its bytes are Quorate's snapshot format, not etcd's database file. Zeros may follow them in what
/// the client saves.
pub struct SnapshotStream {
    /// Bytes that `chunks` will yield in all, so that a client can show progress.
    pub size_bytes: u64,
    /// The snapshot's bytes in order, in chunks. Each is read on a thread that serves other clients too, so they are small:
    /// some 64 KiB.
    pub chunks: Box<dyn Iterator<Item = Result<Bytes, ServerError>> + Send>,
}

impl std::fmt::Debug for SnapshotStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotStream")
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

/// Why a server could not serve a request.
///
/// [`crate::errors`] gives each its gRPC code and etcd's exact text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The request itself was refused, before or while it was applied.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// There is no leader, and waiting for one is pointless now.
    #[error("no leader")]
    NoLeader,
    /// Leadership moved while the request was under way.
    #[error("leader changed")]
    LeaderChanged,
    /// The request's time is up. A write's outcome is unknown.
    #[error("request timed out")]
    Timeout,
    /// As [`ServerError::Timeout`], while a leader was lost.
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutDueToLeaderFail,
    /// A queue is full; nothing was done.
    #[error("too many requests")]
    TooManyRequests,
    /// The member is stopping.
    #[error("server stopped")]
    Stopped,
    /// A transaction would look at more than this many keys while everybody waits; nothing was done.
    #[error("transaction looks at more than {0} keys")]
    TxnTooHeavy(u64),
    /// The encoded request is over the configured size; nothing was done.
    #[error("request is too large")]
    RequestTooLarge,
    /// Only the leader can do this.
    #[error("not leader")]
    NotLeader,
    /// No member that could lead has the id asked for.
    #[error("bad leader transferee")]
    BadLeaderTransferee,
    /// The member asked for did not take over leadership in time.
    #[error("request timed out, leader transfer took too long")]
    TransferTimeout,
    /// A learner serves only serializable reads.
    #[error("not supported for a learner")]
    NotSupportedForLearner,
    /// No member has the id asked for.
    #[error("member not found")]
    MemberNotFound,
    /// A stream is over: the state that it shows kept too much space. Asking anew shows a newer one.
    #[error("the state of this stream kept too much space; ask again")]
    ViewTakenBack,
    /// Not built yet; the text says what.
    #[error("{0}")]
    Unimplemented(&'static str),
    /// The server failed: a bug or its environment. The text is for the operator.
    #[error("{0}")]
    Internal(String),
}

impl From<ReadError> for ServerError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Request(request) => Self::Request(request),
            ReadError::Store(store) => Self::Internal(store.to_string()),
            _ => Self::Internal(error.to_string()),
        }
    }
}
