//! Leases as replicated data: which exist, for how long they were granted, and which keys they hold. Time itself, and so
//! the end of a lease, is the business of whoever proposes the revoke.
//!
//! Source: etcd `server/lease/lessor.go`.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use prost::Message;
use quorate_engine::{Direction, View};
use quorate_proto::etcdserverpb as pb;

use crate::{
    Error, LEASE_TTL_MIN_SECONDS, LeaseChange, LeaseRecord, ReadError, RequestError,
    schema::{self, LEASE, LEASE_KEY},
    staged::Staged,
};

#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(int64, tag = "1")]
    ttl: i64,
    #[prost(int64, tag = "2")]
    remaining_ttl: i64,
}

/// Makes a lease; the time to live is raised to the minimum (etcd point 40).
pub(crate) fn grant(
    staged: &mut Staged,
    request: pb::LeaseGrantRequest,
) -> Result<LeaseChange, ReadError> {
    let id = request.id;
    if id == 0 {
        return Err(RequestError::LeaseNotFound.into());
    }
    if get(staged, id)?.is_some() {
        return Err(RequestError::LeaseExists.into());
    }
    let ttl = request.ttl.max(LEASE_TTL_MIN_SECONDS);
    put(staged, id, LeaseRecord { ttl, remaining_ttl: 0 });
    Ok(LeaseChange::Granted { id, ttl })
}

/// Takes a lease away, and gives the keys that must go with it, ascending (etcd point 6).
pub(crate) fn take(staged: &mut Staged, id: i64) -> Result<Vec<Bytes>, ReadError> {
    if get(staged, id)?.is_none() {
        return Err(RequestError::LeaseNotFound.into());
    }
    let keys = keys(staged, id)?;
    staged.delete(LEASE, Bytes::copy_from_slice(&schema::lease_key(id)));
    Ok(keys)
}

/// Notes the remaining time of those leases that exist; others have ended meanwhile and are passed over.
pub(crate) fn checkpoint(
    staged: &mut Staged,
    request: &pb::LeaseCheckpointRequest,
) -> Result<Vec<LeaseChange>, Error> {
    let mut changes = Vec::new();
    for &pb::LeaseCheckpoint { id, remaining_ttl } in &request.checkpoints {
        if let Some(record) = get(staged, id)? {
            put(staged, id, LeaseRecord { remaining_ttl, ..record });
            changes.push(LeaseChange::Checkpointed { id, remaining_ttl });
        }
    }
    Ok(changes)
}

pub(crate) fn get(view: &dyn View, id: i64) -> Result<Option<LeaseRecord>, Error> {
    let key = schema::lease_key(id);
    view.get(LEASE, &key)?.map(|value| decode(&key, &value)).transpose()
}

/// All leases by ascending id.
pub(crate) fn all(view: &dyn View) -> Result<Vec<(i64, LeaseRecord)>, Error> {
    let mut leases = Ok(Vec::new());
    let everything = (Bound::Unbounded, Bound::Unbounded);
    view.scan(LEASE, everything, Direction::Forward, &mut |key, value| {
        push(&mut leases, parse(key, value))
    })?;
    leases
}

/// The keys attached to a lease, ascending.
pub(crate) fn keys(view: &dyn View, id: i64) -> Result<Vec<Bytes>, Error> {
    let low = schema::lease_key(id);
    let high = id.checked_add(1).map(schema::lease_key);
    let high = high.as_ref().map_or(Bound::Unbounded, |high| Bound::Excluded(&high[..]));
    let mut keys = Ok(Vec::new());
    let range = (Bound::Included(&low[..]), high);
    view.scan(LEASE_KEY, range, Direction::Forward, &mut |key, _| {
        push(&mut keys, schema::parse_lease_key(key).map(|(_, key)| Bytes::copy_from_slice(key)))
    })?;
    keys
}

fn put(staged: &mut Staged, id: i64, record: LeaseRecord) {
    let stored = Stored { ttl: record.ttl, remaining_ttl: record.remaining_ttl };
    staged.put(LEASE, Bytes::copy_from_slice(&schema::lease_key(id)), stored.encode_to_vec());
}

/// The lease that a pair of its table holds.
pub(crate) fn parse(key: &[u8], value: &[u8]) -> Result<(i64, LeaseRecord), Error> {
    let (id, _) = schema::parse_lease_key(key)?;
    Ok((id, decode(key, value)?))
}

fn decode(key: &[u8], value: &[u8]) -> Result<LeaseRecord, Error> {
    let stored = Stored::decode(value).map_err(|_| schema::malformed(LEASE, "lease", key))?;
    Ok(LeaseRecord { ttl: stored.ttl, remaining_ttl: stored.remaining_ttl })
}

/// Collects until the first error.
pub(crate) fn push<T>(list: &mut Result<Vec<T>, Error>, item: Result<T, Error>) -> ControlFlow<()> {
    match (list.as_mut(), item) {
        (Ok(list), Ok(item)) => {
            list.push(item);
            ControlFlow::Continue(())
        }
        (Ok(_), Err(error)) => {
            *list = Err(error);
            ControlFlow::Break(())
        }
        (Err(_), _) => ControlFlow::Break(()),
    }
}
