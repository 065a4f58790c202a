//! The page behind `/metrics`.

use super::{Counter, Metrics, PeerMetrics, process, text::Page};
use crate::{
    backend::{Backend, Status},
    front::Front,
    grpc::method::Method,
};

/// Writes all metrics of the member.
pub(crate) fn render<B: Backend>(front: &Front<B>) -> String {
    let mut page = Page::default();
    let status = front.backend.status();
    server(&mut page, front, &status);
    disk(&mut page, &front.metrics);
    key_space(&mut page, front, &status);
    watches(&mut page, front);
    leases(&mut page, &front.metrics);
    network(&mut page, &front.metrics);
    admission(&mut page, front);
    front.metrics.grpc.write(&mut page);
    process::write(&mut page);
    page.into_text()
}

fn server<B: Backend>(page: &mut Page, front: &Front<B>, status: &Status) {
    let metrics = &front.metrics;
    let identity = front.backend.identity();
    let leads = status.leader == Some(identity.member_id);
    let flag = u8::from;
    page.gauge(
        "etcd_server_has_leader",
        "Whether or not a leader exists. 1 is existence, 0 is not.",
        flag(status.leader.is_some()),
    );
    page.gauge(
        "etcd_server_is_leader",
        "Whether or not this member is a leader. 1 if is, 0 otherwise.",
        flag(leads),
    );
    page.gauge(
        "etcd_server_is_learner",
        "Whether or not this member is a learner. 1 if is, 0 otherwise.",
        flag(status.is_learner),
    );
    page.counter(
        "etcd_server_leader_changes_seen_total",
        "The number of leader changes seen.",
        metrics.leader_changes_seen.get(),
    );
    page.gauge(
        "etcd_server_proposals_committed_total",
        "The total number of consensus proposals committed.",
        status.commit_index,
    );
    page.gauge(
        "etcd_server_proposals_applied_total",
        "The total number of consensus proposals applied.",
        status.applied_index,
    );
    page.gauge(
        "etcd_server_proposals_pending",
        "The current number of pending proposals to commit.",
        metrics.proposals_pending.get(),
    );
    page.counter(
        "etcd_server_proposals_failed_total",
        "The total number of failed proposals seen.",
        metrics.proposals_failed.get(),
    );
    page.counter(
        "etcd_server_read_indexes_failed_total",
        "The total number of failed read indexes seen.",
        metrics.read_indexes_failed.get(),
    );
    page.counter(
        "quorate_commands_refused_total",
        "Entries and proposals of members that not all members can apply.",
        metrics.commands_refused.get(),
    );
    page.counter(
        "quorate_raft_term_jumps_total",
        "Messages of members that claimed a term too far ahead.",
        metrics.term_jumps.get(),
    );
    page.counter(
        "etcd_server_health_success",
        "The total number of successful health checks.",
        metrics.health_successes.get(),
    );
    page.counter(
        "etcd_server_health_failures",
        "The total number of failed health checks.",
        metrics.health_failures.get(),
    );
    page.gauge(
        "etcd_server_quota_backend_bytes",
        "Current backend storage quota size in bytes.",
        front.settings.quota_backend_bytes,
    );
    page.gauge(
        "quorate_breakable",
        "Whether or not this is a build for tests that can break its promises. 1 is, 0 is not.",
        metrics.breakable.get(),
    );
    label(
        page,
        "etcd_server_version",
        "Which version is running. 1 for 'server_version' label with current version.",
        "server_version",
        &front.settings.version,
    );
    label(
        page,
        "etcd_cluster_version",
        "Which version is running. 1 for 'cluster_version' label with current cluster version.",
        "cluster_version",
        &front.settings.minor_version(),
    );
    label(
        page,
        "etcd_server_id",
        "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
        "server_id",
        &format!("{:x}", identity.member_id),
    );
}

fn disk(page: &mut Page, metrics: &Metrics) {
    let name = "etcd_disk_wal_fsync_duration_seconds";
    page.family(name, "The latency distributions of fsync called by WAL.", "histogram").histogram(
        name,
        "",
        &metrics.wal_fsync_seconds,
    );
    page.gauge(
        "etcd_disk_wal_write_bytes_total",
        "Total number of bytes written in WAL.",
        metrics.wal_write_bytes.get(),
    );
    let name = "etcd_disk_backend_commit_duration_seconds";
    page.family(name, "The latency distributions of commit called by backend.", "histogram")
        .histogram(name, "", &metrics.backend_commit_seconds);
}

