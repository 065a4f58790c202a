//! The server as its front door sees it.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use quorate_etcd::{
    backend::{Admitted, Backend, Identity, LeaseTimeToLive, ServerError, SnapshotStream, Status},
    metrics::Gauge,
    open_views::OpenViews,
    watches::Watches,
};
use quorate_kv::{Command, HashKv, Reader, Reply, RequestError, TABLES};
use quorate_node::{NodeEvent, Scope};
use quorate_proto::{
    etcdserverpb::{
        AlarmRequest, AlarmType, Member, TxnRequest, alarm_request::AlarmAction,
        request_op::Request,
    },
    inspect::RaftResponse,
};
use quorate_raft::{Mono, NodeId};
use quorate_storage::snapshot::{SnapshotHead, SnapshotWriter};

use crate::{
    bugs::Bug,
    clock::nanoseconds,
    identity::{Identity as ClusterIdentity, MemberConfig},
    pending::Waiter,
    services::{Answer, Asked, Call, TimeLeft},
    shared::{ApplyInput, GROUP, RaftInput, Shared},
    slot::{Slot, Wait, WakeBatch},
    troubles,
};

/// How long to wait before asking the leader again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What a snapshot for a client grows by in one go: a serving thread reads it.
const CLIENT_CHUNK_BYTES: usize = 64 << 10;

/// How many election timeouts a handover of leadership may take. The core gives it up after one; then the old leader may be
/// missing, and an election takes two.
const TRANSFER_ELECTIONS_MAX: u32 = 3;

/// A handle on the server, one for each connection.
#[derive(Clone, Debug)]
pub struct Handle(pub(crate) Arc<Shared>);

impl Backend for Handle {
    fn identity(&self) -> Identity {
        let identity = &self.0.identity;
        Identity { cluster_id: identity.cluster_id, member_id: identity.me.0 }
    }

    fn reader(&self) -> Reader {
        Reader::clone(&self.0.reader.load())
    }

    fn raft_term(&self) -> u64 {
        self.0.standing.term().0
    }

    async fn ready(&self) -> Result<(), ServerError> {
        match self.0.readiness.wait()? {
            Some(slot) => Wait(slot).await,
            None => Ok(()),
        }
    }

    async fn propose(
        &self,
        command: &Command,
        admit: impl Future<Output = Result<Admitted, ServerError>> + Send,
    ) -> Result<Reply, ServerError> {
        self.check_room(command)?;
        let _counted = Counted::new(&self.0.metrics.proposals_pending);
        let deadline = self.0.clock.now().after(nanoseconds(self.0.request_timeout()));
        let mut admit = pin!(admit);
        // The usual case takes no timer: what was proposed has its end without one.
        let at_once = poll_fn(|cx| Poll::Ready(admit.as_mut().poll(cx))).await;
        if let Poll::Ready(admitted) = at_once {
            return self.propose_admitted(command, admitted?).await;
        }
        let later = async { self.propose_admitted(command, admit.await?).await };
        self.0.clock.before(deadline, later).await.unwrap_or(Err(ServerError::Timeout))
    }

    async fn read_barrier(&self) -> Result<(), ServerError> {
        #[cfg(feature = "breakable")]
        if self.0.config.breaks.stale_reads && self.0.standing.leader() == Some(self.0.identity.me)
        {
            return Ok(());
        }
        if self.0.makes(Bug::ReadUnconfirmed) && self.0.standing.leads().is_some() {
            return Ok(());
        }
        let slot = Slot::here();
        self.0.read(Waiter::Task(Arc::clone(&slot)));
        Wait(slot).await
    }

    fn status(&self) -> Status {
        let standing = &self.0.standing;
        let known = standing.leadership();
        let mut errors = self.0.refusals.errors(self.0.clock.now());
        errors.extend(troubles::disk_error(&self.0));
        Status {
            leader: known.leader.map(|leader| leader.0),
            raft_term: known.term.0,
            commit_index: standing.commit(),
            applied_index: standing.applied(),
            is_learner: false,
            file_bytes: self.0.sizes.total.load(Relaxed),
            db_size_bytes: self.0.sizes.live.load(Relaxed),
            errors,
        }
    }

    async fn raft(&self) -> Result<RaftResponse, ServerError> {
        let slot = Slot::here();
        self.0.inspect(Waiter::Task(Arc::clone(&slot)));
        Wait(slot).await
    }

    async fn move_leader(&self, to: u64) -> Result<(), ServerError> {
        let Shared { standing, identity, clock, config, .. } = &*self.0;
        let to = NodeId(to);
        if standing.leads().is_none() {
            return Err(ServerError::NotLeader);
        }
        if !identity.members.contains_key(&to) {
            return Err(ServerError::BadLeaderTransferee);
        }
        self.0.raft.put(RaftInput::Event(NodeEvent::TransferLeader { group: GROUP, to }));
        let wait = config.election_timeout * TRANSFER_ELECTIONS_MAX;
        let deadline = clock.now().after(nanoseconds(wait));
        while standing.leader() != Some(to) {
            if clock.now() >= deadline {
                return Err(ServerError::TransferTimeout);
            }
            clock.sleep_until(clock.now().after(nanoseconds(ASK_AGAIN_AFTER))).await;
        }
        Ok(())
    }

