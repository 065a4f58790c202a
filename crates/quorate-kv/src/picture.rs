//! A view together with the revisions that say what may be read of it.

use std::{
    cmp::Ordering,
    ops::ControlFlow::{Break, Continue},
};

use bytes::{Buf, Bytes};
use prost::Message;
use quorate_engine::View;
use quorate_proto::{
    etcdserverpb::{
        self as pb,
        compare::{CompareResult, CompareTarget, TargetUnion},
    },
    mvccpb::KeyValue,
};

use crate::{
    Error, ReadError, RequestError, Span,
    index::{self, Stretch},
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

    /// Whether a comparison holds for every key it names.
    ///
    /// Without any key, a comparison of values is false whatever it asks, and any other is made with 0 (etcd points 22
    /// and 23). Source: etcd `server/etcdserver/txn/txn.go`, `applyCompare`.
    pub(crate) fn compare(&self, compare: &pb::Compare) -> Result<bool, Error> {
        let stretch = Stretch::new(Span::new(&compare.key, &compare.range_end));
        let by_value = compare.target == CompareTarget::Value as i32;
        let (mut any, mut all) = (false, true);
        index::scan(self.view, &stretch, self.revision, &mut |found| {
            any = true;
            let stamp = found.stamp()?;
            let value = if by_value { self.load(stamp)?.value } else { Bytes::new() };
            all = holds(compare, &stamp, &value);
            Ok(if all { Continue(()) } else { Break(()) })
        })?;
        Ok(if any { all } else { !by_value && holds(compare, &Stamp::ABSENT, &[]) })
    }
}

/// Reads a value of `rev`.
pub(crate) fn decode_pair(key: &[u8], bytes: impl Buf) -> Result<KeyValue, Error> {
    KeyValue::decode(bytes).map_err(|_| schema::malformed(REV, "pair", key))
}

/// How `compare` finds the pair; what it does not say is 0 or empty.
fn order(compare: &pb::Compare, stamp: &Stamp, value: &[u8]) -> Ordering {
    let union = compare.target_union.as_ref();
    match (CompareTarget::try_from(compare.target), union) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(to))) => stamp.version.cmp(to),
        (Ok(CompareTarget::Version), _) => stamp.version.cmp(&0),
        (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(to))) => {
            stamp.create_revision.cmp(to)
        }
        (Ok(CompareTarget::Create), _) => stamp.create_revision.cmp(&0),
        (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(to))) => stamp.rev.main.cmp(to),
        (Ok(CompareTarget::Mod), _) => stamp.rev.main.cmp(&0),
        (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(to))) => stamp.lease.cmp(to),
        (Ok(CompareTarget::Lease), _) => stamp.lease.cmp(&0),
        (Ok(CompareTarget::Value), Some(TargetUnion::Value(to))) => value.cmp(to),
        (Ok(CompareTarget::Value), _) => value.cmp(&[]),
        (Err(_), _) => Ordering::Equal,
    }
}

fn holds(compare: &pb::Compare, stamp: &Stamp, value: &[u8]) -> bool {
    let order = order(compare, stamp, value);
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
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
