//! Revisions of etcd's key space.

use quorate_check::{
    Outcome, Rule,
    etcd::{Compare, Event, KeyValue, Range, RevisionEvents, Step, StepReply, Txn},
    revision::{self, Operation, Reply, Request},
};

use super::{Row, convict, op, reply};

type History = (Vec<Operation>, Vec<RevisionEvents>);

pub(super) fn kv(
    key: &str,
    value: &str,
    [create_revision, mod_revision, version]: [i64; 3],
) -> KeyValue {
    KeyValue { key: key.into(), value: value.into(), create_revision, mod_revision, version }
}

pub(super) fn set(key: &str, value: &str, numbers: [i64; 3]) -> Event {
    Event { pair: kv(key, value, numbers), deleted: false }
}

pub(super) fn gone(key: &str, revision: i64) -> Event {
    Event { pair: kv(key, "", [0, revision, 0]), deleted: true }
}

fn put(key: &str, value: &str) -> Step {
    Step::Put { key: key.into(), value: value.into() }
}

fn one(step: Step) -> Request {
    Request::Txn(Txn { success: vec![step], ..Txn::default() })
}

fn read(range: Range, at: Option<i64>) -> Request {
    Request::Read { range, at, serializable: false }
}

fn told(revision: i64, steps: Vec<StepReply>) -> Reply {
    Reply { revision, succeeded: true, steps }
}

fn got(revision: i64, pairs: Vec<KeyValue>) -> Reply {
    told(revision, vec![StepReply::Got(pairs)])
}

/// What happened, revision by revision: two keys, a transaction over both, a deletion, and a write whose answer was lost.
pub(super) fn events() -> Vec<RevisionEvents> {
    let all = [
        vec![set("a", "1", [2, 2, 1])],
        vec![set("b", "1", [3, 3, 1])],
        vec![set("a", "2", [2, 4, 2]), set("c", "1", [4, 4, 1])],
        vec![gone("b", 5)],
        vec![set("d", "9", [6, 6, 1])],
        vec![set("b", "3", [7, 7, 1])],
    ];
    all.into_iter().zip(2..).map(|(events, revision)| RevisionEvents { revision, events }).collect()
}

fn good() -> History {
    let compare = vec![Compare::Value { key: "a".into(), value: "1".into() }];
    let success = vec![put("a", "2"), put("c", "1")];
    let txn = Txn { compare, success, failure: vec![Step::Get(Range::one("a"))] };
    let [a1, a2] = [kv("a", "1", [2, 2, 1]), kv("a", "2", [2, 4, 2])];
    let [b1, c1] = [kv("b", "1", [3, 3, 1]), kv("c", "1", [4, 4, 1])];
    let d9 = kv("d", "9", [6, 6, 1]);
    let mut history = vec![
        op(1, (0, 10), one(put("a", "1")), told(2, vec![StepReply::Put])),
        op(2, (5, 15), one(put("b", "1")), told(3, vec![StepReply::Put])),
        op(1, (20, 30), Request::Txn(txn.clone()), told(4, vec![StepReply::Put, StepReply::Put])),
        op(2, (25, 35), read(Range::all(), None), got(4, vec![a2.clone(), b1.clone(), c1.clone()])),
        op(1, (40, 50), one(Step::Delete(Range::one("b"))), told(5, vec![StepReply::Deleted(1)])),
        op(2, (60, 70), read(Range::one("b"), None), got(5, vec![])),
        op(1, (60, 70), read(Range::all(), Some(3)), got(5, vec![a1, b1])),
        op(3, (60, 70), one(put("d", "9")), told(6, vec![StepReply::Put])),
        op(1, (80, 90), read(Range::all(), None), got(6, vec![a2.clone(), c1, d9])),
        op(2, (100, 110), one(put("b", "3")), told(7, vec![StepReply::Put])),
        op(1, (120, 130), Request::Txn(txn), got(7, vec![a2])),
    ];
    reply(&mut history[10]).succeeded = false;
    history[7].outcome = Outcome::Unknown;
    (history, events())
}

fn pairs(operation: &mut Operation) -> &mut Vec<KeyValue> {
    match reply(operation).steps.first_mut() {
        Some(StepReply::Got(pairs)) => pairs,
        _ => panic!("it read nothing"),
    }
}

pub(super) fn rows() -> usize {
    let rows: [Row<History>; 16] = [
        ("two writes get one revision", Rule::RevisionUnique, |(h, _)| {
            reply(&mut h[1]).revision = 2;
        }),
        ("a write is in no log", Rule::RevisionGap, |(_, e)| {
            e.pop();
            e.pop();
        }),
        ("the log has another value than was acknowledged", Rule::RevisionContent, |(_, e)| {
            e[0].events[0].pair.value = "7".into();
        }),
        ("half of a transaction is persisted", Rule::RevisionContent, |(_, e)| {
            e[2].events.pop();
        }),
        ("a refused write is persisted", Rule::RevisionContent, |(h, _)| {
            h[7].outcome = Outcome::Failed;
        }),
        ("a persisted revision nobody asked for", Rule::RevisionContent, |(_, e)| {
            e.push(RevisionEvents { revision: 8, events: vec![gone("a", 8)] });
        }),
        ("a lost write is persisted before it was sent", Rule::RealTime, |(h, _)| {
            h[7].invoke = 115;
        }),
        ("a stale read: a newer revision had been answered", Rule::RealTime, |(h, _)| {
            let old = h[3].outcome.clone();
            h[8].outcome = old;
        }),
        ("a later write gets a lower revision", Rule::RealTime, |(h, _)| {
            (h[0].invoke, h[0].returned) = (16, Some(18));
        }),
        ("a refused transaction is answered from the past", Rule::RealTime, |(h, _)| {
            reply(&mut h[10]).revision = 6;
        }),
        ("a read misses a key", Rule::ReadContent, |(h, _)| {
            pairs(&mut h[3]).pop();
        }),
        ("a read sees half of a transaction", Rule::ReadContent, |(h, _)| {
            pairs(&mut h[3])[0] = kv("a", "1", [2, 2, 1]);
        }),
        ("a deleted key is read", Rule::ReadContent, |(h, _)| {
            pairs(&mut h[5]).push(kv("b", "1", [3, 3, 1]));
        }),
        ("an old read shows the present", Rule::ReadContent, |(h, _)| {
            pairs(&mut h[6])[0] = kv("a", "2", [2, 4, 2]);
        }),
        ("a version is not counted up", Rule::ReadContent, |(h, _)| {
            pairs(&mut h[8])[0].version = 1;
        }),
        ("a transaction takes the wrong branch", Rule::ReadContent, |(h, _)| {
            reply(&mut h[10]).succeeded = true;
        }),
    ];
    convict(&good(), &rows, |(history, events)| revision::check(history, events).unwrap())
}

#[test]
fn without_a_log_a_lost_write_leaves_a_gap_undecided() {
    let (history, _) = good();
    let verdict = revision::check(&history, &[]).unwrap();
    assert!(matches!(verdict, quorate_check::Verdict::Undecided(_)), "{verdict}");
}

#[test]
fn serializable_reads_may_be_old_but_not_wrong() {
    let (mut history, events) = good();
    history[8] = history[3].clone();
    (history[8].invoke, history[8].returned) = (80, Some(90));
    history[8].request = Request::Read { range: Range::all(), at: None, serializable: true };
    assert!(revision::check(&history, &events).unwrap().holds());
    pairs(&mut history[8]).pop();
    assert!(revision::check(&history, &events).unwrap().breaks(Rule::ReadContent));
}
