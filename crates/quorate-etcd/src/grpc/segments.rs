//! Encoded messages as a list of pieces, in which large values are not copied.
//!
//! A value of a megabyte that a thousand watches get is one piece of memory that a thousand answers point to. What is small is
//! copied together, since a piece of its own costs more than a copy. The bytes are exactly those of `prost`.

use std::{any::Any, collections::VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use quorate_proto::{
    etcdserverpb::{RangeResponse, RangeStreamResponse, WatchResponse},
    mvccpb::{Event, KeyValue},
};

use super::deframe::PREFIX_BYTES;
use crate::long_work::Pairs;

/// A value of this size is worth a piece of its own.
const SHARED_BYTES_MIN: usize = 4 * 1024;
/// Copied bytes are gathered up to this size.
const COPIED_BYTES_MAX: usize = 64 * 1024;

impl Pairs for Segments {
    fn take(&mut self, kvs: &mut Vec<KeyValue>) {
        self.push_pairs(kvs);
        kvs.clear();
    }
}

/// Bytes in the making, or to be sent.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    done: VecDeque<Bytes>,
    tail: BytesMut,
    bytes: usize,
}

impl Segments {
    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Takes the first piece.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let piece = match self.done.pop_front() {
            Some(piece) => piece,
            None if self.tail.is_empty() => return None,
            None => self.tail.split().freeze(),
        };
        self.bytes -= piece.len();
        Some(piece)
    }

    /// Appends a message with its prefix.
    pub(crate) fn push_framed<M: Message + 'static>(&mut self, message: &M) {
        self.push_prefix(message.encoded_len());
        let message: &dyn Any = message;
        if let Some(watch) = message.downcast_ref::<WatchResponse>() {
            self.push_watch(watch);
        } else if let Some(range) = message.downcast_ref::<RangeResponse>() {
            self.push_range(range);
        } else if let Some(RangeStreamResponse { range_response: Some(range) }) =
            message.downcast_ref()
        {
            self.push_nested(1, range.encoded_len());
            self.push_range(range);
        } else if let Some(message) = message.downcast_ref::<M>() {
            self.push_copied(message);
        }
    }

    /// Appends pairs as a range's answer has them.
    pub(crate) fn push_pairs(&mut self, kvs: &[KeyValue]) {
        for kv in kvs {
            self.push_nested(2, kv.encoded_len());
            self.push_pair(kv);
        }
    }

    /// What `push_pairs` gathered, as a whole answer with its prefix: `end` is all but the pairs.
    pub(crate) fn into_range(mut self, end: &RangeResponse) -> Self {
        let head = RangeResponse { header: end.header, ..RangeResponse::default() };
        let foot = RangeResponse { header: None, kvs: Vec::new(), ..*end };
        self.push_copied(&foot);
        let mut front = BytesMut::with_capacity(PREFIX_BYTES + head.encoded_len());
        put_prefix(&mut front, head.encoded_len() + self.bytes);
        // A buffer that grows has room for everything.
        let _ = head.encode(&mut front);
        self.bytes += front.len();
        self.done.push_front(front.freeze());
        self
    }

    fn push_range(&mut self, range: &RangeResponse) {
        self.push_copied(&RangeResponse { header: range.header, ..RangeResponse::default() });
        self.push_pairs(&range.kvs);
        self.push_copied(&RangeResponse { header: None, kvs: Vec::new(), ..*range });
    }

    fn push_watch(&mut self, watch: &WatchResponse) {
        let head = WatchResponse {
            header: watch.header,
            events: Vec::new(),
            cancel_reason: watch.cancel_reason.clone(),
            ..*watch
        };
        self.push_copied(&head);
        for event in &watch.events {
            self.push_nested(11, event.encoded_len());
            self.push_event(event);
        }
    }

    fn push_event(&mut self, event: &Event) {
        self.push_copied(&Event { kv: None, prev_kv: None, ..*event });
        for (tag, kv) in [(2, &event.kv), (3, &event.prev_kv)] {
            if let Some(kv) = kv {
                self.push_nested(tag, kv.encoded_len());
                self.push_pair(kv);
            }
        }
    }

    fn push_pair(&mut self, kv: &KeyValue) {
        if kv.value.len() < SHARED_BYTES_MIN {
            return self.push_copied(kv);
        }
        let head = KeyValue { key: kv.key.clone(), value: Bytes::new(), lease: 0, ..*kv };
        self.push_copied(&head);
        self.push_nested(5, kv.value.len());
        self.push_shared(&kv.value);
        self.push_copied(&KeyValue { lease: kv.lease, ..KeyValue::default() });
    }

    fn push_copied<M: Message>(&mut self, message: &M) {
        self.copy(|tail| {
            // A buffer that grows has room for everything.
            let _ = message.encode(tail);
        });
    }

    fn push_nested(&mut self, tag: u32, length: usize) {
        self.copy(|tail| {
            encode_key(tag, WireType::LengthDelimited, tail);
            encode_varint(length as u64, tail);
        });
    }

    fn push_prefix(&mut self, length: usize) {
        self.copy(|tail| put_prefix(tail, length));
    }

    fn push_shared(&mut self, value: &Bytes) {
        self.cut();
        self.bytes += value.len();
        self.done.push_back(value.clone());
    }

    fn copy(&mut self, put: impl FnOnce(&mut BytesMut)) {
        let before = self.tail.len();
        put(&mut self.tail);
        self.bytes += self.tail.len() - before;
        if self.tail.len() >= COPIED_BYTES_MAX {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.done.push_back(self.tail.split().freeze());
        }
    }
}

