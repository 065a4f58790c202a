//! One applied state, for reading.

use std::sync::Arc;

use bytes::Bytes;
use quorate_engine::View;
use quorate_proto::{
    etcdserverpb as pb,
    mvccpb::{self, KeyValue},
};

use crate::{Applied, HashKv, LeaseRecord, ReadError, RevisionEvents};

/// A view of one applied state. Cheap to clone; holding one pins the space of what was purged since.
#[derive(Clone, Debug)]
pub struct Reader {
    view: Arc<dyn View>,
    applied: Applied,
    revision: i64,
    compact_revision: i64,
}

impl Reader {
    /// The newest revision; 1 in an empty store.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The compacted revision: the oldest that can be read; -1 when nothing was ever compacted.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// The entry after which this state stood.
    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// Answers a range. The header holds only `revision`.
    ///
    /// # Errors
    /// Those of [`check::range`](crate::check::range), [`RequestError::Compacted`](crate::RequestError::Compacted),
    /// [`RequestError::FutureRevision`](crate::RequestError::FutureRevision).
    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ReadError> {
        let _ = (request, &self.view);
        todo!()
    }

    /// Answers a transaction of ranges.
    ///
    /// # Errors
    /// [`RequestError::NotReadOnly`](crate::RequestError::NotReadOnly) when
    /// [`check::is_read_only`](crate::check::is_read_only) says no, and those of [`Reader::range`].
    pub fn txn(&self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, ReadError> {
        let _ = request;
        todo!()
    }

    /// Begins a streamed range over this very state.
    ///
    /// `chunk_bytes` is what a chunk grows towards; one value may exceed it.
    ///
    /// # Errors
    /// As [`Reader::range`], and [`RequestError::StreamUnsupported`](crate::RequestError::StreamUnsupported).
    pub fn range_stream(
        &self,
        request: &pb::RangeRequest,
        chunk_bytes: usize,
    ) -> Result<RangeStream, ReadError> {
        let _ = (request, chunk_bytes);
        todo!()
    }

    /// The changes from `from_revision` on: whole revisions, at most `revisions_max`, and none after `bytes_max` bytes of
    /// keys and values are reached; at least one if there is any.
    ///
    /// # Errors
    /// [`RequestError::Compacted`](crate::RequestError::Compacted) when `from_revision` lies below the compacted one.
    pub fn events(
        &self,
        from_revision: i64,
        revisions_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, ReadError> {
        let _ = (from_revision, revisions_max, bytes_max);
        todo!()
    }

    /// The pair at `key` just before `revision`: a watch's `prev_kv`. `None` when there was none or it is compacted.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn key_before(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, ReadError> {
        let _ = (key, revision);
        todo!()
    }

    /// The hash of the history up to `revision`, 0 for the newest. The same on every member, whatever it has purged.
    ///
    /// # Errors
    /// [`RequestError::Compacted`](crate::RequestError::Compacted),
    /// [`RequestError::FutureRevision`](crate::RequestError::FutureRevision).
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, ReadError> {
        let _ = revision;
        todo!()
    }

    /// A hash of the whole replicated state: history, leases, alarms, revisions. For comparing members.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn hash(&self) -> Result<u32, ReadError> {
        todo!()
    }

    /// All leases by ascending id.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn leases(&self) -> Result<Vec<(i64, LeaseRecord)>, ReadError> {
        todo!()
    }

    /// One lease.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn lease(&self, id: i64) -> Result<Option<LeaseRecord>, ReadError> {
        let _ = id;
        todo!()
    }

    /// The keys attached to a lease, ascending.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn lease_keys(&self, id: i64) -> Result<Vec<Bytes>, ReadError> {
        let _ = id;
        todo!()
    }

    /// The raised alarms, by kind and member.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn alarms(&self) -> Result<Vec<pb::AlarmMember>, ReadError> {
        todo!()
    }

    /// The engine's view under this reader, from which a snapshot streams every table of [`TABLES`](crate::TABLES).
    pub fn view(&self) -> &Arc<dyn View> {
        &self.view
    }
}

/// A streamed range: call [`RangeStream::next_chunk`] until it gives `None`.
#[derive(Debug)]
pub struct RangeStream {
    reader: Reader,
    chunk: Vec<mvccpb::KeyValue>,
}

impl RangeStream {
    /// The next piece, in key order. Only the last has a header, `more` and `count`.
    ///
    /// # Errors
    /// [`ReadError::Store`] only: the state is pinned, so a compaction meanwhile does not disturb it.
    pub fn next_chunk(&mut self) -> Result<Option<pb::RangeResponse>, ReadError> {
        let _ = (&self.reader, &self.chunk);
        todo!()
    }
}
