//! What a member counts, under the names that etcd's dashboards and alerts ask for.
//!
//! The server feeds a [`Metrics`]; the front door feeds its own part and adds, when it is asked, what it can see by
//! itself: the state of the member, the store's sizes, the watches. A metric stands here only if something feeds it: a
//! dashboard with a gap says more than one with a zero that is not true.
//!
//! The text is Prometheus' plain format, not `OpenMetrics`: there a counter's family loses its `_total`, and etcd's own
//! suite looks families up by the name with it.
//!
//! Left out: Go's runtime metrics, and `grpc_server_handling_seconds`, which etcd has only with `--metrics=extensive`.
//!
//! Sources: etcd `server/etcdserver/metrics.go`, `server/storage/{wal,backend,mvcc}/metrics.go`,
//! `server/etcdserver/api/rafthttp/metrics.go`; Prometheus' exposition formats.

mod grpc;
mod process;
mod report;
mod text;
mod value;

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

pub use self::value::{Counter, Gauge, Histogram};
pub(crate) use self::{grpc::GrpcMetrics, report::render};

/// The counters of one member. All parts may be fed from any thread, without a lock.
#[derive(Debug)]
pub struct Metrics {
    /// Whether this is a build that can break its promises, for tests: 1 or 0.
    pub breakable: Gauge,
    /// Changes of leadership seen since the start, the first election included.
    pub leader_changes_seen: Counter,
    /// Proposals that wait for their answer.
    pub proposals_pending: Gauge,
    /// Proposals that failed.
    pub proposals_failed: Counter,
    /// Linearizable reads whose leader check failed.
    pub read_indexes_failed: Counter,
    /// Entries and proposals of members that can't be applied by all.
    pub commands_refused: Counter,
    /// Messages that claimed a term too far ahead.
    pub term_jumps: Counter,
    /// Seconds that each sync of the log took.
    pub wal_fsync_seconds: Histogram,
    /// Bytes written to the log.
    pub wal_write_bytes: Counter,
    /// Seconds that each commit of the state took.
    pub backend_commit_seconds: Histogram,
    /// Puts applied, inside transactions too.
    pub puts: Counter,
    /// Deletes applied, inside transactions too.
    pub deletes: Counter,
    /// Transactions applied.
    pub txns: Counter,
    /// Streams whose state was taken back for its space.
    pub views_taken_back: Counter,
    /// Leases granted.
    pub leases_granted: Counter,
    /// Leases revoked, expired ones included.
    pub leases_revoked: Counter,
    /// Leases that ran out.
    pub leases_expired: Counter,
    /// Leases renewed.
    pub leases_renewed: Counter,
    peers: Mutex<BTreeMap<u64, Arc<PeerMetrics>>>,
    pub(crate) health_successes: Counter,
    pub(crate) health_failures: Counter,
    pub(crate) client_received_bytes: Counter,
    pub(crate) client_sent_bytes: Counter,
    pub(crate) connections: Gauge,
    pub(crate) grpc: GrpcMetrics,
}

/// What is counted of the traffic with one peer.
#[derive(Debug)]
pub struct PeerMetrics {
    /// Bytes sent to it.
    pub sent_bytes: Counter,
    /// Bytes received from it.
    pub received_bytes: Counter,
    /// Messages to it that were dropped.
    pub sent_failures: Counter,
    /// Whether a connection to it stands: 1 or 0.
    pub active: Gauge,
    /// Seconds from a message to its answer.
    pub round_trip_seconds: Histogram,
}

impl Metrics {
    /// The counters of `peer`, made at the first call.
    pub fn peer(&self, peer: u64) -> Arc<PeerMetrics> {
        Arc::clone(self.peers.lock().entry(peer).or_default())
    }

    fn peers(&self) -> Vec<(u64, Arc<PeerMetrics>)> {
        self.peers.lock().iter().map(|(id, peer)| (*id, Arc::clone(peer))).collect()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            breakable: Gauge::default(),
            leader_changes_seen: Counter::default(),
            proposals_pending: Gauge::default(),
            proposals_failed: Counter::default(),
            read_indexes_failed: Counter::default(),
            commands_refused: Counter::default(),
            term_jumps: Counter::default(),
            wal_fsync_seconds: Histogram::doubling(0.001, 14),
            wal_write_bytes: Counter::default(),
            backend_commit_seconds: Histogram::doubling(0.001, 14),
            puts: Counter::default(),
            deletes: Counter::default(),
            txns: Counter::default(),
            views_taken_back: Counter::default(),
            leases_granted: Counter::default(),
            leases_revoked: Counter::default(),
            leases_expired: Counter::default(),
            leases_renewed: Counter::default(),
            peers: Mutex::default(),
            health_successes: Counter::default(),
            health_failures: Counter::default(),
            client_received_bytes: Counter::default(),
            client_sent_bytes: Counter::default(),
            connections: Gauge::default(),
            grpc: GrpcMetrics::default(),
        }
    }
}

impl Default for PeerMetrics {
    fn default() -> Self {
        Self {
            sent_bytes: Counter::default(),
            received_bytes: Counter::default(),
            sent_failures: Counter::default(),
            active: Gauge::default(),
            round_trip_seconds: Histogram::doubling(0.0001, 16),
        }
    }
}
