//! The key space again, as naively as can be: a list of all changes ever made, replayed for every question.

use std::{cmp::Ordering, collections::BTreeMap};

use bytes::Bytes;
use prost::Message;
use quorate_kv::{Command, LEASE_TTL_MAX_SECONDS, Reply, RequestError, check};
use quorate_proto::{
    etcdserverpb::{self as pb, compare::TargetUnion, request_op::Request, response_op::Response},
    mvccpb::KeyValue,
};

/// One change; `kv` is `None` for a deletion.
#[derive(Clone, Debug)]
struct Change {
    main: i64,
    sub: i64,
    key: Bytes,
    kv: Option<KeyValue>,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    changes: Vec<Change>,
    pub revision: i64,
    pub compacted: i64,
    leases: BTreeMap<i64, i64>,
}

type Pairs = BTreeMap<Bytes, KeyValue>;
type Answer<T> = Result<T, RequestError>;

impl Model {
    pub(crate) fn new() -> Self {
        Self { changes: Vec::new(), revision: 1, compacted: -1, leases: BTreeMap::new() }
    }

    pub(crate) fn apply(&mut self, command: &Command) -> Answer<Reply> {
        let begin = self.revision;
        let reply = match command {
            Command::Put(request) => check::put(request)
                .and_then(|()| self.check_put(request))
                .map(|()| Reply::Put(self.put(request))),
            Command::DeleteRange(request) => Ok(Reply::DeleteRange(self.delete(request))),
            Command::Txn(request) => self.txn(request).map(Reply::Txn),
            Command::Compaction(request) => self.compact(request.revision).map(Reply::Compaction),
            Command::LeaseGrant(request) => self.grant(*request).map(Reply::LeaseGrant),
            Command::LeaseRevoke(request) => self.revoke(request.id).map(Reply::LeaseRevoke),
            other @ (Command::LeaseCheckpoint(_)
            | Command::Alarm(_)
            | Command::MemberDirectories(_)) => panic!("{other:?}"),
        };
        if self.changes.last().is_some_and(|change| change.main > begin) {
            self.revision = begin + 1;
        }
        reply
    }

    /// The live pairs at a revision.
    fn at(&self, revision: i64) -> Pairs {
        let mut pairs = Pairs::new();
        for change in self.changes.iter().filter(|change| change.main <= revision) {
            match &change.kv {
                Some(kv) => pairs.insert(change.key.clone(), kv.clone()),
                None => pairs.remove(&change.key),
            };
        }
        pairs
    }

    fn now(&self) -> Pairs {
        self.at(i64::MAX)
    }

    /// The current revision as seen in the middle of a command.
    fn current(&self) -> i64 {
        self.changes.last().map_or(self.revision, |change| change.main.max(self.revision))
    }

    fn change(&mut self, key: &Bytes, kv: Option<KeyValue>) {
        let main = self.revision + 1;
        let sub = self.changes.iter().filter(|change| change.main == main).count();
        let sub = i64::try_from(sub).unwrap();
        self.changes.push(Change { main, sub, key: key.clone(), kv });
    }

