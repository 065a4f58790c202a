//! What a frame's body says.
//!
//! The first byte names the kind; then the fields follow in the order of their declaration, numbers little endian, flags as
//! 0 or 1, byte strings with a length of four bytes in front, lists with a count of four bytes. Nothing is optional and
//! nothing may be left over: two members speak only when their [`PROTOCOL_VERSION`](crate::handshake::PROTOCOL_VERSION)s
//! are equal, so the encoding carries no version of its own. The kinds are in `wire/encode.rs` beside their writers.
//!
//! Decoding is total: every input is a body or a [`DecodeError`], and no count or length makes it allocate more than the
//! frame's own size. Payloads come out as slices of the frame.

mod decode;
mod encode;

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_node::PeerMessage;

pub use decode::{DecodeError, decode};
pub use encode::{encode, size_estimate};

use crate::{
    frame::{self, Receiver},
    handshake::HANDSHAKE_BYTES_MAX,
};

/// What follows after the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A sign of life, with the sender's own clock; answered by `Pong`.
    Ping(u64),
    /// The number of a `Ping`, sent back.
    Pong(u64),
    /// A message between nodes.
    Message(PeerMessage),
}

/// Writes one small frame at once.
pub(crate) fn write_plain(stream: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let header = frame::header([body].into_iter(), HANDSHAKE_BYTES_MAX)
        .ok_or_else(|| too_large(body.len()))?;
    stream.write_all(&[&header, body].concat())
}

/// Reads what is there, at least one byte.
pub(crate) fn read_some(stream: &mut impl Read, receiver: &mut Receiver) -> io::Result<usize> {
    loop {
        match stream.read(receiver.room()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                receiver.received(count);
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads until a frame is whole.
pub(crate) fn read_frame(stream: &mut impl Read, receiver: &mut Receiver) -> io::Result<Bytes> {
    loop {
        if let Some(frame) = receiver.next_frame().map_err(io::Error::other)? {
            return Ok(frame);
        }
        read_some(stream, receiver)?;
    }
}

/// As [`read_frame`], but gives up after `patience`, however often something comes.
pub(crate) fn read_frame_within(
    mut stream: &TcpStream,
    receiver: &mut Receiver,
    patience: Duration,
) -> io::Result<Bytes> {
    let began = Instant::now();
    loop {
        if let Some(frame) = receiver.next_frame().map_err(io::Error::other)? {
            return Ok(frame);
        }
        let left = patience.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        read_some(&mut stream, receiver)?;
    }
}

/// The error for a frame of ours that is over the limit.
pub(crate) fn too_large(bytes: usize) -> io::Error {
    io::Error::other(format!("a frame of {bytes} bytes is over the limit"))
}
