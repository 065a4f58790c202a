//! From the bytes of a request's body to its messages.
//!
//! A message is a flag byte, four bytes of length, and protobuf. The length is checked before a byte of the message is
//! kept, and nothing is reserved that has not come. A message that came in one piece is decoded where it lies; only one
//! that spans pieces is copied together.

use std::{
    fmt::Display,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::Body;
use prost::Message;
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::{encoding::Encoding, method::Method};
use crate::{backend::Backend, front::Front};

/// Flag and length before each message.
pub(super) const PREFIX_BYTES: usize = 5;

/// Cuts bytes into messages.
///
/// Invariant: of `whole` and `partial` at most one holds something.
#[derive(Debug)]
struct Deframer {
    message_bytes_max: usize,
    encoding: Encoding,
    whole: Bytes,
    partial: BytesMut,
}

impl Deframer {
    fn new(message_bytes_max: usize, encoding: Encoding) -> Self {
        Self { message_bytes_max, encoding, whole: Bytes::new(), partial: BytesMut::new() }
    }

    fn push(&mut self, piece: Bytes) {
        if self.partial.is_empty() && self.whole.is_empty() {
            self.whole = piece;
            return;
        }
        if !self.whole.is_empty() {
            self.partial.extend_from_slice(&std::mem::take(&mut self.whole));
        }
        self.partial.extend_from_slice(&piece);
    }

    /// The next complete message.
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let held: &[u8] = if self.partial.is_empty() { &self.whole } else { &self.partial };
        let Some(prefix) = held.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let (compressed, len) = read_prefix(*prefix, self.message_bytes_max)?;
        let end = PREFIX_BYTES + len;
        if held.len() < end {
            return Ok(None);
        }
        let mut message = if self.partial.is_empty() {
            self.whole.split_to(end)
        } else {
            self.partial.split_to(end).freeze()
        };
        message.advance(PREFIX_BYTES);
        if compressed {
            message = self.encoding.decompress(&message, self.message_bytes_max)?;
        }
        Ok(Some(message))
    }

    fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.partial.is_empty()
    }
}

/// Reads a prefix: whether the message is compressed, and its length. The texts are those of Go's server.
fn read_prefix(prefix: [u8; PREFIX_BYTES], max: usize) -> Result<(bool, usize), Status> {
    let [flag, length @ ..] = prefix;
    if flag > 1 {
        let text = format!("grpc: received unexpected payload format {flag}");
        return Err(Status::new(Code::Internal, text));
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > max {
        let text = format!("grpc: received message larger than max ({length} vs. {max})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok((flag == 1, length))
}

/// The messages of a request's body, as they come.
#[derive(Debug)]
pub(crate) struct Messages<M, B> {
    body: B,
    deframer: Deframer,
    ended: bool,
    kind: PhantomData<fn() -> M>,
}

impl<M, B> Messages<M, B> {
    /// Reads `body`, whose messages may have `message_bytes_max` bytes each.
    pub(crate) fn new(body: B, message_bytes_max: usize, encoding: Encoding) -> Self {
        let deframer = Deframer::new(message_bytes_max, encoding);
        Self { body, deframer, ended: false, kind: PhantomData }
    }
}

impl<M, B> Messages<M, B>
where
    M: Message + Default,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    /// The only message of a unary call. What follows it is not read.
    pub(crate) async fn single(mut self) -> Result<M, Status> {
        let first = std::future::poll_fn(|cx| Pin::new(&mut self).poll_next(cx)).await;
        first.unwrap_or_else(|| Err(Status::new(Code::Internal, "grpc: the call has no message")))
    }
}

impl<M, B> Stream for Messages<M, B>
where
    M: Message + Default,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match this.deframer.next() {
                Ok(Some(message)) => return Poll::Ready(Some(decode(message))),
                Ok(None) if this.ended => return Poll::Ready(None),
                Ok(None) => {}
                Err(status) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(status)));
                }
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        this.deframer.push(piece);
                    }
                }
                Some(Err(error)) => {
                    this.ended = true;
                    let text = format!("the client's stream broke off: {error}");
                    return Poll::Ready(Some(Err(Status::new(Code::Cancelled, text))));
                }
                None => {
                    this.ended = true;
                    if !this.deframer.is_empty() {
                        this.deframer = Deframer::new(0, Encoding::Identity);
                        let text = "grpc: the call ends in the middle of a message";
                        return Poll::Ready(Some(Err(Status::new(Code::Internal, text))));
                    }
                }
            }
        }
    }
}

fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| {
        Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}"))
    })
}

/// Counts the messages of a streamed call as they pass.
#[derive(Debug)]
pub(crate) struct Counted<B, S> {
    inner: S,
    front: Arc<Front<B>>,
    method: Method,
}

impl<B: Backend, S> Counted<B, S> {
    /// Counts what `inner` gives as received by `method`.
    pub(crate) fn new(inner: S, front: Arc<Front<B>>, method: Method) -> Self {
        Self { inner, front, method }
    }
}

impl<B, S, T> Stream for Counted<B, S>
where
    B: Backend,
    S: Stream<Item = Result<T, Status>> + Unpin,
{
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(Pin::new(&mut self.inner).poll_next(cx));
        if matches!(item, Some(Ok(_)))
            && let Some(metrics) = self.front.metrics.grpc.method(self.method)
        {
            metrics.received.increment();
        }
        Poll::Ready(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            bytes.push(0);
            bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
            bytes.extend(*payload);
        }
        bytes
    }

    /// All messages of `bytes`, pushed in pieces of `piece` bytes.
    fn messages(bytes: &[u8], piece: usize) -> Vec<Bytes> {
        let mut deframer = Deframer::new(100, Encoding::Identity);
        let mut found = Vec::new();
        for piece in bytes.chunks(piece) {
            deframer.push(Bytes::copy_from_slice(piece));
            while let Some(message) = deframer.next().unwrap() {
                found.push(message);
            }
        }
        assert!(deframer.is_empty());
        found
    }

    #[test]
    fn pieces_of_any_size_give_the_same_messages() {
        let payloads: [&[u8]; 4] = [b"first", b"", b"the third one", b"4"];
        let bytes = framed(&payloads);
        for piece in 1..=bytes.len() {
            assert_eq!(messages(&bytes, piece), payloads, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_message_in_one_piece_is_not_copied() {
        let piece = Bytes::from(framed(&[b"payload"]));
        let mut deframer = Deframer::new(100, Encoding::Identity);
        deframer.push(piece.clone());
        let message = deframer.next().unwrap().unwrap();
        assert_eq!(message.as_ptr(), piece.slice(PREFIX_BYTES..).as_ptr());
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let mut deframer = Deframer::new(64 << 20, Encoding::Identity);
        deframer.push(Bytes::from_static(&[0, 3, 0, 0, 0]));
        assert!(deframer.next().unwrap().is_none());
        deframer.push(Bytes::from_static(&[7; 100]));
        assert!(deframer.next().unwrap().is_none());
        assert!(deframer.partial.capacity() < 1024, "{}", deframer.partial.capacity());
    }

    #[test]
    fn bad_prefixes_are_refused_before_anything_is_kept() {
        let refused = |prefix: [u8; 5]| {
            let mut deframer = Deframer::new(100, Encoding::Identity);
            deframer.push(Bytes::copy_from_slice(&prefix));
            let status = deframer.next().unwrap_err();
            (status.code(), status.message().to_owned())
        };
        let large = "grpc: received message larger than max (101 vs. 100)";
        assert_eq!(refused([0, 0, 0, 0, 101]), (Code::ResourceExhausted, large.into()));
        assert_eq!(refused([1, 0, 0, 0, 0]).0, Code::Internal);
        assert_eq!(refused([9, 0, 0, 0, 0]).0, Code::Internal);
    }
}
