//! The body of a call, as the handlers read it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Error as H2Error, RecvStream};
use hyper::body::{Body, Frame};

/// What a client sends on a call. What was read makes room for more.
#[derive(Debug)]
pub(crate) struct RequestBody(RecvStream);

impl From<RecvStream> for RequestBody {
    fn from(stream: RecvStream) -> Self {
        Self(stream)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = H2Error;

    /// Trailers are not read: gRPC's clients send none.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, H2Error>>> {
        let next = ready!(self.0.poll_data(cx));
        if let Some(Ok(data)) = &next {
            // Fails only for more than was received.
            let _ = self.0.flow_control().release_capacity(data.len());
        }
        Poll::Ready(next.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
