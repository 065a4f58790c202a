//! Answering a range, with etcd's quirks of limits, sorting and counting.
//!
//! `count` is always the number of keys in the range, whatever limits and filters say (etcd point 10). A limit cuts in key
//! order before anything else when the request has no sort order and no filters; with either it cuts last (points 11 and
//! 12). Values are read last, and only of the pairs that are returned, unless values decide the order.
//!
//! A range is read in slices ([`RangeWork`]). One in key order gives its pairs as it comes by them and keeps none; any other
//! must have seen every key first, and keeps those.
//!
//! Source: etcd `server/etcdserver/txn/range.go`.

use std::{ops::ControlFlow, vec::IntoIter};

use bytes::Bytes;
use quorate_proto::{
    etcdserverpb::{self as pb, range_request::SortOrder, range_request::SortTarget},
    mvccpb::KeyValue,
};

use crate::{
    Budget, Error, ReadError, Span, check,
    index::{Found, Pause, Scan, Stretch},
    picture::{self, Picture},
    schema::Stamp,
};

/// Answers a range at once.
pub(crate) fn range(
    picture: &Picture<'_>,
    request: &pb::RangeRequest,
) -> Result<pb::RangeResponse, ReadError> {
    let mut work = RangeWork::new(picture, request)?;
    let mut kvs = Vec::new();
    loop {
        if let Some(end) = work.advance(picture, &mut Budget::unlimited(), &mut kvs)? {
            return Ok(pb::RangeResponse { kvs, ..end });
        }
    }
}

/// A key of the answer, before its value is read.
#[derive(Debug)]
struct Hit {
    key: Bytes,
    stamp: Stamp,
}

/// A range that is being answered, slice by slice. Every call must see the same picture.
#[derive(Debug)]
pub(crate) struct RangeWork {
    request: pb::RangeRequest,
    scan: Scan,
    in_order: bool,
    limit: usize,
    /// Keys in the range.
    count: i64,
    /// Pairs given out, when they are given in key order.
    given: usize,
    /// Bytes of the pairs that were read.
    bytes: usize,
    /// Keys that the answer may hold, when they are not.
    hits: Vec<Hit>,
    sorted: Option<Sorted>,
}

/// What is left to be given out once every key was seen.
#[derive(Debug)]
struct Sorted {
    more: bool,
    hits: IntoIter<Hit>,
    /// The pairs that were read, when their values decide the order.
    by_value: Option<Vec<KeyValue>>,
}

impl RangeWork {
    /// Begins to answer.
    pub(crate) fn new(
        picture: &Picture<'_>,
        request: &pb::RangeRequest,
    ) -> Result<Self, ReadError> {
        check::range(request)?;
        let revision = picture.resolve(request.revision)?;
        let stretch = Stretch::new(Span::new(&request.key, &request.range_end));
        let limit = usize::try_from(request.limit).unwrap_or(0);
        Ok(Self {
            scan: Scan::new(&stretch, revision),
            in_order: request.count_only || is_in_key_order(request),
            limit: if limit == 0 { usize::MAX } else { limit },
            request: request.clone(),
            count: 0,
            given: 0,
            bytes: 0,
            hits: Vec::new(),
            sorted: None,
        })
    }

    /// Goes on within `budget` and adds to `kvs` the next pairs of the answer. Gives the answer without its pairs when
    /// there are no more.
    pub(crate) fn advance(
        &mut self,
        picture: &Picture<'_>,
        budget: &mut Budget,
        kvs: &mut Vec<KeyValue>,
    ) -> Result<Option<pb::RangeResponse>, Error> {
        if self.sorted.is_none() {
            if self.scan(picture, budget, kvs)? != Pause::Ended {
                return Ok(None);
            }
            if self.in_order {
                let more = self.count > i64::try_from(self.limit).unwrap_or(i64::MAX);
                return Ok(Some(self.end(picture, more && !self.request.count_only)));
            }
            self.sorted = Some(self.sort());
        }
        self.read(picture, budget, kvs)
    }

