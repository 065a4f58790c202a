//! What goes into the store and what comes out of it.

use std::sync::Arc;

use quorate_proto::{etcdserverpb as pb, mvccpb};

use crate::RequestError;

/// How far the log has been applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Applied {
    /// Index of the last applied entry; 0 before the first.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// A committed entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed<'a> {
    /// Its index: one more than that of the entry applied before it.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// An encoded [`Command`](crate::Command); `None` for an entry that is none of the key space's business and only
    /// moves [`Applied`].
    pub command: Option<&'a [u8]>,
}

/// The answer to a [`Command`](crate::Command). Headers hold only `revision`; the front door fills in ids and term.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To a put.
    Put(pb::PutResponse),
    /// To a delete.
    DeleteRange(pb::DeleteRangeResponse),
    /// To a transaction.
    Txn(pb::TxnResponse),
    /// To a compaction.
    Compaction(pb::CompactionResponse),
    /// To a lease grant.
    LeaseGrant(pb::LeaseGrantResponse),
    /// To a lease revoke.
    LeaseRevoke(pb::LeaseRevokeResponse),
    /// To a lease checkpoint.
    LeaseCheckpoint(pb::LeaseCheckpointResponse),
    /// To an alarm request.
    Alarm(pb::AlarmResponse),
    /// To what is known of data directories.
    MemberDirectories,
}

/// All changes of one main revision, in the order in which they were made.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionEvents {
    /// The main revision.
    pub revision: i64,
    /// Its events: at least one, and at most one a key. `prev_kv` is not filled. A DELETE's `kv` has only `key` and
    /// `mod_revision` (etcd point 5).
    pub events: Vec<mvccpb::Event>,
}

/// A change of a lease that keepers of time must hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// The lease exists from now on.
    Granted {
        /// Which lease.
        id: i64,
        /// Its time to live in seconds, as granted.
        ttl: i64,
    },
    /// The lease and its keys are gone.
    Revoked {
        /// Which lease.
        id: i64,
    },
    /// How much of the lease's time is left, for a leader that takes over.
    Checkpointed {
        /// Which lease.
        id: i64,
        /// Seconds; 0 means the whole time to live.
        remaining_ttl: i64,
    },
}

/// A lease as it is replicated: time itself is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Granted time to live in seconds.
    pub ttl: i64,
    /// Seconds left at the last checkpoint; 0 means the whole time to live.
    pub remaining_ttl: i64,
}

/// What applying a run of entries did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApplyOutput {
    /// One for each entry of the run with a command, in order.
    pub replies: Vec<Result<Reply, RequestError>>,
    /// The new revisions, ascending and without a gap.
    pub revisions: Vec<Arc<RevisionEvents>>,
    /// The lease changes, in order.
    pub leases: Vec<LeaseChange>,
    /// The compacted revision, when it moved in this run.
    pub compacted: Option<i64>,
    /// Whether more is agreed on about members' data directories.
    pub members_changed: bool,
}

/// A hash over the history of the key space, comparable among members and with etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC32C.
    pub hash: u32,
    /// The compacted revision when it was taken; -1 when nothing was ever compacted.
    pub compact_revision: i64,
    /// The revision up to which it counts.
    pub hash_revision: i64,
}
