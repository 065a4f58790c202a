//! The flags that set something.

#![allow(clippy::unnecessary_wraps, reason = "all setters have the type of those that can fail")]

use std::path::PathBuf;

use super::{
    super::{
        settings::{CompactionMode, Draft},
        values::{self, Problem},
    },
    Effect, Flag, Kind,
};
use crate::logging::{LogFormat, LogOutput};

type Set = fn(&mut Draft, &str) -> Result<(), Problem>;

const fn text(name: &'static str, default: &'static str, set: Set, help: &'static str) -> Flag {
    Flag { name, default, kind: Kind::Text, effect: Effect::Set(set, help) }
}

/// In the order of `etcd --help`.
pub(super) const FLAGS: &[Flag] = &[
    text(
        "name",
        "'default'",
        name,
        "Human-readable name of this member; a key of --initial-cluster.",
    ),
    text("data-dir", "'${name}.etcd'", data_dir, "The directory that holds everything durable."),
    text(
        "snapshot-count",
        "'10000'",
        snapshot_count,
        "Applied entries that pile up before the log is cut.",
    ),
    text(
        "snapshot-catchup-entries",
        "'5000'",
        snapshot_catchup,
        "Entries kept for followers that lag a little.",
    ),
    text(
        "heartbeat-interval",
        "'100'",
        heartbeat,
        "Milliseconds between a leader's signs of life.",
    ),
    text("election-timeout", "'1000'", election, "Milliseconds without one before an election."),
    text("listen-peer-urls", "'http://localhost:2380'", listen_peer, "Where peers are served."),
    text(
        "listen-client-urls",
        "'http://localhost:2379'",
        listen_client,
        "Where clients are served (gRPC and HTTP).",
    ),
    text("listen-client-http-urls", "''", listen_http, "More addresses to serve clients on."),
    text(
        "listen-metrics-urls",
        "''",
        listen_metrics,
        "More addresses to serve /metrics and /health on; they serve everything.",
    ),
    text(
        "quota-backend-bytes",
        "'0'",
        quota,
        "Live bytes of keys, values and history beyond this raise an alarm; 0 means 2 GiB, below 0 no limit.",
    ),
    text("max-txn-ops", "'128'", max_txn_ops, "The most operations in one transaction."),
    text("max-request-bytes", "'1572864'", max_request, "The largest request."),
    text(
        "initial-advertise-peer-urls",
        "'http://localhost:2380'",
        advertise_peer,
        "Where the other members reach this one.",
    ),
    text(
        "initial-cluster",
        "'default=http://localhost:2380'",
        initial_cluster,
        "Every member: name=URL,name=URL.",
    ),
    text("initial-cluster-state", "'new'", cluster_state, "'new' or 'existing'."),
    text(
        "initial-cluster-token",
        "'etcd-cluster'",
        cluster_token,
        "Keeps clusters with equal addresses apart.",
    ),
    text(
        "advertise-client-urls",
        "'http://localhost:2379'",
        advertise_client,
        "Where clients are told to come.",
    ),
    text("auto-compaction-mode", "'periodic'", compaction_mode, "'periodic' or 'revision'."),
    text(
        "auto-compaction-retention",
        "'0'",
        compaction_retention,
        "What automatic compaction keeps: hours, a duration, or revisions; 0 is off.",
    ),
    Flag {
        name: "watch-progress-notify-interval",
        default: "'10m'",
        kind: Kind::Duration,
        effect: Effect::Set(
            progress_interval,
            "How often an idle watch that asks for it hears how far it is.",
        ),
    },
    Flag {
        name: "experimental-watch-progress-notify-interval",
        default: "'10m'",
        kind: Kind::Duration,
        effect: Effect::Set(progress_interval, "The same, by its name before etcd 3.6."),
    },
    Flag {
        name: "wait-cluster-ready-timeout",
        default: "'5s'",
        kind: Kind::Duration,
        effect: Effect::Set(
            cluster_ready_wait,
            "How long after its start a member that hears of no quorum keeps clients waiting.",
        ),
    },
    Flag {
        name: "experimental-wait-cluster-ready-timeout",
        default: "'5s'",
        kind: Kind::Duration,
        effect: Effect::Set(cluster_ready_wait, "The same, by its name before etcd 3.6."),
    },
    text("logger", "'zap'", logger, "'zap': structured lines."),
    text(
        "log-outputs",
        "'default'",
        log_outputs,
        "'stderr', 'stdout' or files, separated by commas.",
    ),
    text("log-level", "'info'", log_level, "'debug', 'info', 'warn', 'error', 'panic' or 'fatal'."),
    text("log-format", "'json'", log_format, "'json' or 'console'."),
    Flag {
        name: "unsafe-no-fsync",
        default: "'false'",
        kind: Kind::Bool,
        effect: Effect::Set(
            no_fsync,
            "Never wait for the disk: a power cut loses acknowledged writes.",
        ),
    },
    text(
        "client-threads",
        "'0'",
        client_threads,
        "How many threads serve clients; 0: one for each core.",
    ),
    text(
        "flight-recorder-bytes",
        "'4194304'",
        flight_recorder,
        "Memory for what the Raft core was told of late; SIGUSR1 writes it to DATA-DIR/flight. 0: none (Quorate's own flag).",
    ),
    #[cfg(feature = "breakable")]
    text(
        "break",
        "''",
        breaks::promise,
        "A promise to break: 'no-fsync', 'stale-reads' or 'vote-not-persisted'. For judging judges.",
    ),
    #[cfg(feature = "breakable")]
    text(
        "power-cut",
        "'false'",
        breaks::power_cut,
        "What was not synced is lost with the process. For judging judges.",
    ),
    text(
        "reported-version",
        "'3.7.1'",
        reported_version,
        "The version of etcd that clients are told (Quorate's own flag).",
    ),
    text(
        "config-file",
        "''",
        config_file,
        "A YAML or JSON file; flags and variables are ignored then.",
    ),
];

