//! etcd's flags that have no effect here, each with the reason.

use super::{Effect, Flag, Kind};

const OTHER_STORAGE: &str = "the storage is another one and has no such knob";
const ONE_DIRECTORY: &str = "the log lies inside of --data-dir";
const V2: &str = "etcd's version 2 API and store do not exist here";
const FIXED_LIMIT: &str = "connections have fixed limits in this version";
const NO_GATEWAY: &str = "there is no JSON gateway in this version";
const ALWAYS_ON: &str = "it is always on";
const STATIC_MEMBERS: &str = "membership is fixed when a cluster is made, in this version";
const NO_DISCOVERY: &str = "members are named by --initial-cluster only";
const NO_TLS: &str = "TLS is not available in this version";
const NO_AUTH: &str = "users and roles are not available in this version";
const NO_GO: &str = "there is no Go runtime to profile";
const ONE_LEVEL: &str = "metrics have one level of detail";
const NO_ROTATION: &str =
    "log files are rotated from outside, by copying and cutting them (copytruncate)";
const NO_SLOW_LOG: &str = "slow requests are counted in /metrics and not logged";
const NO_TRACING: &str = "distributed tracing is not available in this version";
const CHECKSUMS: &str = "every block read is checked, and HashKV compares members on demand";
const NO_DOWNGRADE: &str = "there is no earlier version to go back to";
const NO_GATES: &str = "there are no feature gates";
const NO_FORCE: &str = "recovering a cluster from one member is not available in this version";
const OLD_NAME: &str = "etcd 3.6 removed this name";

const fn ignored(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    reason: &'static str,
) -> Flag {
    Flag { name, default, kind, effect: Effect::Ignored(reason) }
}

const fn refused(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    harmless: &'static [&'static str],
    reason: &'static str,
) -> Flag {
    Flag { name, default, kind, effect: Effect::Refused(harmless, reason) }
}

