//! One applied state, for reading.

use std::sync::Arc;

use bytes::Bytes;
use quorate_engine::View;
use quorate_proto::{etcdserverpb as pb, mvccpb::KeyValue};

use crate::{
    Applied, LeaseRecord, MemberDirectory, RangeStream, ReadError, RevisionEvents,
    alarm::{self, Raised},
    history, lease, member,
    picture::Picture,
    range,
    schema::State,
    txn,
};

/// A view of one applied state. Cheap to clone; holding one pins the space of what was purged since.
///
/// Reads are answered whatever alarms are raised, as in etcd 3.7; a caller that wants to refuse them asks
/// [`Reader::is_corrupt`].
#[derive(Clone, Debug)]
pub struct Reader {
    view: Arc<dyn View>,
    state: State,
    raised: Raised,
}

impl Reader {
    pub(crate) fn new(view: Arc<dyn View>, state: State, raised: Raised) -> Self {
        Self { view, state, raised }
    }

    /// The newest revision; 1 in an empty store.
    pub fn revision(&self) -> i64 {
        self.state.revision
    }

    /// The compacted revision: the oldest that can be read; -1 when nothing was ever compacted.
    pub fn compact_revision(&self) -> i64 {
        self.state.compact_revision
    }

    /// The entry after which this state stood.
    pub fn applied(&self) -> Applied {
        self.state.applied
    }

    /// Whether the space alarm is raised by any member.
    pub fn is_out_of_space(&self) -> bool {
        self.raised.nospace
    }

    /// Whether the corruption alarm is raised by any member.
    pub fn is_corrupt(&self) -> bool {
        self.raised.corrupt
    }

    /// Answers a range. The header holds only `revision`.
    ///
    /// # Errors
    /// Those of [`check::range`](crate::check::range), [`Compacted`](crate::RequestError::Compacted),
    /// [`FutureRevision`](crate::RequestError::FutureRevision).
    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ReadError> {
        range::range(&self.picture(), request)
    }

    /// Answers a transaction of ranges.
    ///
    /// # Errors
    /// [`NotReadOnly`](crate::RequestError::NotReadOnly) when [`check::is_read_only`](crate::check::is_read_only) says
    /// no, and those of [`check::txn`](crate::check::txn) and [`Reader::range`].
    pub fn txn(&self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, ReadError> {
        txn::read(&self.picture(), request)
    }

    /// Begins a streamed range over this very state.
    ///
    /// `chunk_bytes` is what a chunk grows towards; its last pair may exceed it.
    ///
    /// # Errors
    /// As [`Reader::range`], and [`StreamUnsupported`](crate::RequestError::StreamUnsupported).
    pub fn range_stream(
        &self,
        request: &pb::RangeRequest,
        chunk_bytes: usize,
    ) -> Result<RangeStream, ReadError> {
        RangeStream::new(self.clone(), request, chunk_bytes)
    }

    /// The changes from `from_revision` on: whole revisions, at most `revisions_max`, and none after `bytes_max` bytes of
    /// pairs are reached; but at least one if there is any and `revisions_max` is not 0.
    ///
    /// # Errors
    /// [`Compacted`](crate::RequestError::Compacted) when `from_revision` lies below the compacted one.
    pub fn events(
        &self,
        from_revision: i64,
        revisions_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, ReadError> {
        history::events(&self.picture(), from_revision, revisions_max, bytes_max)
    }

    /// The pair at `key` just before `revision`: a watch's `prev_kv`. `None` when there was none or it is compacted (etcd
    /// point 37).
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn key_before(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, ReadError> {
        let before = revision.saturating_sub(1);
        if before < self.state.compact_revision || before <= 0 {
            return Ok(None);
        }
        Ok(self.picture().get(key, before)?)
    }

    /// All leases by ascending id.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn leases(&self) -> Result<Vec<(i64, LeaseRecord)>, ReadError> {
        Ok(lease::all(&*self.view)?)
    }

    /// One lease.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn lease(&self, id: i64) -> Result<Option<LeaseRecord>, ReadError> {
        Ok(lease::get(&*self.view, id)?)
    }

    /// The keys attached to a lease, ascending; none for a lease that does not exist.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn lease_keys(&self, id: i64) -> Result<Vec<Bytes>, ReadError> {
        Ok(lease::keys(&*self.view, id)?)
    }

    /// The raised alarms, by kind and member.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn alarms(&self) -> Result<Vec<pb::AlarmMember>, ReadError> {
        Ok(alarm::all(&*self.view)?)
    }

    /// The data directories of members, as the group agreed on them, by ascending member.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn member_directories(&self) -> Result<Vec<MemberDirectory>, ReadError> {
        Ok(member::all(&*self.view)?)
    }

    /// The engine's view under this reader, from which a snapshot streams every table of [`TABLES`](crate::TABLES).
    pub fn view(&self) -> &Arc<dyn View> {
        &self.view
    }

    pub(crate) fn picture(&self) -> Picture<'_> {
        Picture::new(&*self.view, &self.state)
    }
}
