//! Frames of HTTP/2 and messages of gRPC, as bytes.

use prost::Message;
use quorate_proto::etcdserverpb::PutRequest;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame. Of a payload that no frame can hold the end is left out.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(0xff_ffff)];
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header field as a literal that is not remembered.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        // Lengths of a byte: longer texts are cut.
        let text = &text.as_bytes()[..text.len().min(126)];
        out.push(text.len() as u8);
        out.extend(text);
    }
    out
}

/// The headers of a call of `path`.
pub(crate) fn call(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "#x"),
        ("content-type", "application/grpc"),
    ];
    fields.iter().chain(more).flat_map(|(name, value)| field(name, value)).collect()
}

/// A message of gRPC.
pub(crate) fn message(flag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![flag];
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
    out
}

/// A whole conversation with one put.
pub(crate) fn honest_put() -> Vec<u8> {
    let put = PutRequest { key: "honest".into(), value: "x".into(), ..PutRequest::default() };
    let mut out = PREFACE.to_vec();
    out.extend(frame(SETTINGS, 0, 0, &[]));
    out.extend(frame(HEADERS, END_HEADERS, 1, &call("/etcdserverpb.KV/Put", &[])));
    out.extend(frame(DATA, END_STREAM, 1, &message(0, &put.encode_to_vec())));
    out
}

/// Whether the first call of a connection was answered with a message; `None` while it has not ended.
pub(crate) fn outcome_of_first_call(heard: &[u8]) -> Option<bool> {
    let mut rest = heard;
    let mut bytes = 0;
    while rest.len() >= 9 {
        let len = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        let (kind, flags) = (rest[3], rest[4]);
        let stream = u32::from_be_bytes([rest[5], rest[6], rest[7], rest[8]]);
        if rest.len() < 9 + len {
            return None;
        }
        if stream == 1 && kind == DATA {
            bytes += len;
        }
        if stream == 1 && kind == RESET {
            return Some(false);
        }
        if stream == 1 && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return Some(bytes > 0);
        }
        rest = &rest[9 + len..];
    }
    None
}
