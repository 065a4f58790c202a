//! What every request handler needs: the server behind, the settings, the counters.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quorate_kv::{Command, Reply};
use quorate_proto::etcdserverpb::{ResponseHeader, TxnRequest};

use crate::{
    backend::{Admitted, Backend, ServerError},
    fair::{ClientId, Load, Permit},
    limits::{Admission, Limits, PROPOSAL_BYTES},
    metrics::Metrics,
};

/// What a message may be larger than a request, for everything around the value. Source: etcd `server/embed/config.go`.
pub const MESSAGE_OVERHEAD_BYTES: usize = 512 * 1024;

/// How requests are checked and answered. Names and defaults are etcd's.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The version told to clients, as three numbers. They parse it to learn what a server can do.
    pub version: String,
    /// The largest request, encoded; gRPC messages may be [`MESSAGE_OVERHEAD_BYTES`] larger.
    pub max_request_bytes: usize,
    /// The most operations in one list of a transaction.
    pub max_txn_ops: usize,
    /// The store's quota, told in status and metrics.
    pub quota_backend_bytes: u64,
    /// How long a follower waits for a leader's sign of life. Leases and leader-bound streams are measured by it.
    pub election_timeout: Duration,
    /// How often an idle watch that asked for it is told how far it is; at least 100 ms.
    pub watch_progress_notify_interval: Duration,
    /// How much clients may take.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: "3.7.1".into(),
            max_request_bytes: 3 << 19,
            max_txn_ops: 128,
            quota_backend_bytes: 2 << 30,
            election_timeout: Duration::from_secs(1),
            watch_progress_notify_interval: Duration::from_secs(600),
            limits: Limits::default(),
        }
    }
}

impl Settings {
    /// The version up to its minor number, as etcd tells that of a cluster and of a store: `3.7.1` gives `3.7.0`.
    pub(crate) fn minor_version(&self) -> String {
        let minor = self.version.rsplit_once('.').map_or(self.version.as_str(), |(minor, _)| minor);
        format!("{minor}.0")
    }

    /// The largest gRPC message.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.max_request_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES)
    }
}

/// One client's way to the server behind: it shares the server, the settings and the counters with all others, and has a
/// number of its own, by which turns are given to clients.
#[derive(Debug)]
pub struct Front<B> {
    pub(crate) backend: B,
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) client: ClientId,
    numbers: Arc<Numbers>,
}

/// What is numbered.
#[derive(Debug)]
struct Numbers {
    lease_ids: AtomicU64,
    streams: AtomicU32,
    clients: AtomicU64,
}

impl<B: Backend> Front<B> {
    /// Puts a front door before `backend`.
    pub fn new(backend: B, settings: Settings, metrics: Arc<Metrics>) -> Self {
        let lease_ids = AtomicU64::new(first_lease_id(backend.identity().member_id));
        let (streams, clients) = (AtomicU32::new(0), AtomicU64::new(1));
        Self {
            backend,
            admission: Arc::new(Admission::new(&settings.limits)),
            settings: Arc::new(settings),
            metrics,
            client: 0,
            numbers: Arc::new(Numbers { lease_ids, streams, clients }),
        }
    }

    /// The same for another client: one connection.
    #[must_use]
    pub fn for_client(&self) -> Self {
        Self {
            backend: self.backend.clone(),
            settings: Arc::clone(&self.settings),
            metrics: Arc::clone(&self.metrics),
            admission: Arc::clone(&self.admission),
            client: self.numbers.clients.fetch_add(1, Relaxed),
            numbers: Arc::clone(&self.numbers),
        }
    }

    /// What clients take of each of the [`Limits`] now, by its name. All is nothing when no client asks for anything.
    pub fn loads(&self) -> Vec<(&'static str, Load)> {
        let watches = self.backend.watches();
        let streams = watches.stats().streams;
        let held = Load { used: watches.held_bytes(), waiting: 0 };
        let streams = Load { used: streams as u64, waiting: 0 };
        let watched = [("watch_bytes", held), ("watch_streams", streams)];
        self.admission.loads().into_iter().chain(watched).collect()
    }

    /// Resolves once requests of clients are answered: the first thing that each does.
    ///
    /// # Errors
    /// Those of [`Backend::ready`].
    pub async fn ready(&self) -> Result<(), ServerError> {
        self.backend.ready().await
    }

