//! Lease requests. Leases live in the replicated state; their time lives with the leader.

use std::{
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

/// Starts a lease's time anew; `ttl` 0 says that it is gone.
///
/// The header is taken before the renewal, so that its revision is never one at which the lease was already revoked.
///
/// # Errors
/// Those of [`Backend::lease_renew`].
pub async fn keep_alive<B: Backend>(
    front: &Front<B>,
    request: LeaseKeepAliveRequest,
) -> Result<LeaseKeepAliveResponse, ServerError> {
    let header = Some(front.header());
    let ttl = front.backend.lease_renew(request.id).await?.unwrap_or(0);
    Ok(LeaseKeepAliveResponse { header, id: request.id, ttl })
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

/// One renewal under way.
type Renewal = Pin<Box<dyn Future<Output = Result<LeaseKeepAliveResponse, ServerError>> + Send>>;

/// Answers a client's renewals in their order, one at a time.
pub struct KeepAlives<B, R> {
    front: Arc<Front<B>>,
    requests: R,
    renewal: Option<Renewal>,
}

impl<B: Backend, R> KeepAlives<B, R> {
    /// A stream of answers to `requests`; it ends with them.
    pub fn new(front: &Arc<Front<B>>, requests: R) -> Self {
        Self { front: Arc::clone(front), requests, renewal: None }
    }
}

impl<B, R> std::fmt::Debug for KeepAlives<B, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeepAlives")
            .field("renewing", &self.renewal.is_some())
            .finish_non_exhaustive()
    }
}

impl<B, R, E> Stream for KeepAlives<B, R>
where
    B: Backend,
    R: Stream<Item = Result<LeaseKeepAliveRequest, E>> + Unpin,
    E: From<ServerError>,
{
    type Item = Result<LeaseKeepAliveResponse, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(renewal) = &mut this.renewal {
                let answer = ready!(renewal.as_mut().poll(cx));
                this.renewal = None;
                return Poll::Ready(Some(answer.map_err(E::from)));
            }
            let request = match ready!(Pin::new(&mut this.requests).poll_next(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(request)) => request,
            };
            let front = Arc::clone(&this.front);
            this.renewal = Some(Box::pin(async move { keep_alive(&front, request).await }));
        }
    }
}
