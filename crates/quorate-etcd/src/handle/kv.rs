//! Key-value requests: range, put, delete, transaction, compaction.

use quorate_kv::check;
use quorate_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};

use crate::{
    backend::{Backend, ServerError},
    front::{Front, proposed},
    long_work::{Pairs, RangeInto, Roomy},
};

/// Answers a range; a linearizable one after a read barrier.
///
/// # Errors
/// Those of [`check::range`], of a read barrier and of the read; [`ServerError::TooManyRequests`] when too many long reads
/// wait.
pub async fn range<B: Backend>(
    front: &Front<B>,
    request: RangeRequest,
) -> Result<RangeResponse, ServerError> {
    let (end, kvs) = range_into::<_, Vec<_>>(front, request).await?.answer;
    Ok(RangeResponse { kvs, ..end })
}

/// The same, with the pairs put where they are wanted as they come.
pub(crate) async fn range_into<B: Backend, P: Pairs>(
    front: &Front<B>,
    request: RangeRequest,
) -> Result<Roomy<(RangeResponse, P)>, ServerError> {
    check::range(&request)?;
    front.settle(request.serializable).await?;
    let begin = || Ok(RangeInto::new(front.backend.reader().long_range(&request)?));
    let mut found = front.short_or_long(begin).await?;
    front.complete(&mut found.answer.0.header);
    Ok(found)
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
    Ok(txn_with_room(front, request).await?.answer)
}

/// The same, with the room that a large answer takes.
pub(crate) async fn txn_with_room<B: Backend>(
    front: &Front<B>,
    request: TxnRequest,
) -> Result<Roomy<TxnResponse>, ServerError> {
    check::txn(&request, front.settings.max_txn_ops)?;
    if check::is_read_only(&request) {
        front.settle(check::is_serializable(&request)).await?;
        let begin = || front.backend.reader().long_txn(&request);
        let mut found = front.short_or_long(begin).await?;
        front.complete(&mut found.answer.header);
        return Ok(found);
    }
    Ok(Roomy { answer: proposed!(front, Txn, request), room: None })
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
