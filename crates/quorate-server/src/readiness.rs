//! When a member that has just started serves clients.
//!
//! Its state is then as old as its last checkpoint, and perhaps hundreds of revisions behind what it acknowledged before it
//! stopped: the log is there, but how much of it is committed is not known before there is a leader. Whoever read that state
//! would go back in time. So the member asks for a linearizable read of its own at the start, and serves clients when that
//! is let go: its state then shows everything that anybody acknowledged before. If that takes longer than
//! [`cluster_ready_wait`](crate::ServerConfig::cluster_ready_wait) it serves them nevertheless: a cluster without a quorum
//! must be one that an operator can look at.
//!
//! What is no client's request does not wait: health, probes, metrics, and what a member tells of its own Raft side.
//!
//! Source: etcd serves clients once its own publish request was applied, or after `--wait-cluster-ready-timeout`
//! (`server/embed/serve.go`, `server/etcdserver/server.go`).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use parking_lot::Mutex;
use quorate_etcd::backend::ServerError;
use quorate_raft::Mono;

use crate::{
    bugs::Bug,
    pending::Waiter,
    shared::{RaftInput, Shared},
    slot::{Slot, WakeBatch},
};

/// The most requests that wait for a member to serve.
const WAITING_MAX: usize = 65_536;

/// Where somebody waits for a member to serve.
pub(crate) type Turn = Arc<Slot<Result<(), ServerError>>>;

/// Whether a member serves clients, and who waits for it.
#[derive(Debug)]
pub(crate) struct Readiness {
    /// Clients are served.
    serves: AtomicBool,
    /// A linearizable read was let go since the start.
    has_caught_up: AtomicBool,
    /// The read that decides is on its way.
    asks: AtomicBool,
    serves_at: Mono,
    waiting: Mutex<Vec<Waiter<()>>>,
    /// Who hears that a linearizable read was let go.
    announced_to: Mutex<Vec<Waiter<()>>>,
}

impl Readiness {
    /// Of a member that serves at `serves_at` at the latest.
    pub(crate) fn new(serves_at: Mono) -> Self {
        Self {
            serves: AtomicBool::new(false),
            has_caught_up: AtomicBool::new(false),
            asks: AtomicBool::new(false),
            serves_at,
            waiting: Mutex::default(),
            announced_to: Mutex::default(),
        }
    }

    /// Whether clients are served.
    pub(crate) fn serves(&self) -> bool {
        self.serves.load(SeqCst)
    }

    /// A slot that is filled when clients are served; `None`: they are.
    ///
    /// # Errors
    /// [`ServerError::TooManyRequests`] when [`WAITING_MAX`] wait already.
    pub(crate) fn wait(&self) -> Result<Option<Turn>, ServerError> {
        if self.serves() {
            return Ok(None);
        }
        let mut waiting = self.waiting.lock();
        // They are woken under the same lock.
        if self.serves() {
            return Ok(None);
        }
        if waiting.len() >= WAITING_MAX {
            return Err(ServerError::TooManyRequests);
        }
        let slot = Slot::here();
        waiting.push(Waiter::Task(Arc::clone(&slot)));
        Ok(Some(slot))
    }

    /// Somebody who does something when the first linearizable read was let go; at once, if it was.
    pub(crate) fn announce(&self, waiter: Waiter<()>) {
        let mut announced_to = self.announced_to.lock();
        if !self.has_caught_up.load(SeqCst) {
            return announced_to.push(waiter);
        }
        drop(announced_to);
        waiter.give(Ok(()), &mut WakeBatch::default());
    }

    fn caught_up(&self) {
        self.serve();
        tell(&self.announced_to, &self.has_caught_up);
    }

    fn serve(&self) {
        tell(&self.waiting, &self.serves);
    }
}

/// It is so from now on, and whoever waited for that hears of it.
fn tell(waiting: &Mutex<Vec<Waiter<()>>>, is_so: &AtomicBool) {
    let waiters = {
        let mut waiting = waiting.lock();
        is_so.store(true, SeqCst);
        std::mem::take(&mut *waiting)
    };
    let mut batch = WakeBatch::default();
    for waiter in waiters {
        waiter.give(Ok(()), &mut batch);
    }
}

/// Asks for the read that decides, unless it is on its way or was let go.
pub(crate) fn ask(shared: &Arc<Shared>) {
    let readiness = &shared.readiness;
    if shared.makes(Bug::ServesAtOnce) {
        readiness.serve();
    }
    if readiness.has_caught_up.load(SeqCst) || readiness.asks.swap(true, SeqCst) {
        return;
    }
    let server = Arc::clone(shared);
    let then = move |outcome: Result<(), _>| {
        if outcome.is_ok() {
            tracing::info!(
                member = format!("{:x}", server.identity.me.0),
                cluster = format!("{:x}", server.identity.cluster_id),
                "ready to serve client requests"
            );
            server.readiness.caught_up();
        }
        server.readiness.asks.store(false, SeqCst);
    };
    shared.raft.put(RaftInput::Read(Waiter::Call(Box::new(then))));
}

/// Asks again when that failed, and serves clients when it is time to in any case. To be called at each tick.
pub(crate) fn tick(shared: &Arc<Shared>) {
    let readiness = &shared.readiness;
    if readiness.has_caught_up.load(SeqCst) {
        return;
    }
    if !readiness.serves() && shared.clock.now() >= readiness.serves_at {
        tracing::warn!(
            waited = ?shared.config.cluster_ready_wait,
            "the cluster is not ready; clients are served, and serializable reads may be old"
        );
        readiness.serve();
    }
    ask(shared);
}
