//! Frames: how a byte stream is cut into checked pieces.
//!
//! ```text
//! length of the body, u32 LE | CRC32C of the length, u32 LE | CRC32C of the body, u32 LE | body
//! ```
//!
//! The length has a checksum of its own, so a flipped bit in it is an error at once and not a long wait for bytes that never
//! come. A frame longer than the limit is refused, and what is announced reserves nothing: a buffer grows with what has
//! come, to twice as much at most. Bodies are slices of the receive buffer: a payload that is kept keeps its buffer, so
//! buffers are small ([`RECEIVE_BYTES`]) unless one frame is larger.
//!
//! What a body means is the business of [`wire`](crate::wire).

use bytes::{Bytes, BytesMut};

/// Bytes in front of each body.
pub const HEADER_BYTES: usize = 12;

/// Size of a receive buffer, unless one frame needs more.
pub const RECEIVE_BYTES: usize = 64 * 1024;

/// Size of a receive buffer while frames are as small as those of a handshake.
const RECEIVE_BYTES_MIN: usize = 1024;

/// A buffer with less room than this is replaced rather than read into.
const ROOM_BYTES_MIN: usize = 4 * 1024;

/// Why a stream can't be read any further. What was behind the error is lost: the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The announced length is over the limit.
    #[error("a frame of {length_bytes} bytes is over the limit of {frame_bytes_max}")]
    TooLarge {
        /// What the header says.
        length_bytes: u64,
        /// The limit.
        frame_bytes_max: usize,
    },
    /// The length is not the one that was sent.
    #[error("a frame's length is damaged")]
    Length,
    /// The bytes are not those that were sent.
    #[error("frame checksum is {found:08x} and not {expected:08x}")]
    Checksum {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
}

/// The header of the frame with this body, given in pieces.
///
/// `None` when the body is over `frame_bytes_max` or the four bytes of its length.
pub fn header<'a>(
    body: impl Iterator<Item = &'a [u8]> + Clone,
    frame_bytes_max: usize,
) -> Option<[u8; HEADER_BYTES]> {
    let length: usize = body.clone().map(<[u8]>::len).sum();
    let length = u32::try_from(length).ok().filter(|_| length <= frame_bytes_max)?;
    let checksum = body.fold(0, crc32c::crc32c_append);
    let fields = [length, length_checksum(length), checksum];
    let mut header = [0; HEADER_BYTES];
    for (place, field) in header.chunks_exact_mut(4).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    Some(header)
}

/// Cuts received bytes into frames.
///
/// Read into [`Receiver::room`], say how much with [`Receiver::received`], take frames with [`Receiver::next_frame`]
/// until it gives `None`, and read again.
#[derive(Debug)]
pub struct Receiver {
    /// Always initialised; the first `filled` bytes are received and not yet taken. `filled <= buffer.len()`.
    buffer: BytesMut,
    filled: usize,
    frame_bytes_max: usize,
}

impl Receiver {
    /// A receiver that refuses bodies over `frame_bytes_max` bytes.
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), filled: 0, frame_bytes_max }
    }

    /// Sets another limit, from the next frame on.
    pub fn limit(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Where the next bytes go; never empty.
    pub fn room(&mut self) -> &mut [u8] {
        if self.buffer.len() == self.filled {
            self.grow(self.filled + self.room_bytes_min());
        }
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// `count` bytes were put into the room.
    pub fn received(&mut self, count: usize) {
        self.filled = self.filled.saturating_add(count).min(self.buffer.len());
    }

    /// The body of the next whole frame; `None`: more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`]: this stream can't be trusted any further.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some((length, expected)) = self.header()? else {
            self.ensure(self.room_bytes_min());
            return Ok(None);
        };
        let whole = HEADER_BYTES + length;
        if self.filled < whole {
            // Never much more than what has come.
            let more = whole - self.filled;
            self.ensure(more.min(self.filled.max(self.room_bytes_min())));
            return Ok(None);
        }
        let frame = self.buffer.split_to(whole).freeze();
        self.filled -= whole;
        let body = frame.slice(HEADER_BYTES..);
        let found = crc32c::crc32c(&body);
        if found == expected {
            Ok(Some(body))
        } else {
            Err(FrameError::Checksum { expected, found })
        }
    }

    fn header(&self) -> Result<Option<(usize, u32)>, FrameError> {
        let received = self.buffer.get(..self.filled).unwrap_or_default();
        let Some(length) = field(received, 0) else { return Ok(None) };
        let Some(check) = field(received, 4) else { return Ok(None) };
        if check != length_checksum(length) {
            return Err(FrameError::Length);
        }
        let (length_bytes, frame_bytes_max) = (u64::from(length), self.frame_bytes_max);
        let length = usize::try_from(length).ok().filter(|length| *length <= frame_bytes_max);
        let length = length.ok_or(FrameError::TooLarge { length_bytes, frame_bytes_max })?;
        Ok(field(received, 8).map(|checksum| (length, checksum)))
    }

    /// Makes sure that `room_bytes` more bytes fit.
    fn ensure(&mut self, room_bytes: usize) {
        if self.buffer.len() - self.filled < room_bytes {
            self.grow(self.filled + room_bytes);
        }
    }

    /// How large a buffer is when nothing large has come.
    fn usual_bytes(&self) -> usize {
        self.frame_bytes_max.clamp(RECEIVE_BYTES_MIN, RECEIVE_BYTES)
    }

    fn room_bytes_min(&self) -> usize {
        ROOM_BYTES_MIN.min(self.usual_bytes())
    }

    /// A new buffer; the old one lives on under the bodies that were cut from it.
    fn grow(&mut self, bytes_min: usize) {
        let mut fresh = BytesMut::zeroed(bytes_min.max(self.usual_bytes()));
        if let (Some(to), Some(from)) =
            (fresh.get_mut(..self.filled), self.buffer.get(..self.filled))
        {
            to.copy_from_slice(from);
        }
        self.buffer = fresh;
    }
}

