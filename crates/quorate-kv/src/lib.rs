//! etcd's key space as a pure, replicated state machine: revisions, transactions, compaction, leases, watches.
