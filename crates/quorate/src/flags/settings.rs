//! Settings while they are collected, and the checks that look at several of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use quorate_etcd::Limits;
use quorate_net::Limits as PeerLimits;
use quorate_server::{AutoCompaction, ServerConfig};

use super::{Settings, values};
use crate::logging::LogConfig;

/// The longest election timeout, in milliseconds (etcd's limit).
const ELECTION_MS_MAX: u64 = 50_000;
/// An election waits for at least this many signs of life (etcd's limit).
const HEARTBEATS_PER_ELECTION_MIN: u64 = 5;
/// Watches are told of their progress no more often than this (etcd's limit).
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What a frame holds beside one request: the envelope of the command, the entry's head, the message's fields. Far below this.
const FRAME_OVERHEAD_BYTES: usize = 64 << 10;

/// What was given so far; everything else stands at its default.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) given: BTreeSet<&'static str>,
    pub(super) warnings: Vec<String>,
    pub(super) name: String,
    pub(super) data_dir: String,
    pub(super) listen_client_urls: Vec<String>,
    pub(super) listen_client_http_urls: Vec<String>,
    pub(super) listen_metrics_urls: Vec<String>,
    pub(super) advertise_client_urls: Vec<String>,
    pub(super) listen_peer_urls: Vec<String>,
    pub(super) initial_advertise_peer_urls: Vec<String>,
    pub(super) initial_cluster: BTreeMap<String, Vec<String>>,
    pub(super) initial_cluster_token: String,
    /// Whether the cluster is said to exist already.
    pub(super) existing: bool,
    pub(super) heartbeat_ms: u64,
    pub(super) election_ms: u64,
    pub(super) snapshot_count: u64,
    pub(super) snapshot_catchup_entries: u64,
    pub(super) quota_backend_bytes: i64,
    pub(super) max_request_bytes: u32,
    pub(super) max_txn_ops: usize,
    pub(super) client_threads: usize,
    pub(super) compaction_mode: CompactionMode,
    pub(super) compaction_retention: String,
    pub(super) progress_interval: Duration,
    pub(super) cluster_ready_wait: Duration,
    pub(super) reported_version: String,
    pub(super) flight_recorder_bytes: usize,
    pub(super) unsafe_no_fsync: bool,
    #[cfg(feature = "breakable")]
    pub(super) breaks: quorate_server::Breaks,
    pub(super) log: LogConfig,
}

/// What `--auto-compaction-retention` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompactionMode {
    Periodic,
    Revision,
}

impl Default for Draft {
    fn default() -> Self {
        let server = ServerConfig::default();
        let url = |port| vec![format!("http://localhost:{port}")];
        Self {
            given: BTreeSet::new(),
            warnings: Vec::new(),
            name: server.name,
            data_dir: String::new(),
            listen_client_urls: url(2379),
            listen_client_http_urls: Vec::new(),
            listen_metrics_urls: Vec::new(),
            advertise_client_urls: url(2379),
            listen_peer_urls: url(2380),
            initial_advertise_peer_urls: url(2380),
            initial_cluster: BTreeMap::new(),
            initial_cluster_token: server.initial_cluster_token,
            existing: false,
            heartbeat_ms: 100,
            election_ms: 1000,
            snapshot_count: server.snapshot_count,
            snapshot_catchup_entries: server.snapshot_catchup_entries,
            quota_backend_bytes: 0,
            max_request_bytes: server.max_request_bytes,
            max_txn_ops: server.max_txn_ops,
            client_threads: server.client_threads,
            compaction_mode: CompactionMode::Periodic,
            compaction_retention: "0".to_owned(),
            cluster_ready_wait: server.cluster_ready_wait,
            progress_interval: server.watch_progress_notify_interval,
            reported_version: server.reported_version,
            flight_recorder_bytes: server.flight_recorder_bytes,
            unsafe_no_fsync: false,
            #[cfg(feature = "breakable")]
            breaks: quorate_server::Breaks::default(),
            log: LogConfig::default(),
        }
    }
}

impl Draft {
    /// Checks what concerns several settings at once, and gives the whole.
    ///
    /// # Errors
    /// A text that names the flags and their values.
    pub(super) fn finish(self) -> Result<Settings, String> {
        self.check_times()?;
        self.check_sizes()?;
        if self.given.contains("listen-client-urls")
            && !self.given.contains("advertise-client-urls")
        {
            return Err(
                "--advertise-client-urls is required when --listen-client-urls is set".to_owned()
            );
        }
        let data_dir = self.data_dir();
        self.check_existing(&data_dir)?;
        let auto_compaction = self.auto_compaction()?;
        let initial_cluster = self.cluster(data_dir.join("identity").exists())?;
        let listen_client = [
            ("--listen-client-urls", &self.listen_client_urls),
            ("--listen-client-http-urls", &self.listen_client_http_urls),
            ("--listen-metrics-urls", &self.listen_metrics_urls),
        ];
        let listen_client = listen_client
            .map(|(flag, urls)| addresses(flag, urls, values::client_address))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?
            .concat();
        let server = ServerConfig {
            data_dir,
            listen_client,
            advertise_client_urls: self.advertise_client_urls,
            listen_peer: addresses(
                "--listen-peer-urls",
                &self.listen_peer_urls,
                values::listen_address,
            )?,
            initial_cluster,
            initial_cluster_token: self.initial_cluster_token,
            heartbeat_interval: Duration::from_millis(self.heartbeat_ms),
            election_timeout: Duration::from_millis(self.election_ms),
            snapshot_count: self.snapshot_count,
            snapshot_catchup_entries: self.snapshot_catchup_entries,
            // A negative quota switches the limit off, as in etcd.
            quota_backend_bytes: u64::try_from(self.quota_backend_bytes).unwrap_or(u64::MAX),
            max_request_bytes: self.max_request_bytes,
            max_txn_ops: self.max_txn_ops,
            client_threads: self.client_threads,
            limits: Limits::default(),
            auto_compaction,
            cluster_ready_wait: self.cluster_ready_wait,
            lease_checkpoint_interval: ServerConfig::default().lease_checkpoint_interval,
            watch_progress_notify_interval: self.progress_interval,
            reported_version: self.reported_version,
            wal_segment_bytes: None,
            apply_bytes_max: None,
            lower_limits: None,
            flight_recorder_bytes: self.flight_recorder_bytes,
            unsafe_no_fsync: self.unsafe_no_fsync,
            #[cfg(feature = "breakable")]
            breaks: self.breaks,
            name: self.name,
        };
        Ok(Settings { server, log: self.log, warnings: self.warnings })
    }

