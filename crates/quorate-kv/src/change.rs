//! One command's changes: everything in it gets the same main revision.

use bytes::Bytes;
use prost::Message;
use quorate_proto::{
    etcdserverpb as pb,
    mvccpb::{Event, KeyValue, event::EventType},
};

use crate::{
    Error, ReadError, RequestError, Span,
    cache::StampCache,
    index::{self, Stretch},
    lease,
    picture::{self, Picture},
    range,
    schema::{self, IDX, LEASE_KEY, REV, Rev, Stamp, State},
    staged::Staged,
};

/// Makes changes at the revision after the current one. Sub revisions count them (etcd point 2); without any, the
/// revision is not used up (point 3).
pub(crate) struct Change<'r> {
    staged: &'r mut Staged,
    cache: &'r mut StampCache,
    /// The revision before this change.
    begin: i64,
    compact_revision: i64,
    events: Vec<Event>,
}

impl<'r> Change<'r> {
    pub(crate) fn new(staged: &'r mut Staged, cache: &'r mut StampCache, state: &State) -> Self {
        Self {
            staged,
            cache,
            begin: state.revision,
            compact_revision: state.compact_revision,
            events: Vec::new(),
        }
    }

    /// What was changed, in order.
    pub(crate) fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// What an operation that comes now reads.
    pub(crate) fn picture(&self) -> Picture<'_> {
        Picture {
            view: &*self.staged,
            revision: self.revision(),
            compact_revision: self.compact_revision,
        }
    }

    /// The current revision as this change sees it: its own as soon as it has changed something.
    pub(crate) fn revision(&self) -> i64 {
        if self.events.is_empty() { self.begin } else { self.begin + 1 }
    }

    /// Whether a put would be refused for what the store holds: a lease that is not there, or, second, a flag that needs
    /// the key.
    pub(crate) fn check_put(&mut self, request: &pb::PutRequest) -> Result<(), ReadError> {
        if request.lease != 0 && lease::get(&*self.staged, request.lease)?.is_none() {
            return Err(RequestError::LeaseNotFound.into());
        }
        let needs_key = request.ignore_value || request.ignore_lease;
        if needs_key && self.live(&request.key)?.is_none() {
            return Err(RequestError::KeyNotFound.into());
        }
        Ok(())
    }

    /// Puts. The request has been checked.
    pub(crate) fn put(&mut self, request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        let old = self.live(&request.key)?;
        let old_pair = match old {
            Some(stamp) if request.prev_kv || request.ignore_value => {
                Some(self.picture().load(stamp)?)
            }
            Some(_) | None => None,
        };
        let value = match &old_pair {
            Some(old) if request.ignore_value => old.value.clone(),
            Some(_) | None => request.value,
        };
        let old_lease = old.map_or(0, |old| old.lease);
        let lease = if request.ignore_lease { old_lease } else { request.lease };
        self.move_lease(&request.key, old_lease, lease);
        self.set(request.key, value, lease, old);
        Ok(pb::PutResponse {
            header: Some(picture::header(self.revision())),
            prev_kv: old_pair.filter(|_| request.prev_kv),
        })
    }

    /// Deletes a range.
    pub(crate) fn delete_range(
        &mut self,
        request: &pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Error> {
        let old = self.live_in(Span::new(&request.key, &request.range_end))?;
        let mut response = pb::DeleteRangeResponse {
            deleted: i64::try_from(old.len()).unwrap_or(i64::MAX),
            ..pb::DeleteRangeResponse::default()
        };
        if request.prev_kv {
            let picture = self.picture();
            let loaded: Result<_, Error> =
                old.iter().map(|(_, stamp)| picture.load(*stamp)).collect();
            response.prev_kvs = loaded?;
        }
        for (key, stamp) in old {
            self.remove(key, stamp.lease);
        }
        response.header = Some(picture::header(self.revision()));
        Ok(response)
    }

    /// Deletes one key, if it is there.
    pub(crate) fn delete(&mut self, key: Bytes) -> Result<(), Error> {
        if let Some(old) = self.live(&key)? {
            self.remove(key, old.lease);
        }
        Ok(())
    }

    /// Answers a range inside a transaction.
    pub(crate) fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ReadError> {
        range::range(&self.picture(), request)
    }

    /// The newest version of `key`, if it is alive.
    fn live(&mut self, key: &Bytes) -> Result<Option<Stamp>, Error> {
        let newest = if let Some(newest) = self.cache.get(key) {
            newest
        } else {
            let newest = index::newest(&*self.staged, key, i64::MAX)?.unwrap_or(Stamp::ABSENT);
            self.cache.set(key, newest);
            newest
        };
        Ok((!newest.tombstone).then_some(newest))
    }

    fn live_in(&mut self, span: Span<'_>) -> Result<Vec<(Bytes, Stamp)>, Error> {
        if let Some(key) = span.single() {
            let key = Bytes::copy_from_slice(key);
            return Ok(self.live(&key)?.map(|stamp| (key, stamp)).into_iter().collect());
        }
        let mut found = Vec::new();
        index::scan(&*self.staged, &Stretch::new(span), i64::MAX, &mut |hit| {
            found.push((hit.key()?, hit.stamp()?));
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Where the next change stands.
    fn next_rev(&self) -> Rev {
        Rev { main: self.begin + 1, sub: u32::try_from(self.events.len()).unwrap_or(u32::MAX) }
    }

    fn set(&mut self, key: Bytes, value: Bytes, lease: i64, old: Option<Stamp>) {
        let rev = self.next_rev();
        let stamp = Stamp {
            rev,
            create_revision: old.map_or(rev.main, |old| old.create_revision),
            version: old.map_or(0, |old| old.version) + 1,
            lease,
            tombstone: false,
        };
        let kv = KeyValue {
            key,
            create_revision: stamp.create_revision,
            mod_revision: rev.main,
            version: stamp.version,
            value,
            lease,
        };
        self.write(&kv.key, stamp, kv.encode_to_vec());
        self.events.push(Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None });
    }

    /// Deletes a key that is alive. The next put of it starts at version 1 (etcd point 4).
    fn remove(&mut self, key: Bytes, lease: i64) {
        self.move_lease(&key, lease, 0);
        let rev = self.next_rev();
        let stamp = Stamp::deletion(rev);
        let mut kv = KeyValue { key, ..KeyValue::default() };
        self.write(&kv.key, stamp, kv.encode_to_vec());
        kv.mod_revision = rev.main;
        self.events.push(Event { r#type: EventType::Delete.into(), kv: Some(kv), prev_kv: None });
    }

    fn write(&mut self, key: &Bytes, stamp: Stamp, pair: Vec<u8>) {
        let index_key = schema::index_key(schema::index_prefix(key), stamp.rev.main);
        self.staged.put(REV, stamp.rev_key(), pair);
        self.staged.put(IDX, index_key, stamp.encode());
        self.cache.set(key, stamp);
    }

    /// Detaches the key from its old lease and attaches it to the new one; 0 is none (etcd point 18).
    fn move_lease(&mut self, key: &[u8], old: i64, new: i64) {
        if old == new {
            return;
        }
        if old != 0 {
            self.staged.delete(LEASE_KEY, schema::attachment_key(old, key));
        }
        if new != 0 {
            self.staged.put(LEASE_KEY, schema::attachment_key(new, key), Bytes::new());
        }
    }
}
