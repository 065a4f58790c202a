//! History in the order in which it was made: events for watches that catch up, and hashes that members compare.

use std::{
    ops::{Bound, ControlFlow},
    sync::Arc,
};

use prost::Message;
use quorate_engine::{Direction, View};
use quorate_proto::mvccpb::{Event, KeyValue, event::EventType};

use crate::{
    Error, HashKv, ReadError, RequestError, RevisionEvents, Span, alarm,
    index::{self, Stretch},
    lease,
    picture::{Picture, decode_pair},
    schema::{self, LEASE_KEY, REV, Rev},
};

/// The changes from `from_revision` on, in whole revisions.
pub(crate) fn events(
    picture: &Picture<'_>,
    from_revision: i64,
    revisions_max: usize,
    bytes_max: usize,
) -> Result<Vec<Arc<RevisionEvents>>, ReadError> {
    if from_revision < picture.compact_revision {
        return Err(RequestError::Compacted.into());
    }
    let mut gathered: Vec<RevisionEvents> = Vec::new();
    let mut bytes = 0;
    scan(picture.view, from_revision, i64::MAX, &mut |rev, tombstone, key, value| {
        let begins = gathered.last().is_none_or(|last| last.revision != rev.main);
        if begins && (gathered.len() >= revisions_max || (bytes >= bytes_max && bytes > 0)) {
            return Ok(ControlFlow::Break(()));
        }
        bytes += value.len();
        let event = event(rev, tombstone, decode_pair(key, value)?);
        match gathered.last_mut() {
            Some(last) if !begins => last.events.push(event),
            Some(_) | None => {
                gathered.push(RevisionEvents { revision: rev.main, events: vec![event] });
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(gathered.into_iter().map(Arc::new).collect())
}

fn event(rev: Rev, tombstone: bool, pair: KeyValue) -> Event {
    let kind = if tombstone { EventType::Delete } else { EventType::Put };
    let kv = KeyValue { mod_revision: rev.main, ..pair };
    Event { r#type: kind.into(), kv: Some(kv), prev_kv: None }
}

/// The name of etcd's bucket for the history, with which every hash begins.
const BUCKET: &[u8] = b"key";

/// etcd's `HashKV`: CRC32C over the name of its bucket and then, for each change up to the revision in order, its key there
/// and its value. What a compaction takes away does not count, whether it is still here or not: of the changes up to the
/// compacted revision only those that are still the newest of a live key (etcd point 47).
///
/// When no key is alive at the revision, etcd leaves its filter out and hashes what its purge has left, deletions at the
/// compacted revision excepted: what was alive at the compacted revision. The same is done here.
///
/// A negative revision is before everything, so that only the name is hashed.
///
/// Source: etcd `server/storage/mvcc/hash.go`, `kvstore.go` `hashByRev`.
pub(crate) fn hash_kv(picture: &Picture<'_>, requested: i64) -> Result<HashKv, ReadError> {
    if requested < 0 {
        let compact_revision = picture.compact_revision;
        return Ok(HashKv {
            hash: crc32c::crc32c(BUCKET),
            compact_revision,
            hash_revision: requested,
        });
    }
    let revision = picture.resolve(requested)?;
    Ok(hash_history(picture, picture.compact_revision, revision)?)
}

/// The hash up to the compacted revision as it was before that compaction, when `previous` was the compacted revision.
/// Right only as long as nothing was purged since.
///
/// Source: etcd `server/storage/mvcc/kvstore_compaction.go`.
pub(crate) fn hash_compacted(picture: &Picture<'_>, previous: i64) -> Result<HashKv, Error> {
    hash_history(picture, previous, picture.compact_revision)
}

fn hash_history(
    picture: &Picture<'_>,
    compact_revision: i64,
    revision: i64,
) -> Result<HashKv, Error> {
    let everything = Stretch::new(Span::new(b"\0", b"\0"));
    let mut any_alive = false;
    index::scan(picture.view, &everything, revision, &mut |_| {
        any_alive = true;
        Ok(ControlFlow::Break(()))
    })?;
    let keep_at = if any_alive { revision } else { compact_revision };
    let mut hash = crc32c::crc32c(BUCKET);
    scan(picture.view, 0, revision, &mut |rev, tombstone, key, value| {
        if rev.main > compact_revision || is_kept(picture, keep_at, rev, key, value)? {
            hash = crc32c::crc32c_append(hash, &etcd_key(rev, tombstone));
            hash = crc32c::crc32c_append(hash, value);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(HashKv { hash, compact_revision, hash_revision: revision })
}

/// Whether the change at `rev` is the newest of its key at `revision`, and not a deletion.
fn is_kept(
    picture: &Picture<'_>,
    revision: i64,
    rev: Rev,
    key: &[u8],
    value: &[u8],
) -> Result<bool, Error> {
    let user_key = decode_pair(key, value)?.key;
    let newest = index::newest(picture.view, &user_key, revision)?;
    Ok(newest.is_some_and(|newest| newest.rev == rev && !newest.tombstone))
}

/// A change's key in etcd's own database.
fn etcd_key(rev: Rev, tombstone: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.extend_from_slice(&rev.main.to_be_bytes());
    key.push(b'_');
    key.extend_from_slice(&i64::from(rev.sub).to_be_bytes());
    if tombstone {
        key.push(schema::TOMBSTONE_MARK);
    }
    key
}

/// A hash of everything replicated: history, revisions, leases with their keys, alarms. Purging does not change it.
pub(crate) fn hash(picture: &Picture<'_>) -> Result<u32, ReadError> {
    let mut hash = hash_kv(picture, 0)?.hash;
    for revision in [picture.revision, picture.compact_revision] {
        hash = crc32c::crc32c_append(hash, &revision.to_be_bytes());
    }
    for (id, record) in lease::all(picture.view)? {
        for number in [id, record.ttl, record.remaining_ttl] {
            hash = crc32c::crc32c_append(hash, &number.to_be_bytes());
        }
    }
    let everything = (Bound::Unbounded, Bound::Unbounded);
    picture.view.scan(LEASE_KEY, everything, Direction::Forward, &mut |key, _| {
        hash = crc32c::crc32c_append(hash, key);
        ControlFlow::Continue(())
    })?;
    for alarm in alarm::all(picture.view)? {
        hash = crc32c::crc32c_append(hash, &alarm.encode_to_vec());
    }
    Ok(hash)
}

/// Gets the place of a change, whether it is a deletion, and its key and value in `rev`.
pub(crate) type VisitChange<'a> =
    dyn FnMut(Rev, bool, &[u8], &[u8]) -> Result<ControlFlow<()>, Error> + 'a;

/// Visits the changes of the revisions `first..=last`, in order.
pub(crate) fn scan(
    view: &dyn View,
    first: i64,
    last: i64,
    visit: &mut VisitChange<'_>,
) -> Result<(), Error> {
    scan_from(view, Rev { main: first.max(0), sub: 0 }, last, visit)
}

/// As [`scan`], from one change on.
pub(crate) fn scan_from(
    view: &dyn View,
    first: Rev,
    last: i64,
    visit: &mut VisitChange<'_>,
) -> Result<(), Error> {
    let low = schema::rev_key(first, false);
    let mut result = Ok(());
    let range = (Bound::Included(&low[..]), Bound::Unbounded);
    view.scan(REV, range, Direction::Forward, &mut |key, value| {
        let flow = schema::parse_rev_key(key).and_then(|(rev, tombstone)| {
            if rev.main > last {
                return Ok(ControlFlow::Break(()));
            }
            visit(rev, tombstone, key, value)
        });
        flow.unwrap_or_else(|error| {
            result = Err(error);
            ControlFlow::Break(())
        })
    })?;
    result
}
