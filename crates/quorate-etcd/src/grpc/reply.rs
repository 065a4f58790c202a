//! From messages to the bytes of a response.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use hyper::body::{Body, Frame};
use prost::Message;
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::{
    body::{ReplyBody, success},
    deframe::PREFIX_BYTES,
    leader::LeaderGuard,
    method::Method,
};
use crate::{backend::Backend, front::Front};

/// Messages that are ready are put into one frame until it has this size.
const FRAME_BYTES: usize = 32 * 1024;

/// A response with one message.
pub(crate) fn message<M: Message>(message: &M) -> ReplyBody {
    let mut out = BytesMut::with_capacity(PREFIX_BYTES + message.encoded_len());
    append(&mut out, message);
    ReplyBody::Message(out.freeze())
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

/// Appends a message with its prefix.
fn append<M: Message>(out: &mut BytesMut, message: &M) {
    let len = message.encoded_len();
    out.reserve(PREFIX_BYTES + len);
    out.put_u8(0);
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    // A buffer that grows has room for everything.
    let _ = message.encode(out);
}

/// The body of a streamed response: its messages, then the trailers with the status.
pub(crate) struct Streamed<B: Backend, S> {
    front: Arc<Front<B>>,
    method: Method,
    messages: S,
    leader: Option<LeaderGuard<B>>,
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
        Self { front, method, messages, leader, ended: None, finished: false }
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
    M: Message,
    E: Into<Status>,
{
    /// Gathers the messages that are ready into one frame. Empty if there is none now, or no more.
    fn gather(&mut self, cx: &mut Context<'_>) -> Bytes {
        let mut frame = BytesMut::new();
        let mut count = 0;
        while frame.len() < FRAME_BYTES && self.ended.is_none() {
            match Pin::new(&mut self.messages).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.ended = Some(Ok(())),
                Poll::Ready(Some(Err(error))) => self.ended = Some(Err(error.into())),
                Poll::Ready(Some(Ok(message))) => {
                    append(&mut frame, &message);
                    count += 1;
                }
            }
        }
        if let Some(metrics) = self.front.metrics.grpc.method(self.method) {
            metrics.sent.add(count);
        }
        frame.freeze()
    }
}

impl<B, S, M, E> Body for Streamed<B, S>
where
    B: Backend,
    S: Stream<Item = Result<M, E>> + Send + Unpin,
    M: Message,
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
        let frame = this.gather(cx);
        if !frame.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
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