    fn leaderless_for(&self) -> Option<Duration> {
        let since = self.0.standing.leaderless_since()?;
        Some(Duration::from_nanos(self.0.clock.now().since(since)))
    }

    fn members(&self) -> Vec<Member> {
        let client_urls = self.0.client_urls.lock();
        let member = |member: &MemberConfig| Member {
            id: member.id.0,
            name: member.name.clone(),
            peer_ur_ls: member.peer_urls.clone(),
            client_ur_ls: client_urls.get(&member.id).cloned().unwrap_or_default(),
            is_learner: false,
        };
        self.0.identity.members.values().map(member).collect()
    }

    async fn leases_renew(&self, ids: Vec<i64>) -> Result<Vec<Option<i64>>, ServerError> {
        let count = ids.len();
        match self.ask_leader(&Call::Renew { ids: ids.into() }).await? {
            Answer::Renewed(ttls) if ttls.len() == count => Ok(ttls),
            Answer::Failed(words) => Err(ServerError::Internal(words)),
            Answer::Renewed(_) | Answer::TryAgain | Answer::TimeToLive(_) => {
                Err(ServerError::LeaderChanged)
            }
        }
    }

    async fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<Option<LeaseTimeToLive>, ServerError> {
        let left = match self.ask_leader(&Call::TimeToLive { id }).await? {
            Answer::TimeToLive(left) => left,
            Answer::Failed(words) => return Err(ServerError::Internal(words)),
            Answer::TryAgain | Answer::Renewed(_) => return Err(ServerError::LeaderChanged),
        };
        let Some(TimeLeft { remaining_ttl, granted_ttl }) = left else { return Ok(None) };
        let keys = if keys { self.keys_of_lease(id).await? } else { Some(Vec::new()) };
        Ok(keys.map(|keys| LeaseTimeToLive { remaining_ttl, granted_ttl, keys }))
    }

    fn watches(&self) -> &Arc<Watches> {
        &self.0.watches
    }

    fn views(&self) -> &Arc<OpenViews> {
        &self.0.views
    }

    fn compaction_hash(&self, revision: i64) -> Option<HashKv> {
        self.0.hashes.at(revision)
    }

    async fn purged(&self, revision: i64) -> Result<(), ServerError> {
        let slot = Slot::here();
        self.0.apply.put(ApplyInput::Purged(revision, Waiter::Task(Arc::clone(&slot))));
        Wait(slot).await
    }

    fn snapshot(&self) -> Result<SnapshotStream, ServerError> {
        let reader = self.reader();
        let applied = reader.applied();
        let head = SnapshotHead { index: applied.index, term: applied.term, header: Bytes::new() };
        let view = Arc::clone(reader.view());
        let salt = self.0.vfs.random().map_err(|error| ServerError::Internal(error.to_string()))?;
        let mut writer =
            SnapshotWriter::new(view, TABLES.to_vec(), head, (CLIENT_CHUNK_BYTES, salt));
        let next = move || match writer.next_chunk() {
            Ok(chunk) => chunk.map(|chunk| Ok(chunk.bytes)),
            Err(error) => Some(Err(ServerError::Internal(error.to_string()))),
        };
        Ok(SnapshotStream {
            // What is live is what will be sent, but for some bytes around each pair.
            size_bytes: self.0.sizes.live.load(Relaxed),
            chunks: Box::new(std::iter::from_fn(next)),
        })
    }
}

impl Handle {
    /// Who this member is, and who the others are.
    pub fn membership(&self) -> &ClusterIdentity {
        &self.0.identity
    }

    /// Calls `announce` once a linearizable read went through: from then on clients are served. At once, if one has.
    pub fn announce_when_ready(&self, announce: impl FnOnce() + Send + 'static) {
        self.0.readiness.announce(Waiter::Call(Box::new(|_| announce())));
    }

    /// Whether clients are served: the state is as new as it must be, or it took too long to become so.
    pub fn serves(&self) -> bool {
        self.0.readiness.serves()
    }

    /// How many proposals of this member's clients wait for their answer, whether the clients do or not.
    pub fn proposals_waiting(&self) -> usize {
        self.0.pending.of_clients()
    }

    /// Asks the Raft side to keep a flight recording: `flight/NNNNNNNN-asked.flight` in the data directory, soon.
    pub fn keep_recording(&self) {
        self.0.raft.put(RaftInput::KeepRecording);
    }

    /// Asks the Raft side to end, after handing leadership over if that is quick.
    pub fn stop_raft(&self) {
        self.0.raft.put(RaftInput::Stop);
    }

