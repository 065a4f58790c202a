//! Registers: put, get, delete and compare-and-set of single keys.

use std::collections::BTreeMap;

use quorate_check::{
    etcd::{Compare, Range, StepReply, Txn},
    register::{Reply, Request},
    revision,
};

use super::{delete_step, fresh_key, get_step, put, put_step, unchanged};
use crate::{
    history::{History, Timed},
    session::{Freshness, Session},
};

const KEYS: u64 = 5;

/// Works until the load is over.
pub async fn run(mut session: Session) -> History {
    let mut seen: BTreeMap<String, Option<String>> = BTreeMap::new();
    while session.goes_on().await {
        let key = fresh_key(&mut session, "r", KEYS);
        match session.dice.below(20) {
            0..=7 => get(&mut session, &mut seen, key).await,
            8..=9 => drop(session.read(&Range::one(&key), Freshness::Serializable).await),
            10..=13 => set(&mut session, &mut seen, key).await,
            14..=18 => swap(&mut session, &mut seen, key).await,
            _ => delete(&mut session, &mut seen, key).await,
        }
        if seen.len() > 100 {
            seen.clear();
        }
    }
    session.history
}

type Seen = BTreeMap<String, Option<String>>;

async fn get(session: &mut Session, seen: &mut Seen, key: String) {
    let timed = session.read(&Range::one(&key), Freshness::Linearizable).await;
    if let Some(reply) = timed.outcome.reply() {
        seen.insert(key.clone(), value(reply));
    }
    note(session, Request::Get { key }, timed.seen_as(|reply| Reply::Value(value(reply))));
}

async fn set(session: &mut Session, seen: &mut Seen, key: String) {
    let value = session.unique();
    let timed = session.transact(&put(&key, &value), None).await;
    if timed.outcome.reply().is_some() {
        seen.insert(key.clone(), Some(value.clone()));
    }
    note(session, Request::Put { key, value }, timed.seen_as(|_| Reply::Done));
}

async fn delete(session: &mut Session, seen: &mut Seen, key: String) {
    let txn = Txn { success: vec![delete_step(&key)], ..Txn::default() };
    let timed = session.transact(&txn, None).await;
    seen.remove(&key);
    note(session, Request::Delete { key }, timed.seen_as(|_| Reply::Done));
}

/// Replaces what was last seen, and learns what is there if it is something else.
async fn swap(session: &mut Session, seen: &mut Seen, key: String) {
    let expected = seen.get(&key).cloned().flatten();
    let value = session.unique();
    let condition = match &expected {
        Some(value) => Compare::Value { key: key.clone(), value: value.clone() },
        None => unchanged(&key, 0),
    };
    let success = vec![put_step(&key, &value)];
    let txn = Txn { compare: vec![condition], success, failure: vec![get_step(&key)] };
    let timed = session.transact(&txn, None).await;
    if let Some(reply) = timed.outcome.reply() {
        let now = if reply.succeeded { Some(value.clone()) } else { self::value(reply) };
        seen.insert(key.clone(), now);
    }
    let timed = timed.seen_as(|reply| Reply::Swapped(reply.succeeded));
    note(session, Request::Cas { key, expected, value }, timed);
}

/// The value of the first pair that was read, if there is one.
fn value(reply: &revision::Reply) -> Option<String> {
    match reply.steps.first() {
        Some(StepReply::Got(pairs)) => pairs.first().map(|pair| pair.value.clone()),
        _ => None,
    }
}

fn note(session: &mut Session, request: Request, timed: Timed<Reply>) {
    session.history.registers.push(timed.operation(session.id, request));
}
