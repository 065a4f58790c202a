//! Answering a range, with etcd's quirks of limits, sorting and counting.
//!
//! `count` is always the number of keys in the range, whatever limits and filters say (etcd point 10). A limit cuts in key
//! order before anything else when the request has no sort order and no filters; with either it cuts last (points 11 and
//! 12). Values are read last, and only of the pairs that are returned, unless values decide the order.
//!
//! Source: etcd `server/etcdserver/txn/range.go`.

use std::ops::ControlFlow;

use bytes::Bytes;
use quorate_proto::{
    etcdserverpb::{self as pb, range_request::SortOrder, range_request::SortTarget},
    mvccpb::KeyValue,
};

use crate::{
    Error, ReadError, Span, check,
    index::{self, Stretch},
    picture::{self, Picture},
    schema::Stamp,
};

/// A key of the answer, before its value is read.
struct Hit {
    key: Bytes,
    stamp: Stamp,
}

pub(crate) fn range(
    picture: &Picture<'_>,
    request: &pb::RangeRequest,
) -> Result<pb::RangeResponse, ReadError> {
    check::range(request)?;
    let revision = picture.resolve(request.revision)?;
    let stretch = Stretch::new(Span::new(&request.key, &request.range_end));
    let mut response = pb::RangeResponse {
        header: Some(picture::header(picture.revision)),
        ..pb::RangeResponse::default()
    };
    if request.count_only {
        response.count = index::count(picture.view, &stretch, revision)?;
        return Ok(response);
    }
    let (mut hits, count) = collect(picture, &stretch, revision, hits_max(request))?;
    response.count = count;
    hits.retain(|hit| passes(request, &hit.stamp));
    let limit = usize::try_from(request.limit).unwrap_or(0);
    response.more = limit > 0 && hits.len() > limit;
    let limit = if limit == 0 { usize::MAX } else { limit };
    response.kvs = if sorts_by_value(request) {
        by_value(picture, request, &hits, limit)?
    } else {
        sort(request, &mut hits);
        hits.truncate(limit);
        pairs(picture, request, hits)?
    };
    Ok(response)
}

/// How many keys, in key order, must be looked at: one more than the limit, unless sorting or filters come first.
fn hits_max(request: &pb::RangeRequest) -> usize {
    let filtered = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    if request.limit <= 0 || filtered || request.sort_order() != SortOrder::None {
        return usize::MAX;
    }
    usize::try_from(request.limit).map_or(usize::MAX, |limit| limit.saturating_add(1))
}

fn collect(
    picture: &Picture<'_>,
    stretch: &Stretch,
    revision: i64,
    hits_max: usize,
) -> Result<(Vec<Hit>, i64), Error> {
    let (mut hits, mut count) = (Vec::new(), 0);
    index::scan(picture.view, stretch, revision, &mut |found| {
        count += 1;
        if hits.len() < hits_max {
            hits.push(Hit { key: found.key()?, stamp: found.stamp()? });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((hits, count))
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

/// The pairs sorted by value; all values are read for that.
fn by_value(
    picture: &Picture<'_>,
    request: &pb::RangeRequest,
    hits: &[Hit],
    limit: usize,
) -> Result<Vec<KeyValue>, Error> {
    let loaded: Result<Vec<_>, Error> = hits.iter().map(|hit| picture.load(hit.stamp)).collect();
    let mut kvs = loaded?;
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
    Ok(kvs)
}

fn pairs(
    picture: &Picture<'_>,
    request: &pb::RangeRequest,
    hits: Vec<Hit>,
) -> Result<Vec<KeyValue>, Error> {
    hits.into_iter().map(|hit| pair(picture, request.keys_only, hit.key, hit.stamp)).collect()
}

/// The pair of a key. Without values it comes from the index, and without the lease, as in etcd (point 13).
pub(crate) fn pair(
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
