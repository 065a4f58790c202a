//! A store to talk to, and short ways to make requests.

use std::sync::Arc;

use bytes::Bytes;
use quorate_engine::{Durability, MemoryEngine};
use quorate_kv::{
    ApplyOutput, Command, Committed, LeaseChange, ReadError, Reader, Reply, RequestError,
    RevisionEvents, Store,
};
use quorate_proto::{
    etcdserverpb::{
        self as pb, Compare, RequestOp,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
    },
    mvccpb::{Event, KeyValue},
};

pub(crate) struct World {
    pub store: Store,
    pub revisions: Vec<Arc<RevisionEvents>>,
    pub leases: Vec<LeaseChange>,
    pub log: Vec<Bytes>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            store: Store::open(Box::new(MemoryEngine::new())).unwrap(),
            revisions: Vec::new(),
            leases: Vec::new(),
            log: Vec::new(),
        }
    }

    pub(crate) fn apply(&mut self, command: &Command) -> Result<Reply, RequestError> {
        self.apply_run(std::slice::from_ref(command)).replies.remove(0)
    }

    /// Applies the commands as one run.
    pub(crate) fn apply_run(&mut self, commands: &[Command]) -> ApplyOutput {
        let encoded: Vec<Bytes> = commands.iter().map(Command::encode).collect();
        let first = self.store.applied().index + 1;
        let run: Vec<Committed<'_>> = (first..)
            .zip(&encoded)
            .map(|(index, command)| Committed { index, term: 1, command: Some(command) })
            .collect();
        let output = self.store.apply(&run, Durability::Relaxed).unwrap();
        self.log.extend(encoded);
        self.revisions.extend(output.revisions.iter().cloned());
        self.leases.extend(output.leases.iter().copied());
        output
    }

    /// Closes the store and opens it again over the same engine.
    pub(crate) fn reopen(mut self) -> Self {
        self.store = Store::open(self.store.into_engine()).unwrap();
        self
    }

    pub(crate) fn reader(&self) -> Reader {
        self.store.reader()
    }

    pub(crate) fn revision(&self) -> i64 {
        self.store.reader().revision()
    }

    /// Puts and gives the revision.
    pub(crate) fn put(&mut self, key: &str, value: &str) -> i64 {
        let reply = self.try_put(put(key, value)).unwrap();
        reply.header.unwrap().revision
    }

    pub(crate) fn try_put(&mut self, put: pb::PutRequest) -> Result<pb::PutResponse, RequestError> {
        match self.apply(&Command::Put(put))? {
            Reply::Put(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete(&mut self, key: &str, end: &str) -> pb::DeleteRangeResponse {
        let request = pb::DeleteRangeRequest { prev_kv: true, ..delete_request(key, end) };
        match self.apply(&Command::DeleteRange(request)) {
            Ok(Reply::DeleteRange(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn txn(&mut self, txn: pb::TxnRequest) -> Result<pb::TxnResponse, RequestError> {
        match self.apply(&Command::Txn(txn))? {
            Reply::Txn(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn compact(&mut self, revision: i64) -> Result<i64, RequestError> {
        let request = pb::CompactionRequest { revision, physical: false };
        match self.apply(&Command::Compaction(request))? {
            Reply::Compaction(reply) => Ok(reply.header.unwrap().revision),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn purge_all(&mut self) {
        while self.store.purge(3).unwrap() {}
    }

    pub(crate) fn grant(&mut self, id: i64, ttl: i64) -> Result<i64, RequestError> {
        match self.apply(&Command::LeaseGrant(pb::LeaseGrantRequest { ttl, id }))? {
            Reply::LeaseGrant(reply) => Ok(reply.ttl),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn revoke(&mut self, id: i64) -> Result<i64, RequestError> {
        match self.apply(&Command::LeaseRevoke(pb::LeaseRevokeRequest { id }))? {
            Reply::LeaseRevoke(reply) => Ok(reply.header.unwrap().revision),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn alarm(
        &mut self,
        action: i32,
        member_id: u64,
        alarm: i32,
    ) -> Vec<pb::AlarmMember> {
        let request = pb::AlarmRequest { action, member_id, alarm };
        match self.apply(&Command::Alarm(request)) {
            Ok(Reply::Alarm(reply)) => reply.alarms,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn range(
        &self,
        request: &pb::RangeRequest,
    ) -> Result<pb::RangeResponse, RequestError> {
        refused(self.reader().range(request))
    }

    pub(crate) fn get(&self, key: &str) -> Option<KeyValue> {
        self.range(&get(key)).unwrap().kvs.pop()
    }

    /// The events of the newest revision.
    pub(crate) fn last_events(&self) -> &[Event] {
        &self.revisions.last().unwrap().events
    }
}

/// A refusal is an answer; anything else a test does not expect.
pub(crate) fn refused<T>(result: Result<T, ReadError>) -> Result<T, RequestError> {
    result.map_err(|error| match error {
        ReadError::Request(error) => error,
        other => panic!("{other:?}"),
    })
}

pub(crate) fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() }
}

pub(crate) fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), ..Default::default() }
}

pub(crate) fn list(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

pub(crate) fn delete_request(key: &str, end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(end), prev_kv: false }
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn op_put(key: &str, value: &str) -> RequestOp {
    RequestOp { request: Some(Request::RequestPut(put(key, value))) }
}

pub(crate) fn op_get(request: pb::RangeRequest) -> RequestOp {
    RequestOp { request: Some(Request::RequestRange(request)) }
}

pub(crate) fn op_delete(key: &str, end: &str) -> RequestOp {
    RequestOp { request: Some(Request::RequestDeleteRange(delete_request(key, end))) }
}

pub(crate) fn op_txn(txn: pb::TxnRequest) -> RequestOp {
    RequestOp { request: Some(Request::RequestTxn(txn)) }
}

pub(crate) fn txn(
    compare: Vec<Compare>,
    success: Vec<RequestOp>,
    failure: Vec<RequestOp>,
) -> pb::TxnRequest {
    pb::TxnRequest { compare, success, failure }
}

/// A comparison; what is compared with stands in `union`.
pub(crate) fn compare(key: &str, result: CompareResult, union: TargetUnion) -> Compare {
    let target = match union {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(key),
        range_end: Bytes::new(),
        target_union: Some(union),
    }
}

pub(crate) fn keys(response: &pb::RangeResponse) -> Vec<String> {
    response.kvs.iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect()
}
