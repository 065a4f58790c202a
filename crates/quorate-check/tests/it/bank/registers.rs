//! Registers.

use quorate_check::{
    Outcome, Rule, linear,
    register::{Operation, Reply, Request},
};

use super::{Row, convict, op, reply};

fn put(value: &str) -> Request {
    Request::Put { key: "a".into(), value: value.into() }
}

fn get() -> Request {
    Request::Get { key: "a".into() }
}

fn value(value: &str) -> Reply {
    Reply::Value(Some(value.into()))
}

fn cas(expected: &str, value: &str) -> Request {
    Request::Cas { key: "a".into(), expected: Some(expected.into()), value: value.into() }
}

/// Two clients; operation 3 overlaps 2, and 7 is lost on its way.
fn good() -> Vec<Operation> {
    let mut history = vec![
        op(1, (0, 10), get(), Reply::Value(None)),
        op(1, (20, 30), put("1"), Reply::Done),
        op(1, (40, 60), put("2"), Reply::Done),
        op(2, (50, 70), get(), value("1")),
        op(1, (80, 90), cas("2", "3"), Reply::Swapped(true)),
        op(2, (80, 90), get(), value("3")),
        op(1, (100, 110), cas("9", "4"), Reply::Swapped(false)),
        op(2, (100, 110), put("5"), Reply::Done),
        op(1, (120, 130), get(), value("5")),
        op(1, (140, 150), Request::Delete { key: "a".into() }, Reply::Done),
        op(2, (160, 170), get(), Reply::Value(None)),
        op(3, (0, 1), Request::Put { key: "b".into(), value: "x".into() }, Reply::Done),
    ];
    history[7].outcome = Outcome::Unknown;
    history
}

pub(super) fn rows() -> usize {
    const RULE: Rule = Rule::Linearizable;
    let rows: [Row<Vec<Operation>>; 12] = [
        ("a read before any write sees a value", RULE, |h| *reply(&mut h[0]) = value("1")),
        ("a read sees what nobody wrote", RULE, |h| *reply(&mut h[3]) = value("7")),
        ("a read sees another key's value", RULE, |h| *reply(&mut h[3]) = value("x")),
        ("a stale read: it began after the overwriting put returned", RULE, |h| h[3].invoke = 61),
        ("a read from the future", RULE, |h| *reply(&mut h[3]) = value("3")),
        ("a write is lost: the register is still empty", RULE, |h| {
            *reply(&mut h[3]) = Reply::Value(None);
        }),
        ("a refused compare-and-set took effect", RULE, |h| {
            *reply(&mut h[4]) = Reply::Swapped(false);
        }),
        ("a compare-and-set succeeded on a wrong value", RULE, |h| {
            *reply(&mut h[6]) = Reply::Swapped(true);
        }),
        ("a failed write is read", RULE, |h| h[7].outcome = Outcome::Failed),
        ("a lost write takes effect before it was sent", RULE, |h| h[7].invoke = 131),
        ("a deleted key comes back", RULE, |h| *reply(&mut h[10]) = value("5")),
        ("a compare-and-set is carried out twice", RULE, |h| {
            let again = op(3, (92, 95), cas("2", "3"), Reply::Swapped(true));
            h.push(again);
        }),
    ];
    convict(&good(), &rows, |history| linear::check(history).unwrap())
}