fn put_prefix(out: &mut BytesMut, length: usize) {
    out.put_u8(0);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use quorate_proto::etcdserverpb::{PutResponse, ResponseHeader};

    use super::*;

    const HEADER: Option<ResponseHeader> =
        Some(ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 });

    fn pair(value: usize, lease: i64) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"key"),
            create_revision: 300,
            mod_revision: 70_000,
            version: 2,
            value: Bytes::from(vec![7; value]),
            lease,
        }
    }

    fn pairs() -> Vec<KeyValue> {
        vec![pair(3, 0), pair(SHARED_BYTES_MIN, 0), pair(1 << 20, 9), KeyValue::default()]
    }

    fn joined(mut segments: Segments) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(piece) = segments.pop() {
            bytes.extend_from_slice(&piece);
        }
        assert!(segments.is_empty());
        bytes
    }

    #[track_caller]
    fn check<M: Message + 'static>(message: &M) {
        let mut segments = Segments::default();
        segments.push_framed(message);
        let mut expected = BytesMut::new();
        put_prefix(&mut expected, message.encoded_len());
        message.encode(&mut expected).unwrap();
        assert_eq!(segments.len(), expected.len());
        assert!(joined(segments) == expected, "{} bytes", expected.len());
    }

    #[test]
    fn the_bytes_are_those_of_prost() {
        check(&PutResponse { header: HEADER, prev_kv: Some(pair(5_000, 1)) });
        for kvs in [Vec::new(), pairs()] {
            let range = RangeResponse { header: HEADER, kvs, more: true, count: 7 };
            check(&range);
            check(&RangeStreamResponse { range_response: Some(range) });
        }
        check(&RangeStreamResponse { range_response: None });
        let event = |kv: KeyValue| Event { r#type: 1, kv: Some(kv), prev_kv: Some(pair(9_000, 4)) };
        check(&WatchResponse {
            header: HEADER,
            watch_id: 5,
            created: true,
            cancel_reason: "no".into(),
            fragment: true,
            compact_revision: 6,
            events: pairs().into_iter().map(event).chain([Event::default()]).collect(),
            ..WatchResponse::default()
        });
    }

    #[test]
    fn a_range_in_pieces_is_the_range() {
        let mut segments = Segments::default();
        for kv in pairs() {
            segments.push_pairs(&[kv]);
        }
        let end = RangeResponse { header: HEADER, more: true, count: 40, kvs: Vec::new() };
        let segments = segments.into_range(&end);
        let mut whole = Segments::default();
        whole.push_framed(&RangeResponse { kvs: pairs(), ..end });
        assert!(joined(segments) == joined(whole));
    }

    #[test]
    fn large_values_are_not_copied() {
        let value = Bytes::from(vec![1; SHARED_BYTES_MIN]);
        let kv = KeyValue { value: value.clone(), ..pair(0, 0) };
        let mut segments = Segments::default();
        segments.push_pairs(&[kv]);
        segments.pop().unwrap();
        assert_eq!(segments.pop().unwrap().as_ptr(), value.as_ptr());
    }
}