    fn check_times(&self) -> Result<(), String> {
        let (heartbeat, election) = (self.heartbeat_ms, self.election_ms);
        if heartbeat == 0 {
            return Err(format!("--heartbeat-interval must be >0 (set to {heartbeat}ms)"));
        }
        if election < heartbeat.saturating_mul(HEARTBEATS_PER_ELECTION_MIN) {
            return Err(format!(
                "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
            ));
        }
        if election > ELECTION_MS_MAX {
            return Err(format!(
                "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
            ));
        }
        if self.progress_interval < PROGRESS_INTERVAL_MIN {
            return Err(format!(
                "--watch-progress-notify-interval[{:?}] should be at least {PROGRESS_INTERVAL_MIN:?}",
                self.progress_interval
            ));
        }
        Ok(())
    }

    /// What a client may send must fit into one frame between members: a larger entry would reach nobody, and nothing behind it
    /// either. All members have the same limit for frames, whatever their flags say.
    fn check_sizes(&self) -> Result<(), String> {
        let (request, largest) = (self.max_request_bytes as usize, request_bytes_max());
        if request > largest {
            return Err(format!(
                "--max-request-bytes[{request}] should be at most {largest}: members send each other no more than {} bytes at a time",
                PeerLimits::default().frame_bytes_max
            ));
        }
        Ok(())
    }

    fn data_dir(&self) -> PathBuf {
        if self.data_dir.is_empty() {
            PathBuf::from(format!("{}.etcd", self.name))
        } else {
            PathBuf::from(&self.data_dir)
        }
    }

    /// Members are fixed when a cluster is made, so only a member of before may say that its cluster exists.
    fn check_existing(&self, data_dir: &Path) -> Result<(), String> {
        let has_data =
            || std::fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_some());
        if self.existing && !has_data() {
            return Err(format!(
                "--initial-cluster-state=existing: {} holds no member, and this version can't add one to a running cluster",
                data_dir.display()
            ));
        }
        Ok(())
    }

    /// The first members. A directory that `is_used` knows them itself, and whatever is configured need not fit.
    fn cluster(&self, is_used: bool) -> Result<BTreeMap<String, Vec<String>>, String> {
        let advertised = &self.initial_advertise_peer_urls;
        let alone = || BTreeMap::from([(self.name.clone(), advertised.clone())]);
        if self.initial_cluster.is_empty() {
            return Ok(alone());
        }
        let Some(own) = self.initial_cluster.get(&self.name) else {
            return if is_used {
                Ok(alone())
            } else {
                Err(format!(
                    "couldn't find local name {:?} in the initial cluster configuration: --initial-cluster has {:?}",
                    self.name,
                    self.initial_cluster.keys().collect::<Vec<_>>()
                ))
            };
        };
        let (own, given): (BTreeSet<_>, BTreeSet<_>) =
            (own.iter().collect(), advertised.iter().collect());
        if own != given && !is_used {
            return Err(format!(
                "--initial-cluster has {own:?} for {}, but --initial-advertise-peer-urls is {given:?}",
                self.name
            ));
        }
        Ok(self.initial_cluster.clone())
    }

    fn auto_compaction(&self) -> Result<AutoCompaction, String> {
        let text = self.compaction_retention.as_str();
        let problem =
            |problem| format!("invalid value {text:?} for --auto-compaction-retention: {problem}");
        Ok(match self.compaction_mode {
            CompactionMode::Revision => match values::number(text).map_err(problem)? {
                0 => AutoCompaction::Off,
                count if count > 0 => AutoCompaction::Revision(count),
                _ => return Err(problem("less than nothing".to_owned())),
            },
            CompactionMode::Periodic => match periodic(text).map_err(problem)? {
                Duration::ZERO => AutoCompaction::Off,
                age => AutoCompaction::Periodic(age),
            },
        })
    }
}

/// The largest request that fits into a frame between members, with what is around it there.
pub(super) fn request_bytes_max() -> usize {
    PeerLimits::default().frame_bytes_max - FRAME_OVERHEAD_BYTES
}

/// A plain number counts hours.
fn periodic(text: &str) -> Result<Duration, values::Problem> {
    match text.parse::<u32>() {
        Ok(hours) => Ok(Duration::from_secs(u64::from(hours) * 3600)),
        Err(_) => values::duration(text),
    }
}

fn addresses<T>(
    flag: &str,
    urls: &[String],
    read: fn(&str) -> Result<T, values::Problem>,
) -> Result<Vec<T>, String> {
    let address = |url: &String| {
        read(url).map_err(|problem| format!("invalid value {url:?} for {flag}: {problem}"))
    };
    urls.iter().map(address).collect()
}
