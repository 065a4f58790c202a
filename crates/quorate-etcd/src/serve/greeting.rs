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
}

/// Reads until the protocol is known. Gives what was read along, to be read again.
///
/// `None` if the client left before, or speaks something else.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> IoResult<Option<(Protocol, Bytes)>> {
    let mut read = BytesMut::with_capacity(PREFACE.len());
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(None);
        }
        if let Some(found) = recognize(&read) {
            return Ok(found.map(|protocol| (protocol, read.freeze())));
        }
    }
}

/// The protocol of a connection that begins like this: `None` if more must be read, `Some(None)` if it is neither.
fn recognize(read: &[u8]) -> Option<Option<Protocol>> {
    if read.starts_with(PREFACE) {
        return Some(Some(Protocol::Http2));
    }
    if PREFACE.starts_with(read) {
        return None;
    }
    let method =
        read.iter().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\r' | b'\n'));
    Some(method.then_some(Protocol::Http1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        assert_eq!(recognize(PREFACE), Some(Some(Protocol::Http2)));
        assert_eq!(recognize(b"P"), None);
        assert_eq!(recognize(b"PRI * HTTP/2.0\r\n"), None);
        assert_eq!(recognize(b"POST / HTTP/1.1"), Some(Some(Protocol::Http1)));
        assert_eq!(recognize(b"GET /health"), Some(Some(Protocol::Http1)));
        assert_eq!(recognize(b"\x16\x03\x01\x02\x00"), Some(None));
    }
}
