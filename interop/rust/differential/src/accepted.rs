//! Differences that are not mistakes. `docs/compatibility.md` has the same list. What is not even sent is in
//! [`overlap`](crate::overlap).

use quorate_proto::{etcdserverpb as pb, mvccpb};

use crate::{
    call::{Answer, Call},
    watch::Item,
};

/// How far two clocks may be apart when both tell how long a lease still has, in seconds.
const TTL_SECONDS: i64 = 3;

/// Answers that may differ, and why.
pub const ANSWERS: &[(&str, fn(&Call, &Answer, &Answer) -> bool)] = &[
    (
        "a lease's remaining time is told by two clocks, one after the other, and its keys come in any order",
        lease_state,
    ),
    ("leases are listed by the time they have left, and equal ones in any order", lease_order),
    ("pairs with equal sort values come in any order: etcd's sort is not stable", ties),
];

/// Whether a watcher's items may differ, and why: etcd reads the previous value when it sends an event, and by then it
/// may be compacted.
pub fn same_item(left: &Item, right: &Item, compacted: i64) -> bool {
    let (Item::Event(left), Item::Event(right)) = (left, right) else { return left == right };
    if left == right {
        return true;
    }
    let lost = |event: &mvccpb::Event| {
        let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        event.prev_kv.is_none() && revision <= compacted
    };
    let bare = |event: &mvccpb::Event| mvccpb::Event { prev_kv: None, ..event.clone() };
    bare(left) == bare(right) && (lost(left) || lost(right))
}

/// Whether two answers agree, or differ in an accepted way.
pub fn agree(call: &Call, left: &Answer, right: &Answer) -> bool {
    left == right || ANSWERS.iter().any(|(_, accepts)| accepts(call, left, right))
}

fn lease_state(_: &Call, left: &Answer, right: &Answer) -> bool {
    let (Answer::LeaseTimeToLive(left), Answer::LeaseTimeToLive(right)) = (left, right) else {
        return false;
    };
    let near = (left.ttl - right.ttl).abs() <= TTL_SECONDS && (left.ttl < 0) == (right.ttl < 0);
    let comparable = |answer: &pb::LeaseTimeToLiveResponse| {
        let mut answer = pb::LeaseTimeToLiveResponse { ttl: 0, ..answer.clone() };
        answer.keys.sort_unstable();
        answer
    };
    near && comparable(left) == comparable(right)
}

fn lease_order(_: &Call, left: &Answer, right: &Answer) -> bool {
    let (Answer::LeaseLeases(left), Answer::LeaseLeases(right)) = (left, right) else {
        return false;
    };
    let sorted = |answer: &pb::LeaseLeasesResponse| {
        let mut ids: Vec<i64> = answer.leases.iter().map(|lease| lease.id).collect();
        ids.sort_unstable();
        ids
    };
    left.header == right.header && sorted(left) == sorted(right)
}

fn ties(call: &Call, left: &Answer, right: &Answer) -> bool {
    match (call, left, right) {
        (Call::Range(request), Answer::Range(left), Answer::Range(right)) => {
            tied(request, left, right)
        }
        (Call::Txn(request), Answer::Txn(left), Answer::Txn(right)) => {
            tied_txn(request, left, right)
        }
        _ => false,
    }
}

/// Equal but for the order of pairs with equal sort values, and for which of them a limit leaves out.
fn tied(request: &pb::RangeRequest, left: &pb::RangeResponse, right: &pb::RangeResponse) -> bool {
    use pb::range_request::SortTarget;
    let bare = |answer: &pb::RangeResponse| pb::RangeResponse { kvs: Vec::new(), ..answer.clone() };
    let value = |kv: &mvccpb::KeyValue| match SortTarget::try_from(request.sort_target) {
        Ok(SortTarget::Version) => Some((kv.version, Default::default())),
        Ok(SortTarget::Create) => Some((kv.create_revision, Default::default())),
        Ok(SortTarget::Mod) => Some((kv.mod_revision, Default::default())),
        Ok(SortTarget::Value) if !request.keys_only => Some((0, kv.value.clone())),
        Ok(SortTarget::Value) => Some((0, Default::default())),
        Ok(SortTarget::Key) | Err(_) => None,
    };
    let values =
        |answer: &pb::RangeResponse| answer.kvs.iter().map(value).collect::<Option<Vec<_>>>();
    let is_sorted = values(left).is_some() && values(left) == values(right);
    let sorted = |answer: &pb::RangeResponse| {
        let mut kvs = answer.kvs.clone();
        kvs.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        kvs
    };
    bare(left) == bare(right) && is_sorted && (request.limit > 0 || sorted(left) == sorted(right))
}

/// The same for every range of a transaction.
fn tied_txn(request: &pb::TxnRequest, left: &pb::TxnResponse, right: &pb::TxnResponse) -> bool {
    use pb::{request_op::Request, response_op::Response};
    let ops = if left.succeeded { &request.success } else { &request.failure };
    let bare =
        |answer: &pb::TxnResponse| pb::TxnResponse { responses: Vec::new(), ..answer.clone() };
    let same_shape = bare(left) == bare(right) && left.responses.len() == right.responses.len();
    let mut pairs = ops.iter().zip(left.responses.iter().zip(&right.responses));
    same_shape
        && pairs.all(|(op, (left, right))| {
            left == right
                || match (&op.request, &left.response, &right.response) {
                    (
                        Some(Request::RequestRange(request)),
                        Some(Response::ResponseRange(left)),
                        Some(Response::ResponseRange(right)),
                    ) => tied(request, left, right),
                    (
                        Some(Request::RequestTxn(request)),
                        Some(Response::ResponseTxn(left)),
                        Some(Response::ResponseTxn(right)),
                    ) => tied_txn(request, left, right),
                    _ => false,
                }
        })
}
