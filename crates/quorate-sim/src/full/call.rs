//! One request under way: the front door's own future, polled by the world.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use quorate_check::revision::{Reply, Request};
use quorate_etcd::{
    Front,
    backend::ServerError,
    handle::{kv, lease},
};
use quorate_proto::etcdserverpb as pb;
use quorate_server::Handle;

use super::wire;

/// What a client asks.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// For keys. What is put is under this lease; 0 for none.
    Keys(Request, i64),
    /// Forget the history before this revision.
    Compact(i64),
    /// A lease of this id and time to live, in seconds.
    Grant(i64, i64),
    /// Its time anew.
    Renew(i64),
    /// How much time it has left.
    TimeToLive(i64),
    /// Its end.
    Revoke(i64),
}

/// What it hears.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Keys(Reply),
    /// The time to live, in seconds; 0: there is no such lease.
    Lease(i64),
    /// The time that is left, in whole seconds; -1: there is no such lease.
    Left(i64),
    Done,
}

impl Ask {
    /// Whether the answer shows everything that was acknowledged before.
    pub(super) fn is_linearizable(&self) -> bool {
        !matches!(self, Self::Keys(Request::Read { serializable: true, .. }, _))
    }
}

type Outcome = Result<Answer, ServerError>;

/// A request that was sent and is not answered.
pub(super) struct Call {
    pub(super) ask: Ask,
    pub(super) invoke: u64,
    /// When the client stops waiting.
    pub(super) give_up_at: u64,
    answer: Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("ask", &self.ask).finish_non_exhaustive()
    }
}

impl Call {
    /// Sends.
    pub(super) fn begin(
        front: &Arc<Front<Handle>>,
        ask: Ask,
        (now, give_up_at): (u64, u64),
    ) -> Self {
        let front = Arc::clone(front);
        let answer = Box::pin(serve(front, ask.clone()));
        Self { ask, invoke: now, give_up_at, answer }
    }

    /// The answer, if it is there.
    pub(super) fn poll(&mut self, alarm: &Arc<Alarm>) -> Option<Outcome> {
        let waker = Waker::from(Arc::clone(alarm));
        match self.answer.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }
}

/// No lease has this id.
const NO_LEASE: i64 = 0;

/// Whether somebody was woken.
#[derive(Debug, Default)]
pub(super) struct Alarm(AtomicBool);

impl Alarm {
    /// Whether it was, since it was asked last.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, SeqCst)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

async fn serve(front: Arc<Front<Handle>>, ask: Ask) -> Outcome {
    front.ready().await?;
    match ask {
        Ask::Keys(request, lease) => keys(&front, request, lease).await.map(Answer::Keys),
        Ask::Compact(revision) => {
            let request = pb::CompactionRequest { revision, physical: false };
            kv::compact(&front, request).await.map(|_| Answer::Done)
        }
        Ask::Grant(id, ttl) => {
            let request = pb::LeaseGrantRequest { id, ttl };
            lease::grant(&front, request).await.map(|response| Answer::Lease(response.ttl))
        }
        Ask::Renew(id) => {
            // Not alone: what waits on a client's stream is renewed together.
            let renewed = lease::keep_alive(&front, vec![NO_LEASE, id]).await?;
            Ok(Answer::Lease(renewed.last().map_or(0, |response| response.ttl)))
        }
        Ask::TimeToLive(id) => {
            let request = pb::LeaseTimeToLiveRequest { id, keys: false };
            lease::time_to_live(&front, request).await.map(|response| Answer::Left(response.ttl))
        }
        Ask::Revoke(id) => {
            let request = pb::LeaseRevokeRequest { id };
            lease::revoke(&front, request).await.map(|_| Answer::Done)
        }
    }
}

async fn keys(front: &Front<Handle>, request: Request, lease: i64) -> Result<Reply, ServerError> {
    match request {
        Request::Read { range, at, serializable } => {
            let response = kv::range(front, wire::range(&range, at, serializable)).await?;
            Ok(wire::range_reply(&response))
        }
        Request::Txn(txn) => {
            let response = kv::txn(front, wire::txn(&txn, lease)).await?;
            Ok(wire::txn_reply(&response))
        }
    }
}

/// Whether an error promises that nothing was and will be done.
pub(super) fn is_definite(error: &ServerError) -> bool {
    matches!(
        error,
        ServerError::Request(_)
            | ServerError::TooManyRequests
            | ServerError::RequestTooLarge
            | ServerError::NoLeader
    )
}
