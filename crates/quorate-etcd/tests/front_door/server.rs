//! A server in memory, and a front door before it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_engine::{Durability, MemoryEngine};
use quorate_etcd::{
    Settings,
    backend::{
        Admitted, Backend, Identity, LeaseTimeToLive, ServerError, SnapshotStream,
        Status as ServerStatus,
    },
    open_views::OpenViews,
    serve::{ListenAddress, Running, ServeConfig, serve},
    watches::Watches,
};
use quorate_kv::{
    Command, Committed, HashKv, Lessor, Reader, Reply, Store, lessor::Renewal, watch::WatchLimits,
};
use quorate_proto::{etcdserverpb::Member, inspect::RaftResponse};
use tonic::{Code, Status, transport::Channel};

pub(crate) const IDENTITY: Identity = Identity { cluster_id: 0xc1, member_id: 0xa1 };
pub(crate) const TERM: u64 = 7;
/// What the server's snapshot holds: more than one piece, and not a whole number of them.
pub(crate) const SNAPSHOT_BYTES: usize = 100_000;

struct Inner {
    store: Mutex<Store>,
    reader: RwLock<Reader>,
    lessor: Mutex<Lessor>,
    watches: Arc<Watches>,
    views: Arc<OpenViews>,
    leaderless_since: Mutex<Option<Instant>>,
    /// Applied as soon as somebody has taken a reader.
    after_next_read: Mutex<Option<Command>>,
    /// Proposals that are never answered, once there may be any.
    proposals_kept: Mutex<Option<Vec<Admitted>>>,
    started: Instant,
    /// How often leases were renewed, one or many.
    renewals: AtomicU64,
}

/// One member that agrees with itself.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Inner>);

impl Memory {
    pub(crate) fn new(limits: WatchLimits) -> Self {
        let store = Store::open(Box::new(MemoryEngine::new())).unwrap();
        let reader = store.reader();
        let mut lessor = Lessor::new(reader.leases().unwrap(), 300);
        lessor.promote(0, 0, 1);
        Self(Arc::new(Inner {
            views: Arc::default(),
            watches: Arc::new(Watches::new(reader.revision(), limits)),
            reader: RwLock::new(reader),
            store: Mutex::new(store),
            lessor: Mutex::new(lessor),
            leaderless_since: Mutex::new(None),
            after_next_read: Mutex::new(None),
            proposals_kept: Mutex::new(None),
            started: Instant::now(),
            renewals: AtomicU64::new(0),
        }))
    }

    /// With other bounds on what watches hold.
    pub(crate) fn holding(history_bytes_max: usize, held_bytes_max: u64) -> Self {
        let server = Self::new(WatchLimits::default());
        let mut inner = Arc::into_inner(server.0).unwrap();
        let watches = Arc::into_inner(inner.watches).unwrap();
        inner.watches = Arc::new(watches.holding(history_bytes_max, held_bytes_max));
        Self(Arc::new(inner))
    }

    /// Takes the leader away, or brings it back.
    pub(crate) fn set_leader(&self, present: bool) {
        *self.0.leaderless_since.lock().unwrap() = (!present).then(Instant::now);
    }

    /// From now on proposals are kept without an answer; or all that were kept are answered, as far as anybody cares.
    pub(crate) fn keep_proposals(&self, keep: bool) {
        *self.0.proposals_kept.lock().unwrap() = keep.then(Vec::new);
    }

    fn keeps(&self, admitted: Admitted) -> bool {
        let mut kept = self.0.proposals_kept.lock().unwrap();
        kept.as_mut().map(|kept| kept.push(admitted)).is_some()
    }

    /// Applies `command` as soon as the next reader was taken: a change in the middle of whatever reads next.
    pub(crate) fn apply_after_next_read(&self, command: Command) {
        *self.0.after_next_read.lock().unwrap() = Some(command);
    }

    /// How often leases were renewed, one or many.
    pub(crate) fn renewals(&self) -> u64 {
        self.0.renewals.load(Relaxed)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_nanos()).unwrap()
    }

    fn needs_leader(&self) -> Result<(), ServerError> {
        if self.leaderless_for().is_some() { Err(ServerError::NoLeader) } else { Ok(()) }
    }

    pub(crate) fn apply(&self, command: &Command) -> Result<Reply, ServerError> {
        let mut store = self.0.store.lock().unwrap();
        let index = store.applied().index + 1;
        let bytes = command.encode();
        let entry = Committed { index, term: TERM, command: Some(&bytes) };
        let mut output = store.apply(&[entry], Durability::Relaxed).unwrap();
        *self.0.reader.write().unwrap() = store.reader();
        self.0.watches.publish(&output.revisions);
        let now = self.now_ns();
        output.leases.iter().for_each(|change| self.0.lessor.lock().unwrap().apply(now, change));
        Ok(output.replies.remove(0)?)
    }
}

impl Backend for Memory {
    fn identity(&self) -> Identity {
        IDENTITY
    }

