//! Cluster requests: the list of members. Changing it comes with membership changes.

use quorate_proto::etcdserverpb::{MemberListRequest, MemberListResponse, ResponseHeader};

use crate::{
    backend::{Backend, ServerError},
    front::Front,
};

/// Lists the members. Its header has no revision, as in etcd.
///
/// # Errors
/// Those of a read barrier, for a linearizable list.
pub async fn member_list<B: Backend>(
    front: &Front<B>,
    request: MemberListRequest,
) -> Result<MemberListResponse, ServerError> {
    front.settle(!request.linearizable).await?;
    let header = ResponseHeader { revision: 0, ..front.header() };
    Ok(MemberListResponse { header: Some(header), members: front.backend.members() })
}
