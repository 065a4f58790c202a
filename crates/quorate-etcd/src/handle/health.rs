//! gRPC's health protocol. As in etcd the server as a whole, service `""`, serves for as long as it runs; whether the
//! cluster has a leader is told by `/health` and `/readyz`.
//!
//! Source: grpc `doc/health-checking.md`; etcd `server/etcdserver/api/v3rpc/health.go`.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use quorate_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus,
};
use tokio_stream::Stream;

use crate::{backend::ServerError, long_work::Paced};

/// Whether a service serves; `None` for one that is not known.
pub fn check(request: &HealthCheckRequest) -> Option<HealthCheckResponse> {
    let status = ServingStatus::Serving.into();
    request.service.is_empty().then_some(HealthCheckResponse { status })
}

/// All services that [`check`] knows.
pub fn list(_: &HealthListRequest) -> HealthListResponse {
    let whole = HealthCheckResponse { status: ServingStatus::Serving.into() };
    HealthListResponse { statuses: [(String::new(), whole)].into() }
}

/// Tells whether a service serves, now and at each change. There is no change while the server runs.
pub fn watch(request: &HealthCheckRequest) -> HealthChanges {
    let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
    HealthChanges { next: Some(check(request).unwrap_or(unknown)) }
}

/// One status, then silence until the client leaves.
#[derive(Clone, Debug)]
pub struct HealthChanges {
    next: Option<HealthCheckResponse>,
}

impl Paced for HealthChanges {}

impl Stream for HealthChanges {
    type Item = Result<HealthCheckResponse, ServerError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.next.take().map_or(Poll::Pending, |status| Poll::Ready(Some(Ok(status))))
    }
}
