//! Between etcd's messages and the plain values that judges know.

use bytes::Bytes;
use quorate_check::{
    etcd::{Compare, Event, KeyValue, Range, RevisionEvents, Step, StepReply, Txn},
    revision::Reply,
};
use quorate_proto::{
    etcdserverpb::{
        self as pb, compare, request_op::Request as Op, response_op::Response as OpReply,
    },
    mvccpb::{self, event::EventType},
};

/// A range as etcd takes it.
pub(super) fn range(range: &Range, at: Option<i64>, serializable: bool) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::copy_from_slice(if range.key.is_empty() {
            b"\0"
        } else {
            range.key.as_bytes()
        }),
        range_end: end(range),
        revision: at.unwrap_or(0),
        serializable,
        ..Default::default()
    }
}

fn end(range: &Range) -> Bytes {
    range.end.as_deref().map_or_else(Bytes::new, |end| Bytes::copy_from_slice(end.as_bytes()))
}

/// A transaction as etcd takes it. Puts are under `lease`; 0 for none.
pub(super) fn txn(txn: &Txn, lease: i64) -> pb::TxnRequest {
    let steps = |steps: &[Step]| steps.iter().map(|one| step(one, lease)).collect();
    pb::TxnRequest {
        compare: txn.compare.iter().map(condition).collect(),
        success: steps(&txn.success),
        failure: steps(&txn.failure),
    }
}

fn condition(of: &Compare) -> pb::Compare {
    let (key, target, union) = match of {
        Compare::Value { key, value } => {
            let value = Bytes::copy_from_slice(value.as_bytes());
            (key, compare::CompareTarget::Value, compare::TargetUnion::Value(value))
        }
        Compare::ModRevision { key, revision } => {
            (key, compare::CompareTarget::Mod, compare::TargetUnion::ModRevision(*revision))
        }
    };
    pb::Compare {
        result: compare::CompareResult::Equal.into(),
        target: target.into(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        target_union: Some(union),
        ..Default::default()
    }
}

fn step(of: &Step, lease: i64) -> pb::RequestOp {
    let request = match of {
        Step::Get(of) => Op::RequestRange(range(of, None, false)),
        Step::Put { key, value } => Op::RequestPut(pb::PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            lease,
            ..Default::default()
        }),
        Step::Delete(of) => Op::RequestDeleteRange(pb::DeleteRangeRequest {
            key: Bytes::copy_from_slice(of.key.as_bytes()),
            range_end: end(of),
            ..Default::default()
        }),
    };
    pb::RequestOp { request: Some(request) }
}

/// What a range answers.
pub(super) fn range_reply(response: &pb::RangeResponse) -> Reply {
    let revision = response.header.map_or(0, |header| header.revision);
    Reply { revision, succeeded: true, steps: vec![got(response)] }
}

/// What a transaction answers.
pub(super) fn txn_reply(response: &pb::TxnResponse) -> Reply {
    let revision = response.header.map_or(0, |header| header.revision);
    let steps = response.responses.iter().filter_map(|one| match one.response.as_ref()? {
        OpReply::ResponseRange(response) => Some(got(response)),
        OpReply::ResponsePut(_) => Some(StepReply::Put),
        OpReply::ResponseDeleteRange(response) => {
            Some(StepReply::Deleted(response.deleted.cast_unsigned()))
        }
        OpReply::ResponseTxn(_) => None,
    });
    Reply { revision, succeeded: response.succeeded, steps: steps.collect() }
}

fn got(response: &pb::RangeResponse) -> StepReply {
    StepReply::Got(response.kvs.iter().map(pair).collect())
}

/// A pair.
pub(super) fn pair(of: &mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: text(&of.key),
        value: text(&of.value),
        create_revision: of.create_revision,
        mod_revision: of.mod_revision,
        version: of.version,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A change.
pub(super) fn event(of: &mvccpb::Event) -> Event {
    let pair = of.kv.as_ref().map_or_else(|| pair(&mvccpb::KeyValue::default()), pair);
    Event { pair, deleted: of.r#type == i32::from(EventType::Delete) }
}

/// What happened in a revision.
pub(super) fn revision_events(of: &quorate_kv::RevisionEvents) -> RevisionEvents {
    RevisionEvents { revision: of.revision, events: of.events.iter().map(event).collect() }
}
