//! Ranges as a stream of pieces: the server holds one piece at a time, however large the whole is.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quorate_kv::{RangeStream, RequestError, check};
use quorate_proto::etcdserverpb::{RangeRequest, RangeStreamResponse};
use tokio_stream::Stream;

use crate::{
    backend::{Backend, ServerError},
    front::Front,
};

/// What a piece grows towards. Large enough that its framing costs nothing, small enough for many streams at once.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// Begins a streamed range. All pieces show one state; only the last has a header, `more` and `count`.
///
/// # Errors
/// Those of [`check::range_stream`], of a read barrier and of the read.
pub async fn range_stream<B: Backend>(
    front: &Arc<Front<B>>,
    request: RangeRequest,
) -> Result<RangeChunks<B>, ServerError> {
    refuse_unsupported(&request)?;
    front.settle(request.serializable).await?;
    let pieces = pieces(front, &request, CHUNK_BYTES)?;
    Ok(RangeChunks { front: Arc::clone(front), pieces, turn_over: false })
}

/// Opens the range on the newest reader.
pub(super) fn pieces<B: Backend>(
    front: &Front<B>,
    request: &RangeRequest,
    chunk_bytes: usize,
) -> Result<RangeStream, ServerError> {
    Ok(front.backend.reader().range_stream(request, chunk_bytes)?)
}

/// etcd tells sorting and filtering apart in its refusal.
fn refuse_unsupported(request: &RangeRequest) -> Result<(), ServerError> {
    let sorted = !check::is_default_ordering(request);
    match check::range_stream(request) {
        Err(RequestError::StreamUnsupported) if !sorted => {
            Err(ServerError::Unimplemented("RangeStream does not support revision filters"))
        }
        result => Ok(result?),
    }
}

/// The pieces of one range, read as the client takes them.
#[derive(Debug)]
pub struct RangeChunks<B> {
    front: Arc<Front<B>>,
    pieces: RangeStream,
    /// A piece was just given; other requests go first before the next is read.
    turn_over: bool,
}

impl<B: Backend> Stream for RangeChunks<B> {
    type Item = Result<RangeStreamResponse, ServerError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.turn_over) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.turn_over = true;
        let piece = match self.pieces.next_chunk() {
            Ok(Some(mut piece)) => {
                if piece.header.is_some() {
                    self.front.complete(&mut piece.header);
                }
                Ok(RangeStreamResponse { range_response: Some(piece) })
            }
            Ok(None) => return Poll::Ready(None),
            Err(error) => Err(error.into()),
        };
        Poll::Ready(Some(piece))
    }
}
