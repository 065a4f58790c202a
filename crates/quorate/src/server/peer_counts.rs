//! What the transport counts, for `/metrics`.

use std::{collections::BTreeMap, time::Duration};

use quorate_etcd::metrics::Metrics;
use quorate_net::PeerStats;
use quorate_raft::NodeId;

/// Takes over what the transport counts.
#[derive(Debug, Default)]
pub(super) struct PeerCounts {
    /// The round trip of each peer that was noted last.
    round_trips: BTreeMap<NodeId, Duration>,
}

impl PeerCounts {
    /// A round trip is noted once, the first time that it is seen.
    pub(super) fn copy(&mut self, metrics: &Metrics, peers: &[PeerStats]) {
        for stats in peers {
            let peer = metrics.peer(stats.node.0);
            peer.sent_bytes.raise_to(stats.sent_bytes);
            peer.received_bytes.raise_to(stats.received_bytes);
            peer.sent_failures.raise_to(stats.send_failures);
            peer.active.set(stats.active.into());
            let Some(round_trip) = stats.round_trip else { continue };
            if self.round_trips.insert(stats.node, round_trip) != Some(round_trip) {
                peer.round_trip_seconds.observe(round_trip);
            }
        }
    }
}
