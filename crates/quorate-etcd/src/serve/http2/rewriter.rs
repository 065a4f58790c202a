//! What is changed of a client's frames before the library sees them.
//!
//! - `:authority` becomes harmless: see [`super::header_block`].
//! - DATA frames of one call that follow each other become one, and empty ones that end nothing are left out. The library
//!   keeps each frame apart, at some hundred bytes, and closes a connection with too many of them unread; Go's clients
//!   write a frame for each message. The bytes, and so the windows, stay as they are.
//! - A header block in several frames is put together, within a limit.
//!
//! Everything else passes as it comes, also what is wrong: the library knows what to say to it.
//!
//! Source: RFC 9113, 4.1 (frames), 6.1 (DATA), 6.2 (HEADERS), 6.10 (CONTINUATION).

use bytes::{Buf, BufMut, BytesMut};

use super::header_block;

/// What an HTTP/2 client says first.
const PREFACE_BYTES: usize = 24;
/// A frame's length, type, flags and stream.
const HEAD_BYTES: usize = 9;
/// The most that a frame may carry: what we tell clients in our settings.
pub(super) const FRAME_BYTES_MAX: usize = 16_384;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// What [`PRIORITY`] puts before a block.
const PRIORITY_BYTES: usize = 5;

/// Why a connection can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// Another frame came before a header block was complete.
    #[error("a header block was interrupted")]
    Interrupted,
    /// A header block is larger than everything in it may be together.
    #[error("a header block of more than {0} bytes")]
    BlockTooLarge(usize),
}

/// Changes frames as they pass.
#[derive(Debug)]
pub(super) struct Rewriter {
    header_bytes_max: usize,
    state: State,
    settings_seen: bool,
    /// The beginning of a header block lies in the input.
    headers_begun: bool,
}

#[derive(Debug)]
enum State {
    /// So much of the first words is to come.
    Preface(usize),
    /// A frame begins.
    Frame,
    /// So much of a frame passes as it is.
    Pass(usize),
    /// A header block that goes on in the next frame.
    Block { head: Head, block: BytesMut },
}

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
struct Head {
    len: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// A DATA frame at the end of the output that takes more.
#[derive(Clone, Copy, Debug)]
struct Open {
    at: usize,
    head: Head,
}

impl Rewriter {
    /// A rewriter for a connection from its first byte on. Header blocks may have `header_bytes_max` bytes.
    pub(super) fn new(header_bytes_max: usize) -> Self {
        Self {
            header_bytes_max,
            state: State::Preface(PREFACE_BYTES),
            settings_seen: false,
            headers_begun: false,
        }
    }

    /// Whether the client has begun something that it has to finish in time: its greeting, or a header block.
    pub(super) fn is_owed(&self) -> bool {
        !self.settings_seen || self.headers_begun || matches!(self.state, State::Block { .. })
    }

    /// Moves what can be moved from `input` to `output`, but at most about `frames_max` frames. What stays then, if
    /// anything does, is the beginning of a frame. Gives the number of frames that were begun.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub(super) fn advance(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
        frames_max: usize,
    ) -> Result<usize, FrameError> {
        let mut open = None;
        let mut frames = 0;
        self.headers_begun = false;
        while !input.is_empty() && frames < frames_max {
            match &mut self.state {
                State::Preface(left) | State::Pass(left) => {
                    let count = input.len().min(*left);
                    *left -= count;
                    let done = *left == 0;
                    output.put_slice(&input.split_to(count));
                    if done {
                        self.state = State::Frame;
                    }
                }
                State::Frame | State::Block { .. } => {
                    let Some(head) = Head::read(input) else { break };
                    let at = open.map(|open: Open| open.at);
                    if !self.frame(head, input, output, &mut open)? {
                        break;
                    }
                    // What became part of the frame before costs next to nothing.
                    let joined = at.is_some() && at == open.map(|open| open.at);
                    frames += usize::from(!joined);
                }
            }
        }
        Ok(frames)
    }