    fn check_put(&self, put: &pb::PutRequest) -> Answer<()> {
        let lease = if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            Err(RequestError::LeaseNotFound)
        } else {
            Ok(())
        };
        let key = if (put.ignore_lease || put.ignore_value) && !self.now().contains_key(&put.key) {
            Err(RequestError::KeyNotFound)
        } else {
            Ok(())
        };
        lease.and(key)
    }

    fn put(&mut self, put: &pb::PutRequest) -> pb::PutResponse {
        let old = self.now().remove(&put.key);
        let main = self.revision + 1;
        let kept = old.clone().unwrap_or_default();
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: old.as_ref().map_or(main, |old| old.create_revision),
            mod_revision: main,
            version: kept.version + 1,
            value: if put.ignore_value { kept.value } else { put.value.clone() },
            lease: if put.ignore_lease { kept.lease } else { put.lease },
        };
        self.change(&put.key, Some(kv));
        pb::PutResponse { header: Some(header(main)), prev_kv: old.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
        let old = within(self.now(), &delete.key, &delete.range_end);
        for kv in &old {
            self.change(&kv.key, None);
        }
        pb::DeleteRangeResponse {
            header: Some(header(self.current())),
            deleted: i64::try_from(old.len()).unwrap(),
            prev_kvs: if delete.prev_kv { old } else { Vec::new() },
        }
    }

    fn compact(&mut self, revision: i64) -> Answer<pb::CompactionResponse> {
        if revision <= self.compacted {
            return Err(RequestError::Compacted);
        }
        if revision > self.revision {
            return Err(RequestError::FutureRevision);
        }
        self.compacted = revision;
        Ok(pb::CompactionResponse { header: Some(header(self.revision)) })
    }

    fn grant(&mut self, request: pb::LeaseGrantRequest) -> Answer<pb::LeaseGrantResponse> {
        let pb::LeaseGrantRequest { ttl, id } = request;
        if ttl > LEASE_TTL_MAX_SECONDS {
            return Err(RequestError::LeaseTtlTooLarge);
        }
        if id == 0 {
            return Err(RequestError::LeaseNotFound);
        }
        if self.leases.contains_key(&id) {
            return Err(RequestError::LeaseExists);
        }
        let ttl = ttl.max(2);
        self.leases.insert(id, ttl);
        Ok(pb::LeaseGrantResponse {
            header: Some(header(self.revision)),
            id,
            ttl,
            error: String::new(),
        })
    }

    fn revoke(&mut self, id: i64) -> Answer<pb::LeaseRevokeResponse> {
        self.leases.remove(&id).ok_or(RequestError::LeaseNotFound)?;
        for key in self.lease_keys(id) {
            self.change(&key, None);
        }
        Ok(pb::LeaseRevokeResponse { header: Some(header(self.current())) })
    }

    pub(crate) fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        let held = |kv: &KeyValue| kv.lease == id;
        self.now().into_values().filter(held).map(|kv| kv.key).collect()
    }

    pub(crate) fn leases(&self) -> Vec<(i64, i64)> {
        self.leases.iter().map(|(id, ttl)| (*id, *ttl)).collect()
    }

    fn txn(&mut self, request: &pb::TxnRequest) -> Answer<pb::TxnResponse> {
        check::txn(request, usize::MAX)?;
        let pairs = self.now();
        self.check_txn(request, &pairs)?;
        let mut response = self.run(request, &pairs);
        response.header = Some(header(self.current()));
        Ok(response)
    }

    fn check_txn(&self, request: &pb::TxnRequest, pairs: &Pairs) -> Answer<()> {
        for op in branch(request, pairs) {
            match &op.request {
                Some(Request::RequestTxn(nested)) => self.check_txn(nested, pairs)?,
                Some(Request::RequestPut(put)) => self.check_put(put)?,
                Some(Request::RequestRange(range)) => match range.revision {
                    0 => {}
                    revision if revision > self.revision => {
                        return Err(RequestError::FutureRevision);
                    }
                    revision if revision < self.compacted => return Err(RequestError::Compacted),
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(())
    }

    fn run(&mut self, request: &pb::TxnRequest, pairs: &Pairs) -> pb::TxnResponse {
        let mut responses = Vec::new();
        for op in branch(request, pairs) {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestRange(range) => Response::ResponseRange(self.range(range).unwrap()),
                Request::RequestPut(put) => Response::ResponsePut(self.put(put)),
                Request::RequestDeleteRange(delete) => {
                    Response::ResponseDeleteRange(self.delete(delete))
                }
                Request::RequestTxn(nested) => Response::ResponseTxn(self.run(nested, pairs)),
            };
            responses.push(pb::ResponseOp { response: Some(response) });
        }
        pb::TxnResponse { header: Some(header(0)), succeeded: succeeds(request, pairs), responses }
    }

    pub(crate) fn range(&self, request: &pb::RangeRequest) -> Answer<pb::RangeResponse> {
        let current = self.current();
        if request.revision > current {
            return Err(RequestError::FutureRevision);
        }
        let revision = if request.revision > 0 { request.revision } else { current };
        if revision < self.compacted {
            return Err(RequestError::Compacted);
        }
        let mut kvs = within(self.at(revision), &request.key, &request.range_end);
        let count = i64::try_from(kvs.len()).unwrap();
        let mut response =
            pb::RangeResponse { header: Some(header(current)), count, ..Default::default() };
        if !request.count_only {
            response.more = select(request, &mut kvs);
            response.kvs = kvs;
        }
        Ok(response)
    }

    /// The events of each revision from the compacted one on: (revision, key, pair).
    pub(crate) fn events(&self, from: i64) -> Vec<(i64, Bytes, Option<KeyValue>)> {
        let changes = self.changes.iter().filter(|change| change.main >= from);
        changes.map(|change| (change.main, change.key.clone(), change.kv.clone())).collect()
    }

    pub(crate) fn hash(&self, revision: i64) -> u32 {
        let alive = self.at(revision);
        let kept = if alive.is_empty() { self.at(self.compacted) } else { alive };
        let mut bytes = b"key".to_vec();
        for change in self.changes.iter().filter(|change| change.main <= revision) {
            let newest = kept.get(&change.key).is_some_and(|kv| kv.mod_revision == change.main);
            if change.main > self.compacted || (newest && change.kv.is_some()) {
                bytes.extend_from_slice(&change.main.to_be_bytes());
                bytes.push(b'_');
                bytes.extend_from_slice(&change.sub.to_be_bytes());
                bytes.extend(change.kv.is_none().then_some(b't'));
                let bare = KeyValue { key: change.key.clone(), ..Default::default() };
                bytes.extend(change.kv.clone().unwrap_or(bare).encode_to_vec());
            }
        }
        crc32c::crc32c(&bytes)
    }
}

fn header(revision: i64) -> pb::ResponseHeader {
    pb::ResponseHeader { revision, ..Default::default() }
}

fn within(pairs: Pairs, key: &Bytes, end: &Bytes) -> Vec<KeyValue> {
    let holds = |candidate: &Bytes| match &end[..] {
        [] => candidate == key,
        [0] => candidate >= key,
        _ => candidate >= key && candidate < end,
    };
    pairs.into_values().filter(|kv| holds(&kv.key)).collect()
}

fn branch<'a>(request: &'a pb::TxnRequest, pairs: &Pairs) -> &'a [pb::RequestOp] {
    if succeeds(request, pairs) { &request.success } else { &request.failure }
}