fn key_space<B: Backend>(page: &mut Page, front: &Front<B>, status: &Status) {
    let metrics = &front.metrics;
    let reader = front.backend.reader();
    let ranges = metrics.grpc.started(Method::Range) + metrics.grpc.started(Method::RangeStream);
    page.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Total size of the keys and values that are stored, their history included, in bytes; what the quota counts.",
        status.db_size_bytes,
    );
    page.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Total size of the underlying database logically in use in bytes.",
        status.db_size_bytes,
    );
    page.gauge(
        "quorate_state_file_bytes",
        "Size of the file that holds the state; no quota counts what is free in it.",
        status.file_bytes,
    );
    page.gauge(
        "quorate_state_views_open",
        "Snapshots and streamed ranges of clients, each of which keeps an old state.",
        front.backend.views().len(),
    );
    page.counter(
        "quorate_state_views_taken_back_total",
        "Snapshots and streamed ranges of clients that were ended for the space they kept.",
        metrics.views_taken_back.get(),
    );
    page.counter(
        "etcd_mvcc_put_total",
        "Total number of puts seen by this member.",
        metrics.puts.get(),
    );
    page.counter(
        "etcd_mvcc_delete_total",
        "Total number of deletes seen by this member.",
        metrics.deletes.get(),
    );
    page.counter(
        "etcd_mvcc_txn_total",
        "Total number of txns seen by this member.",
        metrics.txns.get(),
    );
    page.counter("etcd_mvcc_range_total", "Total number of ranges seen by this member.", ranges);
    page.gauge(
        "etcd_debugging_mvcc_current_revision",
        "The current revision of store.",
        reader.revision(),
    );
    page.gauge(
        "etcd_debugging_mvcc_compact_revision",
        "The revision of the last compaction in store.",
        reader.compact_revision(),
    );
}

fn watches<B: Backend>(page: &mut Page, front: &Front<B>) {
    let stats = front.backend.watches().stats();
    page.gauge(
        "etcd_debugging_mvcc_watch_stream_total",
        "Total number of watch streams.",
        stats.streams,
    );
    page.gauge("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", stats.watchers);
}

fn leases(page: &mut Page, metrics: &Metrics) {
    page.counter(
        "etcd_debugging_lease_granted_total",
        "The total number of granted leases.",
        metrics.leases_granted.get(),
    );
    page.counter(
        "etcd_debugging_lease_revoked_total",
        "The total number of revoked leases.",
        metrics.leases_revoked.get(),
    );
    page.counter(
        "etcd_debugging_lease_renewed_total",
        "The number of renewed leases seen by the leader.",
        metrics.leases_renewed.get(),
    );
    page.counter(
        "etcd_debugging_server_lease_expired_total",
        "The total number of expired leases.",
        metrics.leases_expired.get(),
    );
}

fn network(page: &mut Page, metrics: &Metrics) {
    page.counter(
        "etcd_network_client_grpc_received_bytes_total",
        "The total number of bytes received from clients.",
        metrics.client_received_bytes.get(),
    );
    page.counter(
        "etcd_network_client_grpc_sent_bytes_total",
        "The total number of bytes sent to clients.",
        metrics.client_sent_bytes.get(),
    );
    page.gauge(
        "quorate_client_connections",
        "Open connections of clients.",
        metrics.connections.get(),
    );
    let peers = metrics.peers();
    if peers.is_empty() {
        return;
    }
    let counters: [(&str, &str, &str, PeerCount); 3] = [
        ("peer_sent_bytes_total", "The total number of bytes sent to peers.", "To", |peer| {
            &peer.sent_bytes
        }),
        (
            "peer_received_bytes_total",
            "The total number of bytes received from peers.",
            "From",
            |peer| &peer.received_bytes,
        ),
        ("peer_sent_failures_total", "The total number of send failures to peers.", "To", |peer| {
            &peer.sent_failures
        }),
    ];
    for (what, help, label, count) in counters {
        let name = format!("etcd_network_{what}");
        page.family(&name, help, "counter");
        for (id, peer) in &peers {
            page.sample(&name, &format!("{label}=\"{id:x}\""), count(peer).get());
        }
    }
    let name = "etcd_network_active_peers";
    page.family(name, "The current number of active peer connections.", "gauge");
    for (id, peer) in &peers {
        page.sample(name, &format!("Remote=\"{id:x}\""), peer.active.get());
    }
    let name = "etcd_network_peer_round_trip_time_seconds";
    page.family(name, "Round-Trip-Time histogram between peers.", "histogram");
    for (id, peer) in &peers {
        page.histogram(name, &format!("To=\"{id:x}\""), &peer.round_trip_seconds);
    }
}

/// What clients take of each limit, and who waits for it.
fn admission<B: Backend>(page: &mut Page, front: &Front<B>) {
    let loads = front.loads();
    let name = "quorate_admitted";
    page.family(name, "What clients take of each limit now.", "gauge");
    for (limit, load) in &loads {
        page.sample(name, &format!("limit=\"{limit}\""), load.used);
    }
    let name = "quorate_admission_waiting";
    page.family(name, "Requests that wait at each limit.", "gauge");
    for (limit, load) in &loads {
        page.sample(name, &format!("limit=\"{limit}\""), load.waiting);
    }
}

/// Picks one of a peer's counts.
type PeerCount = fn(&PeerMetrics) -> &Counter;

/// A gauge of 1 that says something in its label.
fn label(page: &mut Page, name: &str, help: &str, label: &str, value: &str) {
    page.family(name, help, "gauge").sample(name, &format!("{label}=\"{value}\""), 1);
}
