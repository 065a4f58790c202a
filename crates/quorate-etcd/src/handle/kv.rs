//! Key-value requests: range, put, delete, transaction, compaction.

use quorate_kv::check;
use quorate_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};

use super::range_stream::{self, CHUNK_BYTES};
use crate::{
    backend::{Backend, ServerError},
    front::{Front, proposed},
};

/// A range that may hold more keys than this is read in pieces, between which other requests get their turn.
const KEYS_AT_ONCE_MAX: i64 = 1000;

/// Answers a range; a linearizable one after a read barrier.
///
/// # Errors
/// Those of [`check::range`], of a read barrier and of the read.
pub async fn range<B: Backend>(
    front: &Front<B>,
    request: RangeRequest,
) -> Result<RangeResponse, ServerError> {
    check::range(&request)?;
    front.settle(request.serializable).await?;
    let mut response = if may_be_large(&request) {
        range_in_pieces(front, &request).await?
    } else {
        front.backend.reader().range(&request)?
    };
    front.complete(&mut response.header);
    Ok(response)
}

/// Sets a key.
///
/// # Errors
/// Those of [`check::put`] and of a proposal.
pub async fn put<B: Backend>(
    front: &Front<B>,
    request: PutRequest,
) -> Result<PutResponse, ServerError> {
    check::put(&request)?;
    Ok(proposed!(front, Put, request))
}

/// Deletes a range of keys.
///
/// # Errors
/// Those of [`check::delete_range`] and of a proposal.
pub async fn delete_range<B: Backend>(
    front: &Front<B>,
    request: DeleteRangeRequest,
) -> Result<DeleteRangeResponse, ServerError> {
    check::delete_range(&request)?;
    Ok(proposed!(front, DeleteRange, request))
}

/// Runs a transaction: one of ranges alone as a read, every other through the log.
///
/// # Errors
/// Those of [`check::txn`], of a read barrier and read, or of a proposal.
pub async fn txn<B: Backend>(
    front: &Front<B>,
    request: TxnRequest,
) -> Result<TxnResponse, ServerError> {
    check::txn(&request, front.settings.max_txn_ops)?;
    if check::is_read_only(&request) {
        front.settle(check::is_serializable(&request)).await?;
        let mut response = front.backend.reader().txn(&request)?;
        front.complete(&mut response.header);
        return Ok(response);
    }
    Ok(proposed!(front, Txn, request))
}

/// Forgets history below a revision. A physical one is answered once this member has removed it.
///
/// # Errors
/// Those of a proposal.
pub async fn compact<B: Backend>(
    front: &Front<B>,
    request: CompactionRequest,
) -> Result<CompactionResponse, ServerError> {
    let response = proposed!(front, Compaction, request);
    if request.physical {
        front.backend.purged(request.revision).await?;
    }
    Ok(response)
}

/// Whether a range is worth reading in pieces, and can be.
fn may_be_large(request: &RangeRequest) -> bool {
    let many = request.limit <= 0 || request.limit > KEYS_AT_ONCE_MAX;
    many && !request.range_end.is_empty()
        && !request.count_only
        && check::range_stream(request).is_ok()
}

/// Reads a range over one state, piece by piece, giving way to other requests in between.
async fn range_in_pieces<B: Backend>(
    front: &Front<B>,
    request: &RangeRequest,
) -> Result<RangeResponse, ServerError> {
    let mut pieces = range_stream::pieces(front, request, CHUNK_BYTES)?;
    let mut whole = RangeResponse::default();
    while let Some(mut piece) = pieces.next_chunk()? {
        whole.kvs.append(&mut piece.kvs);
        if piece.header.is_some() {
            return Ok(RangeResponse { kvs: whole.kvs, ..piece });
        }
        tokio::task::yield_now().await;
    }
    Ok(whole)
}