    /// Takes a frame, or its beginning. `false`: more of it must come first.
    fn frame(
        &mut self,
        head: Head,
        input: &mut BytesMut,
        output: &mut BytesMut,
        open: &mut Option<Open>,
    ) -> Result<bool, FrameError> {
        let whole = input.len() >= HEAD_BYTES + head.len;
        let in_block = matches!(self.state, State::Block { .. });
        let is_header = head.len <= FRAME_BYTES_MAX
            && if in_block { head.kind == CONTINUATION } else { head.kind == HEADERS };
        if in_block && !is_header {
            return Err(FrameError::Interrupted);
        }
        if is_header {
            if !whole {
                self.headers_begun = true;
                return Ok(false);
            }
            *open = None;
            self.headers(head, &input.split_to(HEAD_BYTES + head.len), output)?;
            return Ok(true);
        }
        if head.kind == DATA && whole && head.flags & PADDED == 0 {
            data(head, &input.split_to(HEAD_BYTES + head.len), output, open);
            return Ok(true);
        }
        self.settings_seen |= head.kind == SETTINGS;
        *open = None;
        output.put_slice(&input.split_to(HEAD_BYTES));
        if head.len > 0 {
            self.state = State::Pass(head.len);
        }
        Ok(true)
    }

    /// Takes a frame with a header block, or with more of one.
    fn headers(
        &mut self,
        head: Head,
        frame: &[u8],
        output: &mut BytesMut,
    ) -> Result<(), FrameError> {
        let payload = frame.get(HEAD_BYTES..).unwrap_or_default();
        let (first, block) = match std::mem::replace(&mut self.state, State::Frame) {
            State::Block { head: first, mut block } => {
                if first.stream != head.stream {
                    return Err(FrameError::Interrupted);
                }
                block.put_slice(payload);
                (first, block)
            }
            State::Preface(_) | State::Frame | State::Pass(_) => {
                let Some(block) = unpadded(head, payload) else {
                    output.put_slice(frame);
                    return Ok(());
                };
                let ends = head.flags & END_HEADERS != 0;
                let start = if head.flags & PRIORITY != 0 { PRIORITY_BYTES } else { 0 };
                let fields = block.get(start..).unwrap_or_default();
                if ends && header_block::without_authority(fields).is_none() {
                    output.put_slice(frame);
                    return Ok(());
                }
                (head, BytesMut::from(block))
            }
        };
        if block.len() > self.header_bytes_max {
            return Err(FrameError::BlockTooLarge(self.header_bytes_max));
        }
        if head.flags & END_HEADERS == 0 {
            self.state = State::Block { head: first, block };
        } else {
            put_block(first, &block, output);
        }
        Ok(())
    }
}

impl Head {
    /// Reads the head of a frame, if all of it is there.
    fn read(input: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *input.first_chunk::<HEAD_BYTES>()?;
        let len = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
        Some(Self { len, kind, flags, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1) })
    }

    fn bytes(self) -> [u8; HEAD_BYTES] {
        let [_, high, middle, low] = u32::try_from(self.len).unwrap_or(u32::MAX).to_be_bytes();
        let [first, second, third, fourth] = self.stream.to_be_bytes();
        [high, middle, low, self.kind, self.flags, first, second, third, fourth]
    }
}

/// Puts a whole DATA frame behind the one before, or after it.
fn data(head: Head, frame: &[u8], output: &mut BytesMut, open: &mut Option<Open>) {
    let payload = frame.get(HEAD_BYTES..).unwrap_or_default();
    let ends = head.flags & END_STREAM != 0;
    if payload.is_empty() && !ends {
        return;
    }
    let before = open.filter(|open| {
        open.head.stream == head.stream && open.head.len + head.len <= FRAME_BYTES_MAX
    });
    let mut one = before.unwrap_or(Open { at: output.len(), head: Head { len: 0, ..head } });
    if before.is_none() {
        output.put_slice(&one.head.bytes());
    }
    output.put_slice(payload);
    one.head.len += head.len;
    one.head.flags |= head.flags;
    if let Some(place) = output.get_mut(one.at..one.at + HEAD_BYTES) {
        place.copy_from_slice(&one.head.bytes());
    }
    *open = (!ends).then_some(one);
}

