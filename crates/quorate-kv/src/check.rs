//! etcd's checks of requests, before anything else looks at them. Pure: only the request decides.
//!
//! The front door asks them before it proposes or reads; the store asks the same again for every command, so that no
//! entry of a log, however it got there, can break the key space.
//!
//! Source: etcd `server/etcdserver/api/v3rpc/key.go`.

mod overlap;

use quorate_proto::etcdserverpb::{self as pb, range_request, request_op::Request};

use crate::{LEASE_TTL_MAX_SECONDS, RequestError};

/// A range.
///
/// # Errors
/// [`RequestError::EmptyKey`], [`RequestError::InvalidSortOption`].
pub fn range(request: &pb::RangeRequest) -> Result<(), RequestError> {
    key(&request.key)?;
    range_request::SortOrder::try_from(request.sort_order)
        .and(range_request::SortTarget::try_from(request.sort_target))
        .map(|_| ())
        .map_err(|_| RequestError::InvalidSortOption)
}

/// A streamed range: as [`range()`], in no particular order or in key order, without revision filters.
///
/// # Errors
/// As [`range()`], and [`RequestError::StreamUnsupported`].
pub fn range_stream(request: &pb::RangeRequest) -> Result<(), RequestError> {
    range(request)?;
    let sorted = !is_default_ordering(request);
    let filtered = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    if sorted || filtered { Err(RequestError::StreamUnsupported) } else { Ok(()) }
}

/// Whether a range asks for no order, or for the one that it has anyway (etcd `server/etcdserver/txn/range.go`).
pub fn is_default_ordering(request: &pb::RangeRequest) -> bool {
    use range_request::{SortOrder, SortTarget};
    let by_key = request.sort_target == i32::from(SortTarget::Key);
    request.sort_order == i32::from(SortOrder::None)
        || (by_key && request.sort_order == i32::from(SortOrder::Ascend))
}

/// A put.
///
/// # Errors
/// [`RequestError::EmptyKey`], [`RequestError::ValueProvided`], [`RequestError::LeaseProvided`].
pub fn put(request: &pb::PutRequest) -> Result<(), RequestError> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(RequestError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(RequestError::LeaseProvided);
    }
    Ok(())
}

/// A delete.
///
/// # Errors
/// [`RequestError::EmptyKey`].
pub fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), RequestError> {
    key(&request.key)
}

/// How deep transactions may be nested, the outermost counted. It keeps a command within the hundred levels of messages
/// that the decoder follows; etcd's only bound is the number of operations.
pub const TXN_DEPTH_MAX: usize = 40;

/// A transaction: every list of at most `ops_max` operations, nested ones of what is left; no deeper than
/// [`TXN_DEPTH_MAX`]; every operation by its own check; and no key written twice.
///
/// # Errors
/// [`RequestError::TooManyOps`], also for too deep a nesting; [`RequestError::DuplicateKey`];
/// [`RequestError::KeyNotFound`] for an empty operation; and those of its operations.
pub fn txn(request: &pb::TxnRequest, ops_max: usize) -> Result<(), RequestError> {
    txn_ops(request, ops_max, TXN_DEPTH_MAX)?;
    overlap::check(request)
}

/// A lease grant. An id of 0 asks the server to choose one.
///
/// # Errors
/// [`RequestError::LeaseTtlTooLarge`].
pub fn lease_grant(request: &pb::LeaseGrantRequest) -> Result<(), RequestError> {
    if request.ttl > LEASE_TTL_MAX_SECONDS { Err(RequestError::LeaseTtlTooLarge) } else { Ok(()) }
}

/// Whether a transaction can be answered without the log: it holds nothing but ranges. A nested transaction always
/// goes through the log (etcd point 26).
pub fn is_read_only(request: &pb::TxnRequest) -> bool {
    ops(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a read-only transaction may be answered from a state that lags behind: every range says so, and there is one.
///
/// etcd takes a transaction of comparisons alone as serializable, too, and may give a stale answer (etcd point 27); that
/// is refused here.
pub fn is_serializable(request: &pb::TxnRequest) -> bool {
    let serializable = |op: &pb::RequestOp| match &op.request {
        Some(Request::RequestRange(range)) => range.serializable,
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_) | Request::RequestTxn(_))
        | None => false,
    };
    ops(request).next().is_some() && ops(request).all(serializable)
}

/// Whether a transaction may take space: it holds a put, at any depth.
pub(crate) fn takes_space(request: &pb::TxnRequest) -> bool {
    ops(request).any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(nested)) => takes_space(nested),
        Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => false,
    })
}

fn ops(request: &pb::TxnRequest) -> impl Iterator<Item = &pb::RequestOp> {
    request.success.iter().chain(&request.failure)
}

fn key(key: &[u8]) -> Result<(), RequestError> {
    if key.is_empty() { Err(RequestError::EmptyKey) } else { Ok(()) }
}

fn txn_ops(request: &pb::TxnRequest, ops_max: usize, depth_max: usize) -> Result<(), RequestError> {
    let depth_left = depth_max.checked_sub(1).ok_or(RequestError::TooManyOps)?;
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = ops_max.checked_sub(longest).ok_or(RequestError::TooManyOps)?;
    for compare in &request.compare {
        key(&compare.key)?;
    }
    ops(request).try_for_each(|op| request_op(op, left, depth_left))
}

fn request_op(op: &pb::RequestOp, ops_left: usize, depth_left: usize) -> Result<(), RequestError> {
    match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => txn_ops(request, ops_left, depth_left),
        None => Err(RequestError::KeyNotFound),
    }
}
