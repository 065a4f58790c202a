//! Calls that want a leader: those whose metadata says `hasleader: true`.
//!
//! Without a leader they are refused, and a stream that loses it ends after three election timeouts, so that its client
//! looks for another member.
//!
//! Source: etcd `server/etcdserver/api/v3rpc/interceptor.go`.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use crate::{backend::Backend, errors::EtcdError, front::Front};

/// How many election timeouts a stream lives without a leader.
const LEADERLESS_ELECTIONS_MAX: u32 = 3;

/// Whether a call's metadata asks for a leader.
pub(crate) fn is_required(metadata: &HeaderMap) -> bool {
    metadata.get("hasleader").is_some_and(|value| value == "true")
}

/// Watches over a stream that asked for a leader.
#[derive(Debug)]
pub(crate) struct LeaderGuard<B> {
    front: Arc<Front<B>>,
    interval: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<B: Backend> LeaderGuard<B> {
    /// A guard that looks once in each election timeout.
    pub(crate) fn new(front: &Arc<Front<B>>) -> Self {
        let interval = front.settings.election_timeout;
        let timer = Box::pin(tokio::time::sleep(interval));
        Self { front: Arc::clone(front), interval, timer }
    }

    /// Ready once the leader has been gone for too long.
    pub(crate) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let lost = self.front.backend.leaderless_for();
            if lost.is_some_and(|lost| lost >= self.interval * LEADERLESS_ELECTIONS_MAX) {
                return Poll::Ready(EtcdError::NoLeader.into());
            }
            self.timer.as_mut().reset(Instant::now() + self.interval);
        }
        Poll::Pending
    }
}
