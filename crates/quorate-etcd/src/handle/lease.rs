//! Lease requests. Leases live in the replicated state; their time lives with the leader.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use quorate_kv::{check, lessor::ttl_min_seconds};
use quorate_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use tokio_stream::Stream;

use crate::{
    backend::{Backend, ServerError},
    front::{Front, proposed},
    long_work::Paced,
};

/// The time to live told for a lease that is not there.
const TTL_UNKNOWN: i64 = -1;

/// Makes a lease. Picks an id for 0 and raises a time to live that an election could outlast.
///
/// # Errors
/// Those of [`check::lease_grant`] and of a proposal.
pub async fn grant<B: Backend>(
    front: &Front<B>,
    mut request: LeaseGrantRequest,
) -> Result<LeaseGrantResponse, ServerError> {
    check::lease_grant(&request)?;
    let election_millis =
        u64::try_from(front.settings.election_timeout.as_millis()).unwrap_or(u64::MAX);
    request.ttl = request.ttl.max(ttl_min_seconds(election_millis));
    if request.id == 0 {
        request.id = front.next_lease_id();
    }
    Ok(proposed!(front, LeaseGrant, request))
}

/// Ends a lease and deletes its keys.
///
/// # Errors
/// Those of a proposal.
pub async fn revoke<B: Backend>(
    front: &Front<B>,
    request: LeaseRevokeRequest,
) -> Result<LeaseRevokeResponse, ServerError> {
    Ok(proposed!(front, LeaseRevoke, request))
}

/// Starts the time of leases anew, together; a `ttl` of 0 says that a lease is gone.
///
/// The header is taken before the renewal, so that its revision is never one at which a lease was already revoked.
///
/// # Errors
/// Those of [`Backend::leases_renew`].
pub async fn keep_alive<B: Backend>(
    front: &Front<B>,
    ids: Vec<i64>,
) -> Result<Vec<LeaseKeepAliveResponse>, ServerError> {
    let header = Some(front.header());
    let ttls = front.backend.leases_renew(ids.clone()).await?;
    let answer = |(id, ttl): (i64, Option<i64>)| LeaseKeepAliveResponse {
        header,
        id,
        ttl: ttl.unwrap_or(0),
    };
    Ok(ids.into_iter().zip(ttls).map(answer).collect())
}

/// Tells how long a lease still has; -1 if there is none.
///
/// # Errors
/// Those of [`Backend::lease_time_to_live`].
pub async fn time_to_live<B: Backend>(
    front: &Front<B>,
    request: LeaseTimeToLiveRequest,
) -> Result<LeaseTimeToLiveResponse, ServerError> {
    let known = front.backend.lease_time_to_live(request.id, request.keys).await?;
    let header = Some(front.header());
    let id = request.id;
    Ok(match known {
        Some(lease) => LeaseTimeToLiveResponse {
            header,
            id,
            ttl: lease.remaining_ttl,
            granted_ttl: lease.granted_ttl,
            keys: lease.keys,
        },
        None => LeaseTimeToLiveResponse { header, id, ttl: TTL_UNKNOWN, ..Default::default() },
    })
}

/// Lists all leases. Linearizable, where etcd lists what the member happens to know.
///
/// # Errors
/// Those of a read barrier and of the read.
pub async fn leases<B: Backend>(
    front: &Front<B>,
    _: LeaseLeasesRequest,
) -> Result<LeaseLeasesResponse, ServerError> {
    front.settle(false).await?;
    let leases = front.backend.reader().leases()?;
    let leases = leases.into_iter().map(|(id, _)| LeaseStatus { id }).collect();
    Ok(LeaseLeasesResponse { header: Some(front.header()), leases })
}

/// Leases that one client has renewed together: what one answer of the leader holds.
const RENEWALS_AT_ONCE_MAX: usize = 4096;

/// Renewals under way.
type Renewals =
    Pin<Box<dyn Future<Output = Result<Vec<LeaseKeepAliveResponse>, ServerError>> + Send>>;

/// Answers a client's renewals in their order. What waits is renewed together: a client with many leases asks for all of
/// them at once, and each confirmation of leadership takes a round trip.
pub struct KeepAlives<B, R, E> {
    front: Arc<Front<B>>,
    requests: R,
    renewals: Option<Renewals>,
    answers: VecDeque<LeaseKeepAliveResponse>,
    /// How the requests ended; told once all before are answered.
    end: Option<Result<(), E>>,
}

impl<B: Backend, R, E> KeepAlives<B, R, E> {
    /// A stream of answers to `requests`; it ends with them.
    pub fn new(front: &Arc<Front<B>>, requests: R) -> Self {
        let answers = VecDeque::new();
        Self { front: Arc::clone(front), requests, renewals: None, answers, end: None }
    }
}

impl<B, R, E> std::fmt::Debug for KeepAlives<B, R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeepAlives")
            .field("renewing", &self.renewals.is_some())
            .field("answers", &self.answers.len())
            .finish_non_exhaustive()
    }
}

impl<B, R, E> KeepAlives<B, R, E>
where
    R: Stream<Item = Result<LeaseKeepAliveRequest, E>> + Unpin,
{
    /// The leases whose requests are there.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Vec<i64> {
        let mut ids = Vec::new();
        while ids.len() < RENEWALS_AT_ONCE_MAX && self.end.is_none() {
            match Pin::new(&mut self.requests).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(request))) => ids.push(request.id),
                Poll::Ready(Some(Err(error))) => self.end = Some(Err(error)),
                Poll::Ready(None) => self.end = Some(Ok(())),
            }
        }
        ids
    }
}

/// What it waits for is nobody else's.
impl<B: Backend, R, E> Paced for KeepAlives<B, R, E> {}

impl<B, R, E> Stream for KeepAlives<B, R, E>
where
    B: Backend,
    R: Stream<Item = Result<LeaseKeepAliveRequest, E>> + Unpin,
    E: From<ServerError> + Unpin,
{
    type Item = Result<LeaseKeepAliveResponse, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(answer) = this.answers.pop_front() {
                return Poll::Ready(Some(Ok(answer)));
            }
            if let Some(renewals) = &mut this.renewals {
                let renewed = ready!(renewals.as_mut().poll(cx));
                this.renewals = None;
                match renewed {
                    Ok(answers) => this.answers.extend(answers),
                    Err(error) => return Poll::Ready(Some(Err(error.into()))),
                }
                continue;
            }
            let ids = this.poll_waiting(cx);
            if ids.is_empty() {
                return match this.end.take() {
                    Some(Ok(())) => Poll::Ready(None),
                    Some(Err(error)) => Poll::Ready(Some(Err(error))),
                    None => Poll::Pending,
                };
            }
            let front = Arc::clone(&this.front);
            this.renewals = Some(Box::pin(async move { keep_alive(&front, ids).await }));
        }
    }
}