fn name(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    if value.is_empty() {
        return Err("a name is needed".to_owned());
    }
    value.clone_into(&mut draft.name);
    Ok(())
}

fn data_dir(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    value.clone_into(&mut draft.data_dir);
    Ok(())
}

fn snapshot_count(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.snapshot_count = values::number(value)?;
    Ok(())
}

fn snapshot_catchup(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.snapshot_catchup_entries = values::number(value)?;
    Ok(())
}

fn heartbeat(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.heartbeat_ms = values::number(value)?;
    Ok(())
}

fn election(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.election_ms = values::number(value)?;
    Ok(())
}

fn listen_peer(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.listen_peer_urls = values::urls(value)?;
    Ok(())
}

fn listen_client(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.listen_client_urls = values::client_urls(value)?;
    Ok(())
}

fn listen_http(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.listen_client_http_urls = optional_urls(value)?;
    Ok(())
}

fn listen_metrics(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.listen_metrics_urls = optional_urls(value)?;
    Ok(())
}

fn optional_urls(value: &str) -> Result<Vec<String>, Problem> {
    if value.is_empty() { Ok(Vec::new()) } else { values::client_urls(value) }
}

fn quota(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.quota_backend_bytes = values::number(value)?;
    Ok(())
}

fn client_threads(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.client_threads = values::number(value)?;
    Ok(())
}

fn max_txn_ops(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.max_txn_ops = values::number(value)?;
    Ok(())
}

fn max_request(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.max_request_bytes = values::number(value)?;
    Ok(())
}

fn advertise_peer(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.initial_advertise_peer_urls = values::urls(value)?;
    Ok(())
}

fn initial_cluster(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.initial_cluster = values::cluster(value)?;
    Ok(())
}

fn cluster_state(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.existing = match value {
        "new" => false,
        "existing" => true,
        _ => return Err("neither new nor existing".to_owned()),
    };
    Ok(())
}

fn cluster_token(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    value.clone_into(&mut draft.initial_cluster_token);
    Ok(())
}

fn advertise_client(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.advertise_client_urls = values::client_urls(value)?;
    Ok(())
}

fn compaction_mode(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.compaction_mode = match value {
        "periodic" => CompactionMode::Periodic,
        "revision" => CompactionMode::Revision,
        _ => return Err("neither periodic nor revision".to_owned()),
    };
    Ok(())
}

/// What it means depends on the mode, so it is read when both are known.
fn compaction_retention(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    value.clone_into(&mut draft.compaction_retention);
    Ok(())
}

fn progress_interval(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.progress_interval = values::duration(value)?;
    Ok(())
}

fn cluster_ready_wait(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.cluster_ready_wait = values::duration(value)?;
    Ok(())
}

fn logger(_: &mut Draft, value: &str) -> Result<(), Problem> {
    if value == "zap" { Ok(()) } else { Err("only zap is known".to_owned()) }
}

fn log_outputs(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    let output = |text: &str| match text {
        "" => Err("an output is empty".to_owned()),
        // Journald is reached through stderr, which systemd reads.
        "default" | "stderr" | "systemd/journal" => Ok(LogOutput::Stderr),
        "stdout" => Ok(LogOutput::Stdout),
        "/dev/null" => Ok(LogOutput::Nowhere),
        path => Ok(LogOutput::File(PathBuf::from(path))),
    };
    draft.log.outputs = value.split(',').map(str::trim).map(output).collect::<Result<_, _>>()?;
    Ok(())
}

fn log_level(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.log.level = match value {
        "debug" => tracing::Level::DEBUG,
        "info" => tracing::Level::INFO,
        "warn" => tracing::Level::WARN,
        "error" | "dpanic" | "panic" | "fatal" => tracing::Level::ERROR,
        _ => return Err("none of debug, info, warn, error, panic, fatal".to_owned()),
    };
    Ok(())
}

fn log_format(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.log.format = match value {
        "json" => LogFormat::Json,
        "console" => LogFormat::Console,
        _ => return Err("neither json nor console".to_owned()),
    };
    Ok(())
}

fn no_fsync(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.unsafe_no_fsync = values::boolean(value)?;
    Ok(())
}

fn flight_recorder(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    draft.flight_recorder_bytes = values::number(value)?;
    Ok(())
}

fn reported_version(draft: &mut Draft, value: &str) -> Result<(), Problem> {
    let numbers = value.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = numbers.split('.').collect();
    if parts.len() != 3 || parts.iter().any(|part| part.parse::<u32>().is_err()) {
        return Err("not a version such as 3.7.1".to_owned());
    }
    value.clone_into(&mut draft.reported_version);
    Ok(())
}

/// Found before the others are applied; inside a config file it means nothing.
fn config_file(_: &mut Draft, _: &str) -> Result<(), Problem> {
    Ok(())
}

/// Setters that only a build for judging judges has.
#[cfg(feature = "breakable")]
mod breaks {
    use super::{Draft, Problem, values};

    pub(super) fn promise(draft: &mut Draft, value: &str) -> Result<(), Problem> {
        match value {
            "" => {}
            "no-fsync" => draft.breaks.no_fsync = true,
            "stale-reads" => draft.breaks.stale_reads = true,
            "vote-not-persisted" => draft.breaks.vote_not_persisted = true,
            _ => return Err("no such promise".to_owned()),
        }
        Ok(())
    }

    pub(super) fn power_cut(draft: &mut Draft, value: &str) -> Result<(), Problem> {
        draft.breaks.power_cut = values::boolean(value)?;
        Ok(())
    }
}
