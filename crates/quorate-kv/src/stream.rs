//! A range in pieces, over one pinned state.
//!
//! The first piece has few keys, so that it comes at once; the next ones double until they reach the byte budget. Only
//! the last has a header, `more` and `count`, since only then the count is known.
//!
//! Source: etcd `server/etcdserver/v3_server.go`, `RangeStream` (3.7).

use std::ops::ControlFlow;

use prost::Message;
use quorate_proto::{etcdserverpb as pb, mvccpb::KeyValue};

use crate::{
    Budget, Error, ReadError, Reader, Span, check,
    index::{Pause, Scan, Stretch},
    picture,
    range::{self, RangeWork},
};

/// Keys in the first chunk. Source: etcd, as above.
const CHUNK_KEYS_FIRST: usize = 10;
/// Keys in any chunk, so that one of tiny pairs does not hold a thread for long.
const CHUNK_KEYS_MAX: usize = 10_000;

/// What one slice of a streamed range came to.
#[derive(Debug)]
pub enum StreamStep {
    /// The next chunk.
    Chunk(pb::RangeResponse),
    /// The budget is spent before the next chunk is whole.
    Working,
    /// The last chunk was given before.
    Ended,
}

/// A streamed range: call [`RangeStream::next_chunk`] until it gives `None`, or [`RangeStream::advance`] until it has ended.
#[derive(Debug)]
pub struct RangeStream {
    reader: Reader,
    request: pb::RangeRequest,
    chunk_bytes: usize,
    chunk_keys: usize,
    source: Source,
    chunk: Chunk,
    /// The first pair of the next chunk: it was met when the last one was full.
    ahead: Option<KeyValue>,
    limit: usize,
    /// Pairs given so far, those of the chunk in the making included.
    returned: usize,
    /// Keys met so far.
    count: i64,
}

/// Where the pairs come from.
#[derive(Debug)]
enum Source {
    /// A scan in key order.
    Keys(Scan),
    /// A range by another target: it is sorted as a whole, and so is one chunk (etcd sorts each chunk by itself, and loses
    /// its place).
    Whole(Box<RangeWork>),
    /// The last chunk is out.
    Ended,
}

/// A chunk in the making.
#[derive(Debug, Default)]
struct Chunk {
    kvs: Vec<KeyValue>,
    bytes: usize,
}

impl Chunk {
    fn push(&mut self, kv: KeyValue) {
        self.bytes += kv.encoded_len();
        self.kvs.push(kv);
    }
}

impl RangeStream {
    pub(crate) fn new(
        reader: Reader,
        request: &pb::RangeRequest,
        chunk_bytes: usize,
    ) -> Result<Self, ReadError> {
        check::range_stream(request)?;
        let revision = reader.picture().resolve(request.revision)?;
        let source = if request.sort_target == i32::from(pb::range_request::SortTarget::Key) {
            let stretch = Stretch::new(Span::new(&request.key, &request.range_end));
            Source::Keys(Scan::new(&stretch, revision))
        } else {
            Source::Whole(Box::new(RangeWork::new(&reader.picture(), request)?))
        };
        let limit = match usize::try_from(request.limit) {
            _ if request.count_only => 0,
            Ok(0) | Err(_) => usize::MAX,
            Ok(limit) => limit,
        };
        Ok(Self {
            reader,
            source,
            request: request.clone(),
            chunk_bytes,
            chunk_keys: CHUNK_KEYS_FIRST,
            chunk: Chunk::default(),
            ahead: None,
            limit,
            returned: 0,
            count: 0,
        })
    }

    /// The next piece, in key order. Only the last has a header, `more` and `count`.
    ///
    /// # Errors
    /// [`ReadError::Store`] only: the state is pinned, so a compaction meanwhile does not disturb it.
    pub fn next_chunk(&mut self) -> Result<Option<pb::RangeResponse>, ReadError> {
        loop {
            match self.advance(&mut Budget::unlimited())? {
                StreamStep::Chunk(chunk) => return Ok(Some(chunk)),
                StreamStep::Ended => return Ok(None),
                StreamStep::Working => {}
            }
        }
    }

    /// Goes on within `budget`, to the end of the next piece at most.
    ///
    /// # Errors
    /// As [`RangeStream::next_chunk`].
    pub fn advance(&mut self, budget: &mut Budget) -> Result<StreamStep, ReadError> {
        match &mut self.source {
            Source::Ended => Ok(StreamStep::Ended),
            Source::Whole(work) => {
                let end = work.advance(&self.reader.picture(), budget, &mut self.chunk.kvs)?;
                let Some(end) = end else { return Ok(StreamStep::Working) };
                self.source = Source::Ended;
                let kvs = std::mem::take(&mut self.chunk.kvs);
                Ok(StreamStep::Chunk(pb::RangeResponse { kvs, ..end }))
            }
            Source::Keys(_) => Ok(match self.fill(budget)? {
                Pause::Spent => StreamStep::Working,
                Pause::Stopped => StreamStep::Chunk(self.cut()),
                Pause::Ended => StreamStep::Chunk(self.finish()),
            }),
        }
    }

    /// Reads pairs until the chunk is full and there is one more, which is kept for the next.
    fn fill(&mut self, budget: &mut Budget) -> Result<Pause, Error> {
        let Source::Keys(scan) = &mut self.source else { return Ok(Pause::Ended) };
        let (chunk, ahead, picture) = (&mut self.chunk, &mut self.ahead, self.reader.picture());
        if let Some(kv) = ahead.take() {
            chunk.push(kv);
        }
        scan.advance(picture.view, budget, &mut |found, budget| {
            self.count += 1;
            if self.returned >= self.limit {
                return Ok(ControlFlow::Continue(()));
            }
            self.returned += 1;
            let kv = range::found_pair(&picture, self.request.keys_only, found, budget)?;
            if chunk.kvs.len() >= self.chunk_keys || chunk.bytes >= self.chunk_bytes {
                *ahead = Some(kv);
                return Ok(ControlFlow::Break(()));
            }
            chunk.push(kv);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The chunk, which another one follows.
    fn cut(&mut self) -> pb::RangeResponse {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.bytes.saturating_mul(2) <= self.chunk_bytes {
            self.chunk_keys = self.chunk_keys.saturating_mul(2).min(CHUNK_KEYS_MAX);
        }
        pb::RangeResponse { kvs: chunk.kvs, ..pb::RangeResponse::default() }
    }

    /// The last chunk.
    fn finish(&mut self) -> pb::RangeResponse {
        self.source = Source::Ended;
        let left = self.count > i64::try_from(self.returned).unwrap_or(i64::MAX);
        pb::RangeResponse {
            header: Some(picture::header(self.reader.revision())),
            kvs: std::mem::take(&mut self.chunk.kvs),
            more: left && !self.request.count_only,
            count: self.count,
        }
    }
}