    fn reader(&self) -> Reader {
        let reader = self.0.reader.read().unwrap().clone();
        let due = self.0.after_next_read.lock().unwrap().take();
        if let Some(command) = due {
            self.apply(&command).unwrap();
        }
        reader
    }

    fn raft_term(&self) -> u64 {
        TERM
    }

    async fn propose(
        &self,
        command: &Command,
        admit: impl Future<Output = Result<Admitted, ServerError>> + Send,
    ) -> Result<Reply, ServerError> {
        if self.keeps(admit.await?) {
            return std::future::pending().await;
        }
        self.needs_leader()?;
        self.apply(command)
    }

    async fn read_barrier(&self) -> Result<(), ServerError> {
        self.needs_leader()
    }

    fn status(&self) -> ServerStatus {
        let applied = self.reader().applied().index;
        let size = self.0.store.lock().unwrap().size().unwrap();
        ServerStatus {
            leader: self.leaderless_for().is_none().then_some(IDENTITY.member_id),
            raft_term: TERM,
            commit_index: applied,
            applied_index: applied,
            is_learner: false,
            db_size_bytes: size.in_use,
            file_bytes: size.total,
            errors: Vec::new(),
        }
    }

    async fn raft(&self) -> Result<RaftResponse, ServerError> {
        let applied = self.reader().applied().index;
        let voters = vec![IDENTITY.member_id];
        Ok(RaftResponse { term: TERM, applied, voters, ..RaftResponse::default() })
    }

    async fn move_leader(&self, to: u64) -> Result<(), ServerError> {
        self.leaderless_for().map_or(Ok(()), |_| Err(ServerError::NotLeader))?;
        if to == IDENTITY.member_id { Ok(()) } else { Err(ServerError::BadLeaderTransferee) }
    }

    fn leaderless_for(&self) -> Option<Duration> {
        self.0.leaderless_since.lock().unwrap().map(|since| since.elapsed())
    }

    fn members(&self) -> Vec<Member> {
        vec![Member { id: IDENTITY.member_id, name: "a".into(), ..Member::default() }]
    }

    async fn leases_renew(&self, ids: Vec<i64>) -> Result<Vec<Option<i64>>, ServerError> {
        self.needs_leader()?;
        self.0.renewals.fetch_add(1, Relaxed);
        let now = self.now_ns();
        let mut lessor = self.0.lessor.lock().unwrap();
        let renewed = |id| match lessor.renew(now, id) {
            Renewal::Renewed { ttl } => Some(ttl),
            Renewal::Unknown | Renewal::Expiring => None,
            Renewal::ResetCheckpointFirst | Renewal::NotPrimary => {
                panic!("the only member counts and never checkpoints")
            }
        };
        Ok(ids.into_iter().map(renewed).collect())
    }

    async fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<Option<LeaseTimeToLive>, ServerError> {
        let reader = self.reader();
        let Some(record) = reader.lease(id)? else { return Ok(None) };
        let keys = if keys { reader.lease_keys(id)? } else { Vec::new() };
        let remaining_ttl = self.0.lessor.lock().unwrap().remaining(self.now_ns(), id).unwrap();
        Ok(Some(LeaseTimeToLive { remaining_ttl, granted_ttl: record.ttl, keys }))
    }

    fn watches(&self) -> &Arc<Watches> {
        &self.0.watches
    }

    fn views(&self) -> &Arc<OpenViews> {
        &self.0.views
    }

    fn compaction_hash(&self, _: i64) -> Option<HashKv> {
        None
    }

    async fn purged(&self, _: i64) -> Result<(), ServerError> {
        while self.0.store.lock().unwrap().purge(1000).unwrap() {}
        Ok(())
    }

    fn snapshot(&self) -> Result<SnapshotStream, ServerError> {
        let chunks = std::iter::repeat_n(Bytes::from_static(&[7; 1000]), SNAPSHOT_BYTES / 1000);
        let size_bytes = SNAPSHOT_BYTES as u64;
        Ok(SnapshotStream { size_bytes, chunks: Box::new(chunks.map(Ok)) })
    }
}

/// A front door before a server in memory.
pub(crate) struct Home {
    pub(crate) server: Memory,
    pub(crate) address: SocketAddr,
    pub(crate) running: Running,
}

impl Home {
    pub(crate) fn open() -> Self {
        Self::with(Settings::default(), WatchLimits::default())
    }

    pub(crate) fn with(settings: Settings, limits: WatchLimits) -> Self {
        let server = Memory::new(limits);
        let any_port = ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let config =
            ServeConfig { listen: vec![any_port], threads: 2, settings, ..ServeConfig::default() };
        let running = serve(server.clone(), &config).unwrap();
        let ListenAddress::Tcp(address) = running.addresses()[0].clone() else { unreachable!() };
        Self { server, address, running }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let url = format!("http://{}", self.address);
        Channel::from_shared(url).unwrap().connect().await.unwrap()
    }
}

/// Asserts that a call failed with exactly this code and text.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(
    result: Result<T, Status>,
    code: Code,
    text: &str,
) {
    let status = result.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, text));
}