/// What a HEADERS frame carries without its padding: a priority, if the flag says so, and fields. `None` if it is not right.
fn unpadded(head: Head, payload: &[u8]) -> Option<&[u8]> {
    let block = if head.flags & PADDED == 0 {
        payload
    } else {
        let (padding, rest) = payload.split_first()?;
        rest.get(..rest.len().checked_sub(usize::from(*padding))?)?
    };
    let least = if head.flags & PRIORITY != 0 { PRIORITY_BYTES } else { 0 };
    (block.len() >= least).then_some(block)
}

/// Writes a header block in as many frames as it needs. `block` begins with the priority, if there is one.
fn put_block(head: Head, block: &[u8], output: &mut BytesMut) {
    let start = if head.flags & PRIORITY != 0 { PRIORITY_BYTES } else { 0 };
    let (priority, fields) = block.split_at_checked(start).unwrap_or((block, &[]));
    let replaced = header_block::without_authority(fields);
    let fields = replaced.as_deref().unwrap_or(fields);
    let mut rest = Buf::chain(priority, fields);
    let mut kind = HEADERS;
    let mut flags = head.flags & (END_STREAM | PRIORITY);
    loop {
        let len = rest.remaining().min(FRAME_BYTES_MAX);
        if len == rest.remaining() {
            flags |= END_HEADERS;
        }
        output.put_slice(&Head { len, kind, flags, stream: head.stream }.bytes());
        output.put((&mut rest).take(len));
        if !rest.has_remaining() {
            return;
        }
        (kind, flags) = (CONTINUATION, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 40_000;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Head { len: payload.len(), kind, flags, stream }.bytes().to_vec();
        out.extend(payload);
        out
    }

    fn greeting() -> Vec<u8> {
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat()
    }

    /// What comes out after a greeting, when it goes in in pieces.
    fn rewritten(frames: &[Vec<u8>], piece: usize) -> Result<Vec<u8>, FrameError> {
        let mut rewriter = Rewriter::new(MAX);
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        for piece in [greeting(), frames.concat()].concat().chunks(piece) {
            input.put_slice(piece);
            rewriter.advance(&mut input, &mut output, usize::MAX)?;
        }
        assert!(input.is_empty() && !rewriter.is_owed());
        Ok(output.split_off(greeting().len()).to_vec())
    }

    /// A block of `len` bytes with a field that spells no authority.
    fn long_field(len: usize) -> Vec<u8> {
        let mut out = vec![0x00, 1, b'x', 0x7f];
        let mut more = len - 0x7f;
        while more >= 0x80 {
            out.push(u8::try_from(more & 0x7f).unwrap() | 0x80);
            more >>= 7;
        }
        out.push(u8::try_from(more).unwrap());
        out.resize(out.len() + len, b'v');
        out
    }

    #[test]
    fn small_frames_of_one_call_become_one() {
        let frames = [
            frame(DATA, 0, 1, b"ab"),
            frame(DATA, 0, 1, b""),
            frame(DATA, 0, 1, b"c"),
            frame(DATA, 0, 3, b"d"),
            frame(DATA, 0, 1, b"e"),
            frame(6, 0, 0, b"12345678"),
            frame(DATA, END_STREAM, 1, b""),
            frame(DATA, 0, 3, b"f"),
            frame(DATA, END_STREAM, 3, b""),
        ];
        let expected = [
            frame(DATA, 0, 1, b"abc"),
            frame(DATA, 0, 3, b"d"),
            frame(DATA, 0, 1, b"e"),
            frame(6, 0, 0, b"12345678"),
            frame(DATA, END_STREAM, 1, b""),
            frame(DATA, END_STREAM, 3, b"f"),
        ];
        assert_eq!(rewritten(&frames, 1000), Ok(expected.concat()));
    }

    #[test]
    fn frames_grow_to_their_limit_and_no_further() {
        let frames = vec![frame(DATA, 0, 1, &[7; 10_000]); 3];
        let expected = [frame(DATA, 0, 1, &[7; 10_000]), frame(DATA, 0, 1, &[7; 10_000])].concat();
        let out = rewritten(&frames, usize::MAX >> 1).unwrap();
        assert_eq!(out[..expected.len()], expected);
    }

    #[test]
    fn bytes_pass_in_pieces_of_any_size() {
        let frames = [
            frame(HEADERS, END_HEADERS | PADDED | PRIORITY, 1, b"\x02\0\0\0\0\x10\x83\x41\x02/xzz"),
            frame(DATA, PADDED, 1, b"\x01ab"),
            frame(8, 0, 0, &[0, 0, 0, 9]),
        ];
        let expected = [
            frame(HEADERS, END_HEADERS | PRIORITY, 1, b"\0\0\0\0\x10\x83\x41\x02aa"),
            frame(DATA, PADDED, 1, b"\x01ab"),
            frame(8, 0, 0, &[0, 0, 0, 9]),
        ];
        for piece in 1..80 {
            assert_eq!(rewritten(&frames, piece), Ok(expected.concat()), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_block_in_several_frames_is_put_together() {
        let fields = [b"\x83\x41\x02/x".to_vec(), long_field(30_000)].concat();
        let (first, rest) = fields.split_at(3);
        let frames = [
            frame(HEADERS, END_STREAM, 1, first),
            frame(CONTINUATION, 0, 1, &rest[..16_000]),
            frame(CONTINUATION, END_HEADERS, 1, &rest[16_000..]),
        ];
        let fields = [b"\x83\x41\x02aa".to_vec(), long_field(30_000)].concat();
        let (first, rest) = fields.split_at(FRAME_BYTES_MAX);
        let expected =
            [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)];
        assert_eq!(rewritten(&frames, 7000), Ok(expected.concat()));
    }

    #[test]
    fn no_more_frames_pass_than_may() {
        let mut rewriter = Rewriter::new(MAX);
        let ping = frame(6, 0, 0, b"12345678");
        let data = frame(DATA, 0, 1, b"a");
        let said = [greeting(), ping.repeat(3), data.repeat(50), ping.clone()].concat();
        let (mut input, mut output) = (BytesMut::from(&said[..]), BytesMut::new());
        let mut passed = |frames_max| {
            let frames = rewriter.advance(&mut input, &mut output, frames_max).unwrap();
            (frames, output.split().len())
        };
        assert_eq!(passed(2), (2, PREFACE_BYTES + HEAD_BYTES + HEAD_BYTES));
        // Its payload, two more, and the head of the one that takes all the others up.
        assert_eq!(passed(3), (3, 8 + 2 * ping.len() + data.len()));
        assert_eq!(passed(9), (2, 49 + HEAD_BYTES + ping.len()));
    }

    #[test]
    fn blocks_that_never_end_are_refused() {
        let more = vec![frame(CONTINUATION, 0, 1, &[0x83; 10_000]); 4];
        let frames = [vec![frame(HEADERS, 0, 1, &[0x83; 10_000])], more].concat();
        assert_eq!(rewritten(&frames, 10_000), Err(FrameError::BlockTooLarge(MAX)));
        let between = [frame(HEADERS, 0, 1, &[0x83]), frame(DATA, 0, 1, b"x")];
        assert_eq!(rewritten(&between, 100), Err(FrameError::Interrupted));
        let other = [frame(HEADERS, 0, 1, &[0x83]), frame(CONTINUATION, END_HEADERS, 3, &[0x83])];
        assert_eq!(rewritten(&other, 100), Err(FrameError::Interrupted));
    }

    #[test]
    fn a_client_owes_its_settings_and_the_rest_of_its_headers() {
        let mut rewriter = Rewriter::new(MAX);
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        let mut owed_after = |bytes: &[u8]| {
            input.put_slice(bytes);
            rewriter.advance(&mut input, &mut output, usize::MAX).unwrap();
            rewriter.is_owed()
        };
        let greeting = greeting();
        assert!(owed_after(&greeting[..PREFACE_BYTES]));
        assert!(!owed_after(&greeting[PREFACE_BYTES..]));
        let headers = frame(HEADERS, 0, 1, &[0x83; 4]);
        assert!(owed_after(&headers[..10]));
        assert!(owed_after(&headers[10..]));
        assert!(!owed_after(&frame(CONTINUATION, END_HEADERS, 1, &[0x86])));
        assert!(!owed_after(&frame(DATA, 0, 1, b"abc")[..10]));
    }
}
