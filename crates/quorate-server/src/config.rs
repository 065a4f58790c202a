//! What a server is told at its start, already parsed: the command line, environment and config file are read elsewhere.
//!
//! Names and defaults are etcd's (`etcd --help`), so that an operator finds his own settings again.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use quorate_etcd::{Limits, serve::ListenAddress};
use quorate_kv::lessor::CHECKPOINT_INTERVAL_SECONDS;

/// The settings of one server process.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// This member's name: a key of `initial_cluster`.
    pub name: String,
    /// Where everything durable lives; made if it is missing.
    pub data_dir: PathBuf,
    /// Where clients are served.
    pub listen_client: Vec<ListenAddress>,
    /// Where clients are told to come, as URLs.
    pub advertise_client_urls: Vec<String>,
    /// Where peers are served.
    pub listen_peer: Vec<SocketAddr>,
    /// Every member of the cluster: its name and its peer URLs (`http://host:port`). This member's own are the advertised
    /// ones; they decide its id.
    pub initial_cluster: BTreeMap<String, Vec<String>>,
    /// Keeps clusters with the same addresses apart.
    pub initial_cluster_token: String,
    /// How often a leader gives a sign of life.
    pub heartbeat_interval: Duration,
    /// How long a follower waits for one, at least.
    pub election_timeout: Duration,
    /// How many applied entries pile up in the log before it is cut.
    pub snapshot_count: u64,
    /// How many entries are kept behind the cut, for followers that lag a little.
    pub snapshot_catchup_entries: u64,
    /// State larger than this raises the NOSPACE alarm; 0 means [`QUOTA_BYTES_DEFAULT`].
    pub quota_backend_bytes: u64,
    /// The largest request.
    pub max_request_bytes: u32,
    /// The most operations in one transaction.
    pub max_txn_ops: usize,
    /// How many threads serve clients; 0: one for each core.
    pub client_threads: usize,
    /// How much clients may take.
    pub limits: Limits,
    /// When old revisions are dropped without being asked.
    pub auto_compaction: AutoCompaction,
    /// How long after its start a member that hears of no quorum keeps clients waiting (etcd:
    /// `--wait-cluster-ready-timeout`).
    pub cluster_ready_wait: Duration,
    /// How often a leader notes in the log how much time is left of a lease that has longer, in whole seconds.
    pub lease_checkpoint_interval: Duration,
    /// How often an idle watch that asked for it is told how far it is.
    pub watch_progress_notify_interval: Duration,
    /// The version told to clients; they parse it to learn what a server can do.
    pub reported_version: String,
    /// The size of a segment of the log; `None`: the usual one.
    pub wal_segment_bytes: Option<u64>,
    /// How much committed content may wait for the state machine, in bytes; `None`: as much as usual.
    pub apply_bytes_max: Option<u64>,
    /// Limits without a flag that are lower than the usual ones; `None`: none is.
    pub lower_limits: Option<crate::LowerLimits>,
    /// How much memory the flight recorder takes, in bytes; 0: there is none.
    pub flight_recorder_bytes: usize,
    /// Never wait for the disk. Loses acknowledged writes in a power cut; for tests only.
    pub unsafe_no_fsync: bool,
    /// Promises broken on purpose. Only in builds that judge the judges.
    #[cfg(feature = "breakable")]
    pub breaks: crate::Breaks,
}

impl ServerConfig {
    /// The most that the state may hold, in bytes.
    pub fn quota_bytes(&self) -> u64 {
        match self.quota_backend_bytes {
            0 => QUOTA_BYTES_DEFAULT,
            bytes => bytes,
        }
    }
}

/// When old revisions are dropped without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Never.
    Off,
    /// What is older than this.
    Periodic(Duration),
    /// All but this many latest revisions.
    Revision(i64),
}

/// The quota when none is set: etcd's 2 GiB.
pub const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;

impl Default for ServerConfig {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            name: "default".into(),
            data_dir: "default.etcd".into(),
            listen_client: vec![ListenAddress::Tcp(local(2379))],
            advertise_client_urls: vec!["http://localhost:2379".into()],
            listen_peer: vec![local(2380)],
            initial_cluster: BTreeMap::from([(
                "default".into(),
                vec!["http://localhost:2380".into()],
            )]),
            initial_cluster_token: "etcd-cluster".into(),
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5_000,
            quota_backend_bytes: 0,
            max_request_bytes: 3 << 19,
            max_txn_ops: 128,
            client_threads: 0,
            limits: Limits::default(),
            auto_compaction: AutoCompaction::Off,
            cluster_ready_wait: Duration::from_secs(5),
            lease_checkpoint_interval: Duration::from_secs(CHECKPOINT_INTERVAL_SECONDS.into()),
            watch_progress_notify_interval: Duration::from_secs(600),
            reported_version: "3.7.1".into(),
            wal_segment_bytes: None,
            apply_bytes_max: None,
            lower_limits: None,
            flight_recorder_bytes: quorate_flight::RING_BYTES_DEFAULT,
            unsafe_no_fsync: false,
            #[cfg(feature = "breakable")]
            breaks: crate::Breaks::default(),
        }
    }
}
