//! HTTP/2 by hand, for what no client library would send.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header field as a literal that nobody remembers.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        assert!(text.len() < 127);
        out.push(u8::try_from(text.len()).unwrap());
        out.extend(text.as_bytes());
    }
    out
}

/// The headers of a gRPC call.
pub(crate) fn call(path: &str, authority: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    for (name, value) in fields.iter().chain(more) {
        out.extend(field(name, value));
    }
    out
}

/// A gRPC message.
pub(crate) fn message(flag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![flag];
    out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    out.extend(bytes);
    out
}

/// What became of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has ended in order, after so many bytes of messages.
    Bytes(usize),
    Reset(u32),
    /// The connection was given up, with this text.
    GoAway(String),
    Closed,
}

/// A connection that has said its greeting.
pub(crate) struct Connection(TcpStream);

impl Connection {
    /// With room for all that may come.
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::with_room(address, 0x7fff_ffff)
    }

    /// With room for `bytes` of each answer.
    pub(crate) fn with_room(address: SocketAddr, bytes: u32) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        // Only a server that never answers is waited for so long.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let window = [&[0, 4], &bytes.to_be_bytes()[..]].concat();
        stream.write_all(&frame(SETTINGS, 0, 0, &window)).unwrap();
        stream.write_all(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0])).unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Reads until the head of an answer is there.
    pub(crate) fn head(&mut self) {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).unwrap();
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            self.0.read_exact(&mut vec![0; len]).unwrap();
            if head[3] == HEADERS {
                return;
            }
        }
    }

    /// Reads until call `stream` has ended.
    pub(crate) fn end_of(&mut self, stream: u32) -> End {
        let mut bytes = 0;
        loop {
            let mut head = [0; 9];
            if self.0.read_exact(&mut head).is_err() {
                return End::Closed;
            }
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; len];
            self.0.read_exact(&mut payload).unwrap();
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match head[3] {
                GOAWAY => {
                    return End::GoAway(String::from_utf8_lossy(&payload[8..]).into_owned());
                }
                RESET if of == stream => {
                    return End::Reset(u32::from_be_bytes(payload.try_into().unwrap()));
                }
                DATA if of == stream => bytes += len,
                _ => {}
            }
            if of == stream && matches!(head[3], DATA | HEADERS) && head[4] & END_STREAM != 0 {
                return End::Bytes(bytes);
            }
        }
    }
}
