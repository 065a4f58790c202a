//! A range in pieces, over one pinned state.
//!
//! The first piece has few keys, so that it comes at once; the next ones double until they reach the byte budget. Only
//! the last has a header, `more` and `count`, since only then the count is known.
//!
//! Source: etcd `server/etcdserver/v3_server.go`, `RangeStream` (3.7).

use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;
use quorate_proto::etcdserverpb as pb;

use crate::{
    Error, ReadError, Reader, Span, check,
    index::{self, Stretch},
    picture, range,
    schema::Stamp,
};

/// Keys in the first chunk. Source: etcd, as above.
const CHUNK_KEYS_FIRST: usize = 10;
/// Keys in any chunk, so that one of tiny pairs does not hold a thread for long.
const CHUNK_KEYS_MAX: usize = 10_000;

/// A streamed range: call [`RangeStream::next_chunk`] until it gives `None`.
#[derive(Debug)]
pub struct RangeStream {
    reader: Reader,
    request: pb::RangeRequest,
    revision: i64,
    chunk_bytes: usize,
    chunk_keys: usize,
    /// What has not been returned yet; `None` when the last chunk is out.
    rest: Option<Stretch>,
    /// Pairs returned so far.
    returned: usize,
}

impl RangeStream {
    pub(crate) fn new(
        reader: Reader,
        request: &pb::RangeRequest,
        chunk_bytes: usize,
    ) -> Result<Self, ReadError> {
        check::range_stream(request)?;
        let revision = reader.picture().resolve(request.revision)?;
        Ok(Self {
            reader,
            rest: Some(Stretch::new(Span::new(&request.key, &request.range_end))),
            request: request.clone(),
            revision,
            chunk_bytes,
            chunk_keys: CHUNK_KEYS_FIRST,
            returned: 0,
        })
    }

    /// The next piece, in key order. Only the last has a header, `more` and `count`. A range by another target is sorted as
    /// a whole, and so is one piece (etcd sorts each piece by itself, and loses its place).
    ///
    /// # Errors
    /// [`ReadError::Store`] only: the state is pinned, so a compaction meanwhile does not disturb it.
    pub fn next_chunk(&mut self) -> Result<Option<pb::RangeResponse>, ReadError> {
        let Some(rest) = self.rest.take() else { return Ok(None) };
        if self.request.sort_target != i32::from(pb::range_request::SortTarget::Key) {
            return self.reader.range(&self.request).map(Some);
        }
        let keys_max = if self.request.count_only { 0 } else { self.chunk_keys };
        let hits = self.hits(&rest, keys_max.min(self.limit_left()))?;
        let mut chunk = pb::RangeResponse::default();
        let bytes = self.fill(&mut chunk, hits)?;
        self.returned += chunk.kvs.len();
        self.grow(bytes);
        let rest = chunk.kvs.last().map_or_else(|| rest.clone(), |kv| rest.after(&kv.key));
        if !self.request.count_only && self.limit_left() > 0 && !self.hits(&rest, 1)?.is_empty() {
            self.rest = Some(rest);
        } else {
            self.finish(&mut chunk, &rest)?;
        }
        Ok(Some(chunk))
    }

    /// How many pairs the limit still allows.
    fn limit_left(&self) -> usize {
        match usize::try_from(self.request.limit) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(limit) => limit.saturating_sub(self.returned),
        }
    }

    fn hits(&self, stretch: &Stretch, max: usize) -> Result<Vec<(Bytes, Stamp)>, Error> {
        let mut hits = Vec::new();
        if max == 0 {
            return Ok(hits);
        }
        index::scan(&**self.reader.view(), stretch, self.revision, &mut |found| {
            hits.push((found.key()?, found.stamp()?));
            Ok(if hits.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(hits)
    }

    /// Reads pairs until the budget is reached. Says how many bytes they take.
    fn fill(
        &self,
        chunk: &mut pb::RangeResponse,
        hits: Vec<(Bytes, Stamp)>,
    ) -> Result<usize, ReadError> {
        let picture = self.reader.picture();
        let mut bytes = 0;
        for (key, stamp) in hits {
            let kv = range::pair(&picture, self.request.keys_only, key, stamp)?;
            bytes += kv.encoded_len();
            chunk.kvs.push(kv);
            if bytes >= self.chunk_bytes {
                break;
            }
        }
        Ok(bytes)
    }

    fn grow(&mut self, bytes: usize) {
        if bytes.saturating_mul(2) <= self.chunk_bytes {
            self.chunk_keys = self.chunk_keys.saturating_mul(2).min(CHUNK_KEYS_MAX);
        }
    }

    fn finish(&self, chunk: &mut pb::RangeResponse, rest: &Stretch) -> Result<(), Error> {
        let left = index::count(&**self.reader.view(), rest, self.revision)?;
        let returned = i64::try_from(self.returned).unwrap_or(i64::MAX);
        chunk.header = Some(picture::header(self.reader.revision()));
        chunk.count = returned.saturating_add(left);
        chunk.more = left > 0 && !self.request.count_only;
        Ok(())
    }
}
