//! Ranges as a stream of pieces: the server holds one piece at a time, however large the whole is.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use quorate_kv::{RangeStream, RequestError, StreamStep, check};
use quorate_proto::etcdserverpb::{RangeRequest, RangeStreamResponse};
use tokio_stream::Stream;

use super::stall::StallGuard;
use crate::{
    backend::{Backend, ServerError},
    fair::Permit,
    front::Front,
    long_work::{Paced, Turns},
};

/// What a piece grows towards. Large enough that its framing costs nothing, small enough for many streams at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Begins a streamed range. All pieces show one state; only the last has a header, `more` and `count`.
///
/// # Errors
/// Those of [`check::range_stream`], of a read barrier and of the read; [`ServerError::TooManyRequests`] when too many wait.
pub async fn range_stream<B: Backend>(
    front: &Arc<Front<B>>,
    request: RangeRequest,
) -> Result<StallGuard<RangeChunks<B>>, ServerError> {
    refuse_unsupported(&request)?;
    let open = front.admission.range_streams.acquire(front.client, 1)?.await;
    front.settle(request.serializable).await?;
    let file_bytes = front.backend.status().file_bytes;
    let pieces = front.backend.reader().range_stream(&request, CHUNK_BYTES)?;
    let stall_max = front.settings.limits.stall_max;
    let chunks =
        RangeChunks { front: Arc::clone(front), pieces, turns: Turns::default(), _open: open };
    Ok(StallGuard::with_view(chunks, stall_max, (front.backend.views(), file_bytes)))
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
    turns: Turns,
    _open: Permit,
}

impl<B> Paced for RangeChunks<B> {
    fn sending(&mut self) {
        self.turns.leave();
    }
}

impl<B: Backend> Stream for RangeChunks<B> {
    type Item = Result<RangeStreamResponse, ServerError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let turn = ready!(this.turns.poll(&this.front, cx));
            let step = this.pieces.advance(&mut this.front.slice());
            this.turns.pass_on(turn);
            return Poll::Ready(match step {
                Ok(StreamStep::Working) => continue,
                Ok(StreamStep::Ended) => None,
                Ok(StreamStep::Chunk(mut piece)) => {
                    if piece.header.is_some() {
                        this.front.complete(&mut piece.header);
                    }
                    Some(Ok(RangeStreamResponse { range_response: Some(piece) }))
                }
                Err(error) => Some(Err(error.into())),
            });
        }
    }
}