    /// A header at the newest revision applied here.
    pub(crate) fn header(&self) -> ResponseHeader {
        self.header_at(self.backend.reader().revision())
    }

    /// A header at `revision`.
    pub(crate) fn header_at(&self, revision: i64) -> ResponseHeader {
        let identity = self.backend.identity();
        ResponseHeader {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            revision,
            raft_term: self.backend.raft_term(),
        }
    }

    /// Fills in what the key space does not know; its revision stays. A missing header is made.
    pub(crate) fn complete(&self, header: &mut Option<ResponseHeader>) {
        *header = Some(match header {
            Some(known) => self.header_at(known.revision),
            None => self.header(),
        });
    }

    /// Proposes a command, unless it is too large or would make everybody wait too long, when it is its client's turn.
    pub(crate) async fn propose(&self, command: Command) -> Result<Reply, ServerError> {
        let bytes = command.record_len();
        if bytes > self.settings.max_request_bytes {
            return Err(ServerError::RequestTooLarge);
        }
        self.backend.propose(&command, self.admit(&command, bytes)).await
    }

    async fn admit(&self, command: &Command, bytes: usize) -> Result<Admitted, ServerError> {
        let heavy = if let Command::Txn(txn) = command
            && quorate_kv::looks_at_many(txn)
        {
            self.weigh(txn).await?
        } else {
            None
        };
        let weight = PROPOSAL_BYTES + bytes as u64;
        let admitted = self.admission.proposals.acquire(self.client, weight)?.await;
        Ok(Admitted::new(admitted, heavy))
    }

    /// Counts what a transaction will look at. One that looks at many keys is let in alone.
    async fn weigh(&self, txn: &TxnRequest) -> Result<Option<Permit>, ServerError> {
        let limits = &self.settings.limits;
        let begin = || Ok(self.backend.reader().long_cost(txn, limits.txn_keys_max));
        let keys = self.short_or_long(begin).await?.answer;
        if keys > limits.txn_keys_max {
            return Err(ServerError::TxnTooHeavy(limits.txn_keys_max));
        }
        if keys < limits.heavy_txn_keys {
            return Ok(None);
        }
        Ok(Some(self.admission.heavy_txns.acquire(self.client, 1)?.await))
    }

    /// Waits until the newest reader may answer: at once for a serializable read.
    pub(crate) async fn settle(&self, serializable: bool) -> Result<(), ServerError> {
        if serializable { Ok(()) } else { self.backend.read_barrier().await }
    }

    /// A number that tells watch streams apart; it may come again.
    pub(crate) fn next_stream_number(&self) -> u32 {
        self.numbers.streams.fetch_add(1, Relaxed)
    }

    /// A positive lease id that no member of this cluster has picked before.
    pub(crate) fn next_lease_id(&self) -> i64 {
        let raw = self.numbers.lease_ids.fetch_add(1, Relaxed) & (u64::MAX >> 1);
        i64::try_from(raw).map_or(1, |id| id.max(1))
    }
}

/// Where a member begins to pick lease ids: its own number, then the time, then room for a count.
///
/// Two members differ in the first part. One that starts again differs in the second, unless it picked more than 256 ids
/// per millisecond of its whole life. Source: etcd `pkg/idutil/id.go`.
fn first_lease_id(member_id: u64) -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since_epoch.as_millis()).unwrap_or_default();
    (member_id << 48) | ((millis << 8) & (u64::MAX >> 16))
}

/// Proposes a command and gives the reply of its kind, with a complete header; returns from the caller with the error
/// else.
macro_rules! proposed {
    ($front:expr, $kind:ident, $request:expr) => {{
        let reply = $front.propose(quorate_kv::Command::$kind($request)).await?;
        let quorate_kv::Reply::$kind(mut response) = reply else {
            return Err($crate::backend::ServerError::Internal(
                "a command was answered with a reply of another kind".into(),
            ));
        };
        $front.complete(&mut response.header);
        response
    }};
}
pub(crate) use proposed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minor_version_ends_in_zero() {
        assert_eq!(Settings::default().minor_version(), "3.7.0");
        let odd = Settings { version: "nightly".into(), ..Settings::default() };
        assert_eq!(odd.minor_version(), "nightly.0");
    }

    #[test]
    fn members_pick_different_lease_ids() {
        let mask = u64::MAX << 48;
        assert_ne!(first_lease_id(1) & mask, first_lease_id(2) & mask);
    }
}
