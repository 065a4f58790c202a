//! Quorate's own request beside etcd's: what a member's Raft side knows.

use quorate_proto::inspect::{RaftRequest, RaftResponse};

use crate::{
    backend::{Backend, ServerError},
    front::Front,
};

/// Tells what the member's core knows at one moment. Answers without a leader, too.
///
/// # Errors
/// Those of [`Backend::raft`].
pub async fn raft<B: Backend>(
    front: &Front<B>,
    _: RaftRequest,
) -> Result<RaftResponse, ServerError> {
    let picture = front.backend.raft().await?;
    Ok(RaftResponse { header: Some(front.header()), ..picture })
}