/// By subject.
pub(super) const FLAGS: &[Flag] = &[
    // Storage: another log and another engine, without these knobs.
    refused("wal-dir", Kind::Text, "''", &[""], ONE_DIRECTORY),
    ignored("max-snapshots", Kind::Text, "'5'", OTHER_STORAGE),
    ignored("max-wals", Kind::Text, "'5'", OTHER_STORAGE),
    ignored("memory-mlock", Kind::Bool, "'false'", OTHER_STORAGE),
    ignored("backend-bbolt-freelist-type", Kind::Text, "'map'", OTHER_STORAGE),
    ignored("backend-batch-interval", Kind::Duration, "''", OTHER_STORAGE),
    ignored("backend-batch-limit", Kind::Text, "'0'", OTHER_STORAGE),
    ignored("bootstrap-defrag-threshold-megabytes", Kind::Text, "'0'", OTHER_STORAGE),
    ignored("compaction-batch-limit", Kind::Text, "'1000'", OTHER_STORAGE),
    ignored("compaction-sleep-interval", Kind::Duration, "'10ms'", OTHER_STORAGE),
    ignored("v2-deprecation", Kind::Text, "'write-only'", V2),
    ignored("enable-v2", Kind::Bool, "'false'", V2),
    // Connections.
    ignored("max-concurrent-streams", Kind::Text, "'4294967295'", FIXED_LIMIT),
    ignored("grpc-keepalive-min-time", Kind::Duration, "'5s'", FIXED_LIMIT),
    ignored("grpc-keepalive-interval", Kind::Duration, "'2h'", FIXED_LIMIT),
    ignored("grpc-keepalive-timeout", Kind::Duration, "'20s'", FIXED_LIMIT),
    ignored("socket-reuse-port", Kind::Bool, "'false'", FIXED_LIMIT),
    ignored("socket-reuse-address", Kind::Bool, "'false'", FIXED_LIMIT),
    ignored("raft-read-timeout", Kind::Duration, "'5s'", FIXED_LIMIT),
    ignored("raft-write-timeout", Kind::Duration, "'5s'", FIXED_LIMIT),
    ignored("enable-grpc-gateway", Kind::Bool, "'true'", NO_GATEWAY),
    ignored("cors", Kind::Text, "'*'", NO_GATEWAY),
    ignored("host-whitelist", Kind::Text, "'*'", NO_GATEWAY),
    // Raft: what etcd lets one switch off is always on.
    ignored("initial-election-tick-advance", Kind::Bool, "'true'", ALWAYS_ON),
    ignored("pre-vote", Kind::Bool, "'true'", ALWAYS_ON),
    ignored("strict-reconfig-check", Kind::Bool, "'true'", STATIC_MEMBERS),
    ignored("max-learners", Kind::Text, "'1'", STATIC_MEMBERS),
    // Bootstrap by discovery.
    refused("discovery", Kind::Text, "''", &[""], NO_DISCOVERY),
    refused("discovery-endpoints", Kind::Text, "''", &[""], NO_DISCOVERY),
    refused("discovery-srv", Kind::Text, "''", &[""], NO_DISCOVERY),
    ignored("discovery-token", Kind::Text, "''", NO_DISCOVERY),
    ignored("discovery-dial-timeout", Kind::Duration, "''", NO_DISCOVERY),
    ignored("discovery-request-timeout", Kind::Duration, "''", NO_DISCOVERY),
    ignored("discovery-keepalive-time", Kind::Duration, "''", NO_DISCOVERY),
    ignored("discovery-keepalive-timeout", Kind::Duration, "''", NO_DISCOVERY),
    ignored("discovery-insecure-transport", Kind::Bool, "''", NO_DISCOVERY),
    ignored("discovery-insecure-skip-tls-verify", Kind::Bool, "''", NO_DISCOVERY),
    ignored("discovery-cert", Kind::Text, "''", NO_DISCOVERY),
    ignored("discovery-key", Kind::Text, "''", NO_DISCOVERY),
    ignored("discovery-cacert", Kind::Text, "''", NO_DISCOVERY),
    ignored("discovery-user", Kind::Text, "''", NO_DISCOVERY),
    ignored("discovery-password", Kind::Text, "''", NO_DISCOVERY),
    ignored("discovery-fallback", Kind::Text, "''", NO_DISCOVERY),
    ignored("discovery-proxy", Kind::Text, "''", NO_DISCOVERY),
    ignored("discovery-srv-name", Kind::Text, "''", NO_DISCOVERY),
    // Security: never dropped in silence.
    refused("cert-file", Kind::Text, "''", &[""], NO_TLS),
    refused("key-file", Kind::Text, "''", &[""], NO_TLS),
    refused("client-cert-auth", Kind::Bool, "'false'", &["false"], NO_TLS),
    refused("client-cert-file", Kind::Text, "''", &[""], NO_TLS),
    refused("client-key-file", Kind::Text, "''", &[""], NO_TLS),
    refused("trusted-ca-file", Kind::Text, "''", &[""], NO_TLS),
    refused("auto-tls", Kind::Bool, "'false'", &["false"], NO_TLS),
    refused("peer-cert-file", Kind::Text, "''", &[""], NO_TLS),
    refused("peer-key-file", Kind::Text, "''", &[""], NO_TLS),
    refused("peer-client-cert-auth", Kind::Bool, "'false'", &["false"], NO_TLS),
    refused("peer-client-cert-file", Kind::Text, "''", &[""], NO_TLS),
    refused("peer-client-key-file", Kind::Text, "''", &[""], NO_TLS),
    refused("peer-trusted-ca-file", Kind::Text, "''", &[""], NO_TLS),
    refused("peer-auto-tls", Kind::Bool, "'false'", &["false"], NO_TLS),
    refused("client-crl-file", Kind::Text, "''", &[""], NO_TLS),
    refused("peer-crl-file", Kind::Text, "''", &[""], NO_TLS),
    refused("client-cert-allowed-hostname", Kind::Text, "''", &[""], NO_TLS),
    refused("peer-cert-allowed-cn", Kind::Text, "''", &[""], NO_TLS),
    refused("peer-cert-allowed-hostname", Kind::Text, "''", &[""], NO_TLS),
    ignored("peer-skip-client-san-verification", Kind::Bool, "''", NO_TLS),
    ignored("self-signed-cert-validity", Kind::Text, "''", NO_TLS),
    ignored("cipher-suites", Kind::Text, "''", NO_TLS),
    ignored("tls-min-version", Kind::Text, "''", NO_TLS),
    ignored("tls-max-version", Kind::Text, "''", NO_TLS),
    ignored("auth-token", Kind::Text, "'simple'", NO_AUTH),
    ignored("bcrypt-cost", Kind::Text, "'10'", NO_AUTH),
    ignored("auth-token-ttl", Kind::Text, "'300'", NO_AUTH),
    // Watching the server.
    ignored("enable-pprof", Kind::Bool, "'false'", NO_GO),
    ignored("metrics", Kind::Text, "'basic'", ONE_LEVEL),
    ignored("enable-log-rotation", Kind::Bool, "'false'", NO_ROTATION),
    ignored("log-rotation-config-json", Kind::Text, "''", NO_ROTATION),
    ignored("warning-unary-request-duration", Kind::Duration, "'300ms'", NO_SLOW_LOG),
    ignored("warning-apply-duration", Kind::Duration, "'100ms'", NO_SLOW_LOG),
    ignored("enable-distributed-tracing", Kind::Bool, "'false'", NO_TRACING),
    ignored("distributed-tracing-address", Kind::Text, "'localhost:4317'", NO_TRACING),
    ignored("distributed-tracing-service-name", Kind::Text, "'etcd'", NO_TRACING),
    ignored("distributed-tracing-instance-id", Kind::Text, "''", NO_TRACING),
    ignored("distributed-tracing-sampling-rate", Kind::Text, "'0'", NO_TRACING),
    ignored("corrupt-check-time", Kind::Duration, "'0s'", CHECKSUMS),
    ignored("compact-hash-check-time", Kind::Duration, "'1m'", CHECKSUMS),
    ignored("downgrade-check-time", Kind::Duration, "'5s'", NO_DOWNGRADE),
    ignored("feature-gates", Kind::Text, "''", NO_GATES),
    refused("force-new-cluster", Kind::Bool, "'false'", &["false"], NO_FORCE),
    // Names from before etcd 3.6, which older start scripts still pass.
    ignored("experimental-initial-corrupt-check", Kind::Bool, "''", OLD_NAME),
    ignored("experimental-corrupt-check-time", Kind::Duration, "''", OLD_NAME),
    ignored("experimental-compact-hash-check-enabled", Kind::Bool, "''", OLD_NAME),
    ignored("experimental-compact-hash-check-time", Kind::Duration, "''", OLD_NAME),
    ignored("experimental-compaction-batch-limit", Kind::Text, "''", OLD_NAME),
    ignored("experimental-compaction-sleep-interval", Kind::Duration, "''", OLD_NAME),
    ignored("experimental-enable-lease-checkpoint", Kind::Bool, "''", OLD_NAME),
    ignored("experimental-enable-lease-checkpoint-persist", Kind::Bool, "''", OLD_NAME),
    ignored("experimental-peer-skip-client-san-verification", Kind::Bool, "''", OLD_NAME),
    ignored("experimental-warning-apply-duration", Kind::Duration, "''", OLD_NAME),
    ignored("experimental-warning-unary-request-duration", Kind::Duration, "''", OLD_NAME),
    ignored("experimental-bootstrap-defrag-threshold-megabytes", Kind::Text, "''", OLD_NAME),
    ignored("experimental-max-learners", Kind::Text, "''", OLD_NAME),
    ignored("experimental-snapshot-catchup-entries", Kind::Text, "''", OLD_NAME),
    ignored("experimental-memory-mlock", Kind::Bool, "''", OLD_NAME),
    ignored("experimental-txn-mode-write-with-shared-buffer", Kind::Bool, "''", OLD_NAME),
    ignored("experimental-stop-grpc-service-on-defrag", Kind::Bool, "''", OLD_NAME),
    ignored("experimental-downgrade-check-time", Kind::Duration, "''", OLD_NAME),
    ignored("experimental-enable-distributed-tracing", Kind::Bool, "''", OLD_NAME),
    ignored("experimental-distributed-tracing-address", Kind::Text, "''", OLD_NAME),
    ignored("experimental-distributed-tracing-service-name", Kind::Text, "''", OLD_NAME),
    ignored("experimental-distributed-tracing-instance-id", Kind::Text, "''", OLD_NAME),
    ignored("experimental-distributed-tracing-sampling-rate", Kind::Text, "''", OLD_NAME),
];