fn succeeds(request: &pb::TxnRequest, pairs: &Pairs) -> bool {
    request.compare.iter().all(|compare| {
        let named = within(pairs.clone(), &compare.key, &compare.range_end);
        let by_value = matches!(compare.target_union, Some(TargetUnion::Value(_)));
        if named.is_empty() {
            return !by_value && holds(compare, &KeyValue::default());
        }
        named.iter().all(|kv| holds(compare, kv))
    })
}

fn holds(compare: &pb::Compare, kv: &KeyValue) -> bool {
    let order = match compare.target_union.as_ref().unwrap() {
        TargetUnion::Version(to) => kv.version.cmp(to),
        TargetUnion::CreateRevision(to) => kv.create_revision.cmp(to),
        TargetUnion::ModRevision(to) => kv.mod_revision.cmp(to),
        TargetUnion::Value(to) => kv.value.cmp(to),
        TargetUnion::Lease(to) => kv.lease.cmp(to),
    };
    match compare.result {
        0 => order == Ordering::Equal,
        1 => order == Ordering::Greater,
        2 => order == Ordering::Less,
        _ => order != Ordering::Equal,
    }
}

/// Cuts, filters, sorts, cuts again; says whether there is more.
fn select(request: &pb::RangeRequest, kvs: &mut Vec<KeyValue>) -> bool {
    let filters = [
        (request.min_mod_revision, request.max_mod_revision),
        (request.min_create_revision, request.max_create_revision),
    ];
    let limit = usize::try_from(request.limit).unwrap_or(0);
    if limit > 0 && request.sort_order == 0 && filters == [(0, 0), (0, 0)] {
        kvs.truncate(limit + 1);
    }
    kvs.retain(|kv| {
        [kv.mod_revision, kv.create_revision].into_iter().zip(filters).all(
            |(revision, (min, max))| (min == 0 || revision >= min) && (max == 0 || revision <= max),
        )
    });
    let order = |a: &KeyValue, b: &KeyValue| match request.sort_target {
        0 => a.key.cmp(&b.key),
        1 => a.version.cmp(&b.version),
        2 => a.create_revision.cmp(&b.create_revision),
        3 => a.mod_revision.cmp(&b.mod_revision),
        _ => a.value.cmp(&b.value),
    };
    kvs.sort_by(|a, b| if request.sort_order == 2 { order(b, a) } else { order(a, b) });
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    if request.keys_only {
        for kv in kvs {
            kv.value = Bytes::new();
            kv.lease = if request.sort_target == 4 { kv.lease } else { 0 };
        }
    }
    more
}
