//! From messages to the bytes of a response.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use hyper::body::{Body, Frame};
use prost::Message;
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::{
    body::{ReplyBody, success},
    leader::LeaderGuard,
    method::Method,
    segments::Segments,
};
use crate::{
    backend::{Backend, ServerError},
    fair::Permit,
    front::Front,
    handle::stall::StallGuard,
    long_work::Paced,
};

/// Messages that are ready are put into one frame until it has this size.
const FRAME_BYTES: usize = 32 * 1024;

/// A response with one message.
pub(crate) fn message<M: Message + 'static>(message: &M) -> ReplyBody {
    let mut out = Segments::default();
    out.push_framed(message);
    ReplyBody::Message(out)
}

/// A response with one large message. Its room is given back as the client takes it, and taken away from a client that
/// takes nothing.
pub(crate) fn large(message: Segments, room: Permit, stall_max: Duration) -> ReplyBody {
    let pieces = LargePieces { message, room };
    ReplyBody::Stream(Box::pin(LargeBody(Some(StallGuard::new(pieces, stall_max)))))
}

/// What is left of a large message.
#[derive(Debug)]
struct LargePieces {
    message: Segments,
    room: Permit,
}

impl Stream for LargePieces {
    type Item = Result<Bytes, ServerError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = self.message.pop();
        let left = self.message.len() as u64;
        self.room.set_weight(left);
        Poll::Ready(piece.map(Ok))
    }
}

/// A large message, then its trailers.
struct LargeBody(Option<StallGuard<LargePieces>>);

impl Body for LargeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(pieces) = &mut self.0 else { return Poll::Ready(None) };
        let status = match ready!(Pin::new(pieces).poll_next(cx)) {
            Some(Ok(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
            Some(Err(error)) => Some(Status::from(error)),
            None => None,
        };
        self.0 = None;
        Poll::Ready(Some(Ok(Frame::trailers(status.map_or_else(success, |status| {
            let mut trailers = HeaderMap::with_capacity(2);
            write_status(&status, &mut trailers);
            trailers
        })))))
    }
}

/// A successful response's head around `body`.
pub(crate) fn response(body: ReplyBody) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A response that is nothing but a status.
pub(crate) fn refusal(status: &Status) -> Response<ReplyBody> {
    let mut response = response(ReplyBody::Empty);
    write_status(status, response.headers_mut());
    response
}

/// Writes a status into headers or trailers. One that can't be written loses its text, not its code.
fn write_status(status: &Status, headers: &mut HeaderMap) {
    if status.add_header(headers).is_err() {
        headers.insert(Status::GRPC_STATUS, HeaderValue::from(status.code() as i32));
    }
}

/// The body of a streamed response: its messages, then the trailers with the status.
pub(crate) struct Streamed<B: Backend, S> {
    front: Arc<Front<B>>,
    method: Method,
    messages: S,
    leader: Option<LeaderGuard<B>>,
    /// Made, and not yet sent.
    made: Segments,
    /// How it ended, once it has: told in the trailers.
    ended: Option<Result<(), Status>>,
    /// The trailers are out.
    finished: bool,
}

impl<B: Backend, S> Streamed<B, S> {
    /// Streams `messages` as the answer to a call of `method`; with a guard it ends when the leader is lost.
    pub(crate) fn new(
        front: &Arc<Front<B>>,
        method: Method,
        messages: S,
        leader: Option<LeaderGuard<B>>,
    ) -> Self {
        let front = Arc::clone(front);
        let made = Segments::default();
        Self { front, method, messages, leader, made, ended: None, finished: false }
    }

    /// Counts the end of the call, once.
    fn finish(&mut self, code: Code) {
        if !std::mem::replace(&mut self.finished, true) {
            self.front.metrics.grpc.handled(self.method, code);
        }
    }

    fn trailers(&mut self, end: &Result<(), Status>) -> HeaderMap {
        match end {
            Ok(()) => {
                self.finish(Code::Ok);
                success()
            }
            Err(status) => {
                self.finish(status.code());
                let mut trailers = HeaderMap::with_capacity(2);
                write_status(status, &mut trailers);
                trailers
            }
        }
    }
}

impl<B, S, M, E> Streamed<B, S>
where
    B: Backend,
    S: Stream<Item = Result<M, E>> + Unpin,
    M: Message + 'static,
    E: Into<Status>,
{
    /// Gathers the messages that are ready, until there is a frame's worth of them. None if there is none now, or no more.
    fn gather(&mut self, cx: &mut Context<'_>) {
        let mut count = 0;
        while self.made.len() < FRAME_BYTES && self.ended.is_none() {
            match Pin::new(&mut self.messages).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.ended = Some(Ok(())),
                Poll::Ready(Some(Err(error))) => self.ended = Some(Err(error.into())),
                Poll::Ready(Some(Ok(message))) => {
                    self.made.push_framed(&message);
                    count += 1;
                }
            }
        }
        if let Some(metrics) = self.front.metrics.grpc.method(self.method) {
            metrics.sent.add(count);
        }
    }
}

impl<B, S, M, E> Body for Streamed<B, S>
where
    B: Backend,
    S: Stream<Item = Result<M, E>> + Paced + Send + Unpin,
    M: Message + 'static,
    E: Into<Status>,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if this.finished {
            return Poll::Ready(None);
        }
        if let Some(guard) = &mut this.leader
            && let Poll::Ready(status) = guard.poll_lost(cx)
        {
            this.ended = Some(Err(status));
        }
        if this.made.is_empty() {
            this.gather(cx);
        }
        if let Some(piece) = this.made.pop() {
            // Gathering may have ended by asking for one message too many.
            this.messages.sending();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match this.ended.take() {
            Some(end) => Poll::Ready(Some(Ok(Frame::trailers(this.trailers(&end))))),
            None => Poll::Pending,
        }
    }
}

/// A client that left canceled its call.
impl<B: Backend, S> Drop for Streamed<B, S> {
    fn drop(&mut self) {
        self.finish(Code::Cancelled);
    }
}