    /// Bytes of the answer so far, given out or not, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let waiting = self.sorted.as_ref().map_or(self.hits.len(), |sorted| sorted.hits.len());
        self.bytes + waiting * size_of::<Hit>()
    }

    fn scan(
        &mut self,
        picture: &Picture<'_>,
        budget: &mut Budget,
        kvs: &mut Vec<KeyValue>,
    ) -> Result<Pause, Error> {
        let Self { request, scan, in_order, limit, count, given, bytes, hits, .. } = self;
        let hits_max = hits_max(request);
        scan.advance(picture.view, budget, &mut |found, budget| {
            *count += 1;
            if !*in_order {
                let stamp = found.stamp()?;
                if hits.len() < hits_max && passes(request, &stamp) {
                    hits.push(Hit { key: found.key()?, stamp });
                }
            } else if !request.count_only && *given < *limit {
                *given += 1;
                let kv = found_pair(picture, request.keys_only, found, budget)?;
                *bytes += pair_bytes(&kv);
                kvs.push(kv);
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Puts the keys in their order. An order by value comes when the values are there.
    fn sort(&mut self) -> Sorted {
        let mut hits = std::mem::take(&mut self.hits);
        let more = hits.len() > self.limit;
        let by_value = sorts_by_value(&self.request).then(Vec::new);
        if by_value.is_none() {
            sort(&self.request, &mut hits);
            hits.truncate(self.limit);
        }
        Sorted { more, hits: hits.into_iter(), by_value }
    }

    /// Reads the pairs of the sorted keys.
    fn read(
        &mut self,
        picture: &Picture<'_>,
        budget: &mut Budget,
        kvs: &mut Vec<KeyValue>,
    ) -> Result<Option<pb::RangeResponse>, Error> {
        let Self { request, limit, bytes, sorted, .. } = self;
        let Some(sorted) = sorted else { return Ok(None) };
        let whole = sorted.by_value.is_some();
        for Hit { key, stamp } in sorted.hits.by_ref() {
            let kv = pair(picture, request.keys_only && !whole, key, stamp)?;
            budget.spend_lookup(kv.value.len());
            *bytes += pair_bytes(&kv);
            sorted.by_value.as_mut().unwrap_or(&mut *kvs).push(kv);
            if budget.is_spent() {
                return Ok(None);
            }
        }
        if let Some(found) = sorted.by_value.take() {
            kvs.extend(sort_by_value(request, found, *limit));
        }
        let more = sorted.more;
        Ok(Some(self.end(picture, more)))
    }

    fn end(&self, picture: &Picture<'_>, more: bool) -> pb::RangeResponse {
        pb::RangeResponse {
            header: Some(picture::header(picture.revision)),
            kvs: Vec::new(),
            more,
            count: self.count,
        }
    }
}

/// Whether the answer holds the first keys of the range, in their order.
fn is_in_key_order(request: &pb::RangeRequest) -> bool {
    let by_key = request.sort_target() == SortTarget::Key;
    by_key && request.sort_order() != SortOrder::Descend && !is_filtered(request)
}

fn is_filtered(request: &pb::RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// How many keys, in key order, must be looked at: one more than the limit, unless sorting or filters come first.
fn hits_max(request: &pb::RangeRequest) -> usize {
    if request.limit <= 0 || is_filtered(request) || request.sort_order() != SortOrder::None {
        return usize::MAX;
    }
    usize::try_from(request.limit).map_or(usize::MAX, |limit| limit.saturating_add(1))
}

/// Whether a pair passes the revision filters; 0 is no filter.
fn passes(request: &pb::RangeRequest, stamp: &Stamp) -> bool {
    let within = |revision: i64, min: i64, max: i64| {
        (min == 0 || revision >= min) && (max == 0 || revision <= max)
    };
    within(stamp.rev.main, request.min_mod_revision, request.max_mod_revision)
        && within(stamp.create_revision, request.min_create_revision, request.max_create_revision)
}

fn sorts_by_value(request: &pb::RangeRequest) -> bool {
    request.sort_target() == SortTarget::Value
}

/// Sorts by anything but values. No order with a target other than the key means ascending (etcd point 12). Ties stay
/// in key order.
fn sort(request: &pb::RangeRequest, hits: &mut [Hit]) {
    let number = |stamp: &Stamp| match request.sort_target() {
        SortTarget::Version => stamp.version,
        SortTarget::Create => stamp.create_revision,
        SortTarget::Mod => stamp.rev.main,
        SortTarget::Key | SortTarget::Value => 0,
    };
    let descend = request.sort_order() == SortOrder::Descend;
    match (request.sort_target(), descend) {
        (SortTarget::Key, true) => hits.reverse(),
        (SortTarget::Key, false) => {}
        (_, false) => hits.sort_by_key(|hit| number(&hit.stamp)),
        (_, true) => hits.sort_by_key(|hit| std::cmp::Reverse(number(&hit.stamp))),
    }
}

/// The pairs sorted by value; all values were read for that.
fn sort_by_value(
    request: &pb::RangeRequest,
    mut kvs: Vec<KeyValue>,
    limit: usize,
) -> Vec<KeyValue> {
    match request.sort_order() {
        SortOrder::Descend => kvs.sort_by(|a, b| b.value.cmp(&a.value)),
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
    }
    kvs.truncate(limit);
    if request.keys_only {
        for kv in &mut kvs {
            kv.value = Bytes::new();
        }
    }
    kvs
}

/// What a pair takes in an answer, roughly.
fn pair_bytes(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len() + size_of::<KeyValue>()
}

/// The pair of a key that a scan came by.
pub(crate) fn found_pair(
    picture: &Picture<'_>,
    keys_only: bool,
    found: &Found<'_>,
    budget: &mut Budget,
) -> Result<KeyValue, Error> {
    let kv = pair(picture, keys_only, found.key()?, found.stamp()?)?;
    if !keys_only {
        budget.spend_lookup(kv.value.len());
    }
    Ok(kv)
}

/// The pair of a key. Without values it comes from the index, and without the lease, as in etcd (point 13).
fn pair(
    picture: &Picture<'_>,
    keys_only: bool,
    key: Bytes,
    stamp: Stamp,
) -> Result<KeyValue, Error> {
    if !keys_only {
        return picture.load(stamp);
    }
    Ok(KeyValue {
        key,
        create_revision: stamp.create_revision,
        mod_revision: stamp.rev.main,
        version: stamp.version,
        ..KeyValue::default()
    })
}
