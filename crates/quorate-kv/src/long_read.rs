//! Reads that take long, in slices: over one pinned state, a [`Budget`] at a time.
//!
//! The answer is the same whatever the budgets are. One that is dropped half-way leaves nothing behind.

use quorate_proto::{etcdserverpb as pb, mvccpb::KeyValue};

use crate::{
    Budget, HashKv, ReadError, Reader,
    hash::{Hash, HashWork},
    range::RangeWork,
    txn::ReadWork,
};

/// A range.
#[derive(Debug)]
pub struct LongRange {
    reader: Reader,
    work: RangeWork,
}

impl LongRange {
    /// Goes on within `budget` and adds to `kvs` the next pairs of the answer. Gives the rest of the answer, which is all
    /// but its pairs, when there are no more.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn advance(
        &mut self,
        budget: &mut Budget,
        kvs: &mut Vec<KeyValue>,
    ) -> Result<Option<pb::RangeResponse>, ReadError> {
        Ok(self.work.advance(&self.reader.picture(), budget, kvs)?)
    }

    /// Bytes of the answer so far, roughly: of the pairs that were given, and of what must be held until the order is known.
    pub fn held_bytes(&self) -> usize {
        self.work.bytes()
    }
}

/// A transaction of ranges.
#[derive(Debug)]
pub struct LongTxn {
    reader: Reader,
    work: ReadWork,
}

impl LongTxn {
    /// Goes on within `budget`. Gives the answer when it is whole.
    ///
    /// # Errors
    /// Those of a transaction's comparisons and ranges; see [`Reader::txn`].
    pub fn advance(&mut self, budget: &mut Budget) -> Result<Option<pb::TxnResponse>, ReadError> {
        self.work.advance(&self.reader.picture(), budget)
    }

    /// Bytes of the answer so far, roughly.
    pub fn held_bytes(&self) -> usize {
        self.work.bytes()
    }
}

/// A hash.
#[derive(Debug)]
pub struct LongHash {
    reader: Reader,
    work: HashWork,
}

impl LongHash {
    /// Goes on within `budget`. Gives the hash when it is whole.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn advance(&mut self, budget: &mut Budget) -> Result<Option<HashKv>, ReadError> {
        Ok(self.work.advance(&self.reader.picture(), budget)?)
    }

    /// The hash, whatever it costs.
    fn at_once(mut self) -> Result<HashKv, ReadError> {
        loop {
            if let Some(hash) = self.advance(&mut Budget::unlimited())? {
                return Ok(hash);
            }
        }
    }
}

impl Reader {
    /// Begins a range that may take long; see [`Reader::range`].
    ///
    /// # Errors
    /// As [`Reader::range`].
    pub fn long_range(self, request: &pb::RangeRequest) -> Result<LongRange, ReadError> {
        let work = RangeWork::new(&self.picture(), request)?;
        Ok(LongRange { reader: self, work })
    }

    /// Begins a transaction of ranges that may take long; see [`Reader::txn`].
    ///
    /// # Errors
    /// [`NotReadOnly`](crate::RequestError::NotReadOnly), and those of [`check::txn`](crate::check::txn).
    pub fn long_txn(self, request: &pb::TxnRequest) -> Result<LongTxn, ReadError> {
        Ok(LongTxn { work: ReadWork::new(request)?, reader: self })
    }

    /// Begins to hash the history up to `revision`, 0 for the newest; see [`Reader::hash_kv`].
    ///
    /// # Errors
    /// As [`Reader::hash_kv`].
    pub fn long_hash_kv(self, revision: i64) -> Result<LongHash, ReadError> {
        let work = HashWork::new(&self.picture(), Hash::Kv, revision)?;
        Ok(LongHash { reader: self, work })
    }

    /// Begins to hash the whole state; see [`Reader::hash`].
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn long_hash(self) -> Result<LongHash, ReadError> {
        let work = HashWork::new(&self.picture(), Hash::Whole, 0)?;
        Ok(LongHash { reader: self, work })
    }

    /// The hash of the history up to `revision`, 0 for the newest. The same on every member, whatever it has purged, and
    /// the same as etcd's for the same history.
    ///
    /// # Errors
    /// [`Compacted`](crate::RequestError::Compacted), [`FutureRevision`](crate::RequestError::FutureRevision).
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, ReadError> {
        self.clone().long_hash_kv(revision)?.at_once()
    }

    /// The hash up to the compacted revision as [`Reader::hash_kv`] gave it before that compaction, when
    /// `previous_compact_revision` was the compacted one. Right only on a reader from before the purge that follows;
    /// members keep it to compare themselves with.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn hash_compacted(&self, previous_compact_revision: i64) -> Result<HashKv, ReadError> {
        let work = HashWork::of_compaction(&self.picture(), previous_compact_revision);
        LongHash { reader: self.clone(), work }.at_once()
    }

    /// A hash of the whole replicated state: history, leases, alarms, revisions. For comparing members that have applied
    /// the same log; not etcd's number.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn hash(&self) -> Result<u32, ReadError> {
        Ok(self.clone().long_hash()?.at_once()?.hash)
    }
}