    /// Asks the apply side to end, with a durable state.
    pub fn stop_apply(&self) {
        self.0.apply.put(ApplyInput::Stop);
    }

    /// Tells everybody who still waits for an answer that the server is gone. The last thing to do.
    pub fn answer_all(&self) {
        self.0.pending.stop();
    }

    /// Refuses what makes the state grow beyond its quota, and raises the alarm that makes everybody refuse it.
    ///
    /// Source: etcd `server/etcdserver/api/v3rpc/quota.go`.
    fn check_room(&self, command: &Command) -> Result<(), ServerError> {
        let shared = &self.0;
        let live_bytes = shared.sizes.live.load(Relaxed);
        let quota_bytes = shared.config.quota_bytes();
        // Requests are measured only near the quota: it costs a walk through each.
        if live_bytes + u64::from(shared.config.max_request_bytes) <= quota_bytes
            || !grows(command)
            || live_bytes + command.record_len() as u64 <= quota_bytes
        {
            return Ok(());
        }
        if !shared.reader.load().is_out_of_space() {
            tracing::warn!(live_bytes, quota_bytes, "out of quota");
            let request = AlarmRequest {
                action: AlarmAction::Activate.into(),
                member_id: shared.identity.me.0,
                alarm: AlarmType::Nospace.into(),
            };
            shared.propose(&Command::Alarm(request), Scope::Anywhere, None);
        }
        Err(RequestError::NoSpace.into())
    }

    async fn propose_admitted(
        &self,
        command: &Command,
        admitted: Admitted,
    ) -> Result<Reply, ServerError> {
        let slot = Slot::here();
        self.0.propose_admitted(command, Waiter::Task(Arc::clone(&slot)), admitted);
        Wait(slot).await
    }

    /// The keys attached to a lease, read from this member's state and by whoever asks; `None` if the lease has ended.
    async fn keys_of_lease(&self, id: i64) -> Result<Option<Vec<Bytes>>, ServerError> {
        self.read_barrier().await?;
        let reader = self.reader();
        Ok(if reader.lease(id)?.is_some() { Some(reader.lease_keys(id)?) } else { None })
    }

    /// Asks the leader, this node or another, until it answers or the time of a request is over.
    async fn ask_leader(&self, call: &Call) -> Result<Answer, ServerError> {
        let clock = &self.0.clock;
        let deadline = clock.now().after(nanoseconds(self.0.request_timeout()));
        loop {
            let answer = self.ask_once(call, deadline).await;
            if answer != Answer::TryAgain {
                return Ok(answer);
            }
            if clock.now() >= deadline {
                let leaderless = self.leaderless_for().is_some();
                return Err(if leaderless { ServerError::NoLeader } else { ServerError::Timeout });
            }
            clock.sleep_until(clock.now().after(nanoseconds(ASK_AGAIN_AFTER))).await;
        }
    }

    async fn ask_once(&self, call: &Call, deadline: Mono) -> Answer {
        match self.0.standing.leader() {
            None => Answer::TryAgain,
            Some(leader) if leader == self.0.identity.me => {
                let slot = Slot::here();
                let filled = Arc::clone(&slot);
                call.clone()
                    .serve(&self.0, move |answer| filled.fill(answer, &mut WakeBatch::default()));
                let answer = self.0.clock.before(deadline, Wait(slot)).await;
                answer.unwrap_or(Answer::TryAgain)
            }
            Some(leader) => self.ask_other(leader, call, deadline).await,
        }
    }

    /// Asks another member for as long as it leads: again after each election timeout, since a call may be lost. Whichever
    /// call is answered first counts, so that a link may be slower than that.
    async fn ask_other(&self, leader: NodeId, call: &Call, deadline: Mono) -> Answer {
        let shared = &self.0;
        let (slot, mut asked) = (Slot::here(), Asked::new(shared));
        let mut answer = Wait(Arc::clone(&slot));
        while shared.standing.leader() == Some(leader) && shared.clock.now() < deadline {
            shared.calls.ask(shared, (leader, call), &slot, &mut asked);
            let timeout_ns = nanoseconds(shared.config.election_timeout);
            let until = shared.clock.now().after(timeout_ns).min(deadline);
            if let Some(answer) = shared.clock.before(until, &mut answer).await {
                return answer;
            }
        }
        Answer::TryAgain
    }
}

/// One more in a gauge until it is dropped, also when the client goes away.
struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.add(1);
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// Whether a command can make the state larger.
fn grows(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant(_) => true,
        Command::Txn(txn) => puts(txn),
        Command::DeleteRange(_)
        | Command::Compaction(_)
        | Command::LeaseRevoke(_)
        | Command::LeaseCheckpoint(_)
        | Command::Alarm(_)
        | Command::MemberDirectories(_) => false,
    }
}

/// Whether a transaction, or one inside it, has a put.
fn puts(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|operation| match &operation.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(inner)) => puts(inner),
        Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => false,
    })
}
