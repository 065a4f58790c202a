//! Frames on their way out: encoded once, written together.
//!
//! Small fields and small payloads are copied into one scratch buffer; larger payloads stay where they are and are only
//! pointed at. Everything that one turn of a writer has goes out in one vectored write, so a hundred messages cost about
//! as many system calls as one.

use std::{
    io::{self, IoSlice, Write},
    net::TcpStream,
    ops::Range,
};

use bytes::Bytes;
use socket2::SockRef;

use crate::frame::{self, HEADER_BYTES};

/// Payloads from this size on are not copied. Below it, a copy is cheaper than one more piece in the vectored write.
const SHARED_BYTES_MIN: usize = 1024;

/// How much memory a batch keeps for the next one, in bytes.
const SCRATCH_BYTES_KEPT: usize = 64 << 10;

/// The most pieces that one system call takes (`IOV_MAX` on Linux).
const PIECES_MAX: usize = 1024;

/// A batch of frames being put together.
///
/// [`Outgoing::begin`], then the body's fields, then [`Outgoing::finish`]; after some frames, [`Outgoing::write_to`].
#[derive(Debug)]
pub struct Outgoing {
    frame_bytes_max: usize,
    /// Headers, fields and small payloads of all frames.
    scratch: Vec<u8>,
    /// The stream in order, but for the scratch bytes from `open` on.
    pieces: Vec<Piece>,
    open: usize,
    /// Where the frame being put together begins.
    frame: Mark,
}

#[derive(Debug)]
enum Piece {
    Scratch(Range<usize>),
    Shared(Bytes),
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    scratch: usize,
    pieces: usize,
    open: usize,
}

impl Outgoing {
    /// An empty batch; bodies over `frame_bytes_max` bytes are refused.
    pub fn new(frame_bytes_max: usize) -> Self {
        Self {
            frame_bytes_max,
            scratch: Vec::new(),
            pieces: Vec::new(),
            open: 0,
            frame: Mark::default(),
        }
    }

    /// Begins a frame.
    pub fn begin(&mut self) {
        let (scratch, pieces) = (self.scratch.len(), self.pieces.len());
        self.frame = Mark { scratch, pieces, open: self.open };
        self.scratch.extend_from_slice(&[0; HEADER_BYTES]);
    }

    /// Adds one byte to the body.
    pub fn put_u8(&mut self, value: u8) {
        self.scratch.push(value);
    }

    /// Adds a number to the body, four bytes LE.
    pub fn put_u32(&mut self, value: u32) {
        self.scratch.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds a number to the body, eight bytes LE.
    pub fn put_u64(&mut self, value: u64) {
        self.scratch.extend_from_slice(&value.to_le_bytes());
    }

    /// Adds bytes to the body, without their length; large ones are shared, not copied.
    pub fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.scratch.extend_from_slice(bytes);
            return;
        }
        self.close_scratch();
        self.pieces.push(Piece::Shared(bytes.clone()));
    }

    /// Ends the frame.
    ///
    /// # Errors
    /// The size of the body, when it is over the limit; the frame is left out of the batch then.
    pub fn finish(&mut self) -> Result<(), usize> {
        let Some(header) = frame::header(self.body(), self.frame_bytes_max) else {
            let bytes = self.body().map(<[u8]>::len).sum();
            self.scratch.truncate(self.frame.scratch);
            self.pieces.truncate(self.frame.pieces);
            self.open = self.frame.open;
            return Err(bytes);
        };
        let start = self.frame.scratch;
        if let Some(space) = self.scratch.get_mut(start..start + HEADER_BYTES) {
            space.copy_from_slice(&header);
        }
        Ok(())
    }

    /// Size of all frames together.
    pub fn bytes(&self) -> usize {
        let closed: usize = self.slices().map(<[u8]>::len).sum();
        closed + (self.scratch.len() - self.open)
    }

    /// Writes all frames, and empties the batch.
    ///
    /// # Errors
    /// What the stream says; how much of the batch was written is not known then, and the batch is empty.
    pub fn write_to(&mut self, stream: &mut impl Write) -> io::Result<()> {
        self.close_scratch();
        let mut slices: Vec<IoSlice<'_>> = self.slices().map(IoSlice::new).collect();
        let outcome = write_all_vectored(stream, &mut slices);
        self.clear();
        outcome
    }

    /// Adds bytes of frames that were put together before; between frames only.
    pub(crate) fn put_rest(&mut self, rest: Bytes) {
        self.close_scratch();
        self.pieces.push(Piece::Shared(rest));
    }

    /// Writes what the socket takes without waiting, empties the batch, and gives the rest.
    ///
    /// # Errors
    /// What the socket says: the connection is broken.
    pub(crate) fn write_now(&mut self, stream: &TcpStream) -> io::Result<Bytes> {
        self.close_scratch();
        let slices: Vec<IoSlice<'_>> = self.slices().take(PIECES_MAX).map(IoSlice::new).collect();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let sent = match SockRef::from(stream).send_vectored_with_flags(&slices, flags) {
            Err(error) if is_for_later(&error) => Ok(0),
            sent => sent,
        };
        let rest = sent.map(|sent| self.behind(sent));
        self.clear();
        rest
    }

    /// All bytes but the first `skip`.
    fn behind(&self, mut skip: usize) -> Bytes {
        let mut rest = Vec::new();
        for slice in self.slices() {
            rest.extend_from_slice(slice.get(skip..).unwrap_or_default());
            skip = skip.saturating_sub(slice.len());
        }
        rest.into()
    }

    fn clear(&mut self) {
        self.scratch.clear();
        self.pieces.clear();
        // A large batch does not stay for the small ones after it.
        self.scratch.shrink_to(SCRATCH_BYTES_KEPT);
        self.pieces.shrink_to(PIECES_MAX);
        self.open = 0;
    }

    /// The body of the frame being put together, in pieces.
    fn body(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let start = self.frame.scratch + HEADER_BYTES;
        let pieces = self.pieces.get(self.frame.pieces..).unwrap_or_default();
        let closed = pieces.iter().map(move |piece| match piece {
            Piece::Scratch(range) => {
                self.scratch.get(range.start.max(start)..range.end).unwrap_or_default()
            }
            Piece::Shared(bytes) => bytes,
        });
        closed.chain([self.scratch.get(self.open.max(start)..).unwrap_or_default()])
    }

    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| match piece {
            Piece::Scratch(range) => self.scratch.get(range.clone()).unwrap_or_default(),
            Piece::Shared(bytes) => bytes,
        })
    }

    fn close_scratch(&mut self) {
        let end = self.scratch.len();
        if self.open < end {
            self.pieces.push(Piece::Scratch(self.open..end));
            self.open = end;
        }
    }
}

