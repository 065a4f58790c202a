//! The body of every response this server gives.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use hyper::body::{Body, Frame, SizeHint};
use tonic::Status;

use super::segments::Segments;

/// A body made by a stream of messages.
pub(crate) type StreamBody = Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>;

/// What is still to be sent of a response.
pub(crate) enum ReplyBody {
    /// Nothing: the headers say it all.
    Empty,
    /// One gRPC message, then the trailers of success.
    Message(Segments),
    /// The trailers of success.
    Success,
    /// Messages, then trailers.
    Stream(StreamBody),
    /// Plain bytes: an HTTP endpoint's.
    Plain(Bytes),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Self::Stream(body) = &mut *self {
            return body.as_mut().poll_frame(cx);
        }
        let (next, frame) = match std::mem::replace(&mut *self, Self::Empty) {
            Self::Message(mut message) => match message.pop() {
                Some(piece) if message.is_empty() => (Self::Success, Some(Frame::data(piece))),
                Some(piece) => (Self::Message(message), Some(Frame::data(piece))),
                None => (Self::Empty, Some(Frame::trailers(success()))),
            },
            Self::Success => (Self::Empty, Some(Frame::trailers(success()))),
            Self::Plain(bytes) => (Self::Empty, Some(Frame::data(bytes))),
            Self::Empty | Self::Stream(_) => (Self::Empty, None),
        };
        *self = next;
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Plain(bytes) => bytes.is_empty(),
            Self::Message(_) | Self::Success => false,
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    /// Exact only for plain bytes: gRPC responses carry no content length.
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Plain(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Message(_) | Self::Success | Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// Trailers that say all went well.
pub(super) fn success() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}
