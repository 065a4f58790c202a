//! Counters per peer, for metrics.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use quorate_raft::NodeId;

/// What passed between this member and one peer since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStats {
    /// The peer.
    pub node: NodeId,
    /// Both lanes to it stand.
    pub active: bool,
    /// Bytes written to it, with frames and handshakes' headers.
    pub sent_bytes: u64,
    /// Bytes read from it.
    pub received_bytes: u64,
    /// Messages handed to its connections.
    pub sent_messages: u64,
    /// Messages received whole.
    pub received_messages: u64,
    /// Messages that were dropped: no connection, a full queue, or lost with a connection.
    pub send_failures: u64,
    /// Connections made to it.
    pub connects: u64,
    /// The latest round trip on the urgent lane; `None` before the first.
    pub round_trip: Option<Duration>,
}

/// The counters behind [`PeerStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) lanes_open: AtomicUsize,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_messages: AtomicU64,
    pub(crate) received_messages: AtomicU64,
    pub(crate) send_failures: AtomicU64,
    pub(crate) connects: AtomicU64,
    /// Zero: none yet.
    pub(crate) round_trip_ns: AtomicU64,
}

impl Counters {
    /// Adds `more` to one of them.
    pub(crate) fn add(counter: &AtomicU64, more: usize) {
        counter.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Relaxed);
    }

    /// Their values now.
    pub(crate) fn read(&self, node: NodeId) -> PeerStats {
        let round_trip_ns = self.round_trip_ns.load(Relaxed);
        PeerStats {
            node,
            active: self.lanes_open.load(Relaxed) == 2,
            sent_bytes: self.sent_bytes.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            sent_messages: self.sent_messages.load(Relaxed),
            received_messages: self.received_messages.load(Relaxed),
            send_failures: self.send_failures.load(Relaxed),
            connects: self.connects.load(Relaxed),
            round_trip: (round_trip_ns > 0).then(|| Duration::from_nanos(round_trip_ns)),
        }
    }
}
