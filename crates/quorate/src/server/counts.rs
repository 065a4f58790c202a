//! Counts for `/metrics` that no other file takes by the way.

use std::{collections::BTreeMap, time::Duration};

use quorate_etcd::metrics::Metrics;
use quorate_kv::{ApplyOutput, LeaseChange, Reply};
use quorate_net::PeerStats;
use quorate_proto::mvccpb::event::EventType;
use quorate_raft::NodeId;

/// Counts what one run of the state machine changed.
pub(super) fn count_applied(metrics: &Metrics, output: &ApplyOutput) {
    let is_txn = |reply: &&Result<Reply, _>| matches!(reply, Ok(Reply::Txn(_)));
    metrics.txns.add(output.replies.iter().filter(is_txn).count() as u64);
    let events = output.revisions.iter().flat_map(|revision| &revision.events);
    for event in events {
        let is_delete = event.r#type == i32::from(EventType::Delete);
        if is_delete { metrics.deletes.increment() } else { metrics.puts.increment() }
    }
    for change in &output.leases {
        match change {
            LeaseChange::Granted { .. } => metrics.leases_granted.increment(),
            LeaseChange::Revoked { .. } => metrics.leases_revoked.increment(),
            LeaseChange::Checkpointed { .. } => {}
        }
    }
}

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