/// Not that of four zero bytes for an empty body: a stream of zeroes is no stream of frames.
fn length_checksum(length: u32) -> u32 {
    crc32c::crc32c(&length.to_le_bytes())
}

/// Four bytes of a header as a number.
fn field(received: &[u8], at: usize) -> Option<u32> {
    let bytes = received.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut bytes = header([body].into_iter(), MAX).unwrap().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    /// The first bytes of a frame with a body of this length.
    fn frame_of(length: usize) -> Vec<u8> {
        let body = vec![7; length];
        header([&body[..]].into_iter(), length).unwrap().into_iter().chain(body).collect()
    }

    fn receive(stream: &[u8], step: usize) -> Result<Vec<Bytes>, FrameError> {
        let mut receiver = Receiver::new(MAX);
        let mut frames = Vec::new();
        for piece in stream.chunks(step) {
            let mut rest = piece;
            while !rest.is_empty() {
                let room = receiver.room();
                let count = room.len().min(rest.len());
                room[..count].copy_from_slice(&rest[..count]);
                receiver.received(count);
                rest = &rest[count..];
                while let Some(body) = receiver.next_frame()? {
                    frames.push(body);
                }
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_back_however_the_stream_is_cut() {
        let bodies =
            [vec![], vec![7; 3], vec![1; RECEIVE_BYTES - 20], vec![2; 300_000], vec![9; 5]];
        let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
        for step in [1, 7, 8, 4096, 65_536, stream.len()] {
            assert_eq!(receive(&stream, step).unwrap(), bodies, "cut into pieces of {step}");
        }
    }

    #[test]
    fn a_header_of_pieces_is_the_header_of_the_whole() {
        let whole = header([&b"abcdef"[..]].into_iter(), MAX);
        assert_eq!(header([&b"ab"[..], b"", b"cdef"].into_iter(), MAX), whole);
        assert_eq!(header([&b"abcdef"[..]].into_iter(), 5), None);
    }

    #[test]
    fn every_flipped_bit_is_an_error_as_soon_as_its_part_is_there() {
        let good = frame(b"what was sent");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // A damaged length is seen in the header alone, without waiting for a body of that length.
            let in_length = bit < 64;
            let there = if in_length { &bad[..8] } else { &bad[..] };
            match receive(there, there.len()) {
                Ok(_) => panic!("bit {bit} went unseen"),
                Err(FrameError::Length) => assert!(in_length, "bit {bit}"),
                Err(FrameError::Checksum { .. }) => assert!(!in_length, "bit {bit}"),
                Err(error) => panic!("bit {bit}: {error}"),
            }
        }
    }

    #[test]
    fn what_is_announced_reserves_nothing() {
        let mut receiver = Receiver::new(64 << 20);
        let whole = frame_of(64 << 20);
        let mut come = 0;
        while come < 1 << 20 {
            let room = receiver.room();
            let count = room.len().min(1000);
            room[..count].copy_from_slice(&whole[come..come + count]);
            receiver.received(count);
            come += count;
            assert_eq!(receiver.next_frame(), Ok(None));
            let reserved = receiver.buffer.len();
            assert!(reserved <= (2 * come).max(RECEIVE_BYTES), "{reserved} bytes for {come}");
        }
    }

    #[test]
    fn before_a_handshake_a_kilobyte_is_reserved() {
        let mut receiver = Receiver::new(64);
        assert_eq!(receiver.room().len(), RECEIVE_BYTES_MIN);
        receiver.limit(MAX);
        let room = receiver.room().len();
        receiver.received(room);
        assert_eq!(receiver.next_frame(), Err(FrameError::Length), "zeroes are no frames");
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_it_is_allocated() {
        let mut stream = frame(b"x");
        stream[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        stream[4..8].copy_from_slice(&length_checksum(u32::MAX).to_le_bytes());
        let expected =
            FrameError::TooLarge { length_bytes: u64::from(u32::MAX), frame_bytes_max: MAX };
        assert_eq!(receive(&stream, 8), Err(expected));
    }
}
