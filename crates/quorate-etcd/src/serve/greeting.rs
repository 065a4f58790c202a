//! The first bytes of a connection, which tell HTTP/2 from HTTP/1.1.

use std::io::Result as IoResult;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What an HTTP/2 client says first. Source: RFC 9113, 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    /// Neither, or the client left before it said enough.
    Unknown,
}

/// Reads until the protocol is known. Gives what was read along, to be read again.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> IoResult<(Protocol, Bytes)> {
    let mut read = BytesMut::with_capacity(PREFACE.len());
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok((Protocol::Unknown, Bytes::new()));
        }
        if let Some(protocol) = recognize(&read) {
            return Ok((protocol, read.freeze()));
        }
    }
}

/// The protocol of a connection that begins like this; `None` if more must be read.
fn recognize(read: &[u8]) -> Option<Protocol> {
    if read.starts_with(PREFACE) {
        return Some(Protocol::Http2);
    }
    if PREFACE.starts_with(read) {
        return None;
    }
    let text = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\r' | b'\n' | b'\t');
    Some(if read.iter().all(text) { Protocol::Http1 } else { Protocol::Unknown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        assert_eq!(recognize(PREFACE), Some(Protocol::Http2));
        assert_eq!(recognize(b"P"), None);
        assert_eq!(recognize(b"PRI * HTTP/2.0\r\n"), None);
        assert_eq!(recognize(b"POST / HTTP/1.1"), Some(Protocol::Http1));
        assert_eq!(recognize(b"GET /health"), Some(Protocol::Http1));
        assert_eq!(recognize(b"\x16\x03\x01\x02\x00"), Some(Protocol::Unknown));
    }
}