/// Whether a socket is only busy now.
fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn write_all_vectored(stream: &mut impl Write, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    let mut rest = slices;
    while !rest.is_empty() {
        let now = rest.get(..rest.len().min(PIECES_MAX)).unwrap_or_default();
        match stream.write_vectored(now) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut rest, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Receiver;

    /// Takes a few bytes at a time, as a full socket does.
    struct Trickle(Vec<u8>);

    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(700);
            self.0.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn received(mut stream: &[u8]) -> Vec<Bytes> {
        let mut receiver = Receiver::new(1 << 20);
        let mut bodies = Vec::new();
        while !stream.is_empty() {
            let room = receiver.room();
            let count = room.len().min(stream.len());
            room[..count].copy_from_slice(&stream[..count]);
            receiver.received(count);
            stream = &stream[count..];
            while let Some(body) = receiver.next_frame().unwrap() {
                bodies.push(body);
            }
        }
        bodies
    }

    #[test]
    fn small_and_shared_pieces_arrive_in_their_order() {
        let mut outgoing = Outgoing::new(1 << 20);
        let large = Bytes::from(vec![5; 3000]);
        for number in 0..3_u8 {
            outgoing.begin();
            outgoing.put_u8(number);
            outgoing.put_bytes(&large);
            outgoing.put_bytes(&Bytes::from_static(b"small"));
            outgoing.put_bytes(&large);
            outgoing.finish().unwrap();
        }
        let mut stream = Trickle(Vec::new());
        let bytes = outgoing.bytes();
        outgoing.write_to(&mut stream).unwrap();
        assert_eq!(bytes, stream.0.len());
        let bodies = received(&stream.0);
        let expected: Vec<Vec<u8>> =
            (0..3_u8).map(|number| [&[number][..], &large, b"small", &large].concat()).collect();
        assert_eq!(bodies, expected);
        assert_eq!(outgoing.bytes(), 0);
    }

    #[test]
    fn what_a_full_socket_does_not_take_is_given_back() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let mut outgoing = Outgoing::new(1 << 20);
        let (mut sent, mut rest) = (0, Bytes::new());
        while rest.is_empty() {
            outgoing.begin();
            outgoing.put_u8(1);
            outgoing.put_bytes(&Bytes::from(vec![7; 100_000]));
            outgoing.finish().unwrap();
            rest = outgoing.write_now(&stream).unwrap();
            sent += 1;
        }
        outgoing.put_rest(rest);
        let writer = std::thread::spawn(move || outgoing.write_to(&mut &stream).unwrap());
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut far, &mut bytes).unwrap();
        writer.join().unwrap();
        let bodies = received(&bytes);
        assert_eq!(bodies.len(), sent);
        assert!(bodies.iter().all(|body| body.len() == 100_001));
    }

    #[test]
    fn a_frame_over_the_limit_leaves_its_neighbours_whole() {
        let mut outgoing = Outgoing::new(2000);
        for size in [10, 1990, 2500, 30] {
            outgoing.begin();
            outgoing.put_bytes(&Bytes::from(vec![1; size]));
            assert_eq!(outgoing.finish(), if size > 2000 { Err(size) } else { Ok(()) });
        }
        let mut stream = Vec::new();
        outgoing.write_to(&mut stream).unwrap();
        let sizes: Vec<usize> = received(&stream).iter().map(Bytes::len).collect();
        assert_eq!(sizes, [10, 1990, 30]);
    }
}
