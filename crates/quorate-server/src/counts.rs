//! Counts for `/metrics` that no other file takes by the way.

use quorate_etcd::metrics::Metrics;
use quorate_kv::{ApplyOutput, LeaseChange, Reply};
use quorate_proto::mvccpb::event::EventType;

/// Counts what one run of the state machine changed.
pub(crate) fn count_applied(metrics: &Metrics, output: &ApplyOutput) {
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
