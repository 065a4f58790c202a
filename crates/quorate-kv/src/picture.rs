//! A view together with the revisions that say what may be read of it.

use bytes::Buf;
use prost::Message;
use quorate_engine::View;
use quorate_proto::{etcdserverpb as pb, mvccpb::KeyValue};

use crate::{
    Error, ReadError, RequestError, index,
    schema::{self, REV, Stamp, State},
};

/// What a read sees: the engine's view, the current revision and the compacted one. Inside a transaction the view holds
/// its own writes as well, and the current revision is its own once it has written (etcd point 24).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picture<'a> {
    pub view: &'a dyn View,
    pub revision: i64,
    pub compact_revision: i64,
}

impl<'a> Picture<'a> {
    pub(crate) fn new(view: &'a dyn View, state: &State) -> Self {
        Self { view, revision: state.revision, compact_revision: state.compact_revision }
    }

    /// The revision that a request means: none and negative ones mean the current one (etcd point 7).
    pub(crate) fn resolve(&self, requested: i64) -> Result<i64, RequestError> {
        if requested > self.revision {
            return Err(RequestError::FutureRevision);
        }
        let revision = if requested <= 0 { self.revision } else { requested };
        if revision < self.compact_revision {
            return Err(RequestError::Compacted);
        }
        Ok(revision)
    }

    /// The pair at `key` that is alive at `revision`.
    pub(crate) fn get(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, Error> {
        match index::newest(self.view, key, revision)?.filter(|stamp| !stamp.tombstone) {
            Some(stamp) => self.load(stamp).map(Some),
            None => Ok(None),
        }
    }

    /// The pair that `stamp` speaks of, with its value.
    pub(crate) fn load(&self, stamp: Stamp) -> Result<KeyValue, Error> {
        let key = stamp.rev_key();
        let bytes = self
            .view
            .get(REV, &key)?
            .ok_or_else(|| schema::malformed(REV, "history, a missing change", &key))?;
        decode_pair(&key, bytes)
    }
}

/// Reads a value of `rev`.
pub(crate) fn decode_pair(key: &[u8], bytes: impl Buf) -> Result<KeyValue, Error> {
    KeyValue::decode(bytes).map_err(|_| schema::malformed(REV, "pair", key))
}

/// The header of a reply.
pub(crate) fn header(revision: i64) -> pb::ResponseHeader {
    pb::ResponseHeader { revision, ..pb::ResponseHeader::default() }
}

/// Parts a refusal, which is an answer, from a failure, which is the end.
pub(crate) fn split<T>(result: Result<T, ReadError>) -> Result<Result<T, RequestError>, Error> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(ReadError::Request(error)) => Ok(Err(error)),
        Err(ReadError::Store(error)) => Err(error),
    }
}
