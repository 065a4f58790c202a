//! Transactions over lists: each step appends a unique element or reads a whole list.
//!
//! The lists are read first, from whatever member and however old; then one transaction holds if none of them has changed
//! since, and writes what is appended. One that does not hold has no effect, so its elements must never be seen.

use std::collections::BTreeMap;

use quorate_check::{
    Outcome,
    cycles::Step,
    etcd::{KeyValue, Range, StepReply, Txn},
    revision,
};

use super::{fresh_key, get_step, put_step, unchanged};
use crate::{
    history::{History, Timed},
    session::{Freshness, Session},
};

const LISTS: u64 = 4;
const STEPS_MAX: u64 = 4;

/// A list as it was read: its elements and the revision of its last change.
#[derive(Clone, Debug, Default)]
struct List {
    elements: Vec<u64>,
    revision: i64,
}

/// Works until the load is over.
pub async fn run(mut session: Session) -> History {
    let mut serial = 0;
    while session.goes_on().await {
        let steps = draw(&mut session, &mut serial);
        if steps.iter().all(|step| matches!(step, Step::Read { .. })) {
            read_all(&mut session, steps).await;
        } else {
            change(&mut session, steps).await;
        }
    }
    session.history
}

fn draw(session: &mut Session, serial: &mut u64) -> Vec<Step> {
    let count = 1 + session.dice.below(STEPS_MAX);
    let mut steps = Vec::new();
    for _ in 0..count {
        let key = fresh_key(session, "l", LISTS);
        let step = if session.dice.once_in(2) {
            *serial += 1;
            Step::Append { key, element: session.id * 10_000_000 + *serial }
        } else {
            Step::Read { key, elements: None }
        };
        steps.push(step);
    }
    steps
}

fn key_of(step: &Step) -> &str {
    match step {
        Step::Append { key, .. } | Step::Read { key, .. } => key,
    }
}

/// A transaction of reads alone.
async fn read_all(session: &mut Session, steps: Vec<Step>) {
    let success = steps.iter().map(|step| get_step(key_of(step))).collect();
    let timed = session.transact(&Txn { success, ..Txn::default() }, None).await;
    let told = timed.seen_as(|reply| {
        let filled = steps.iter().zip(&reply.steps).map(|(step, told)| Step::Read {
            key: key_of(step).to_owned(),
            elements: Some(match told {
                StepReply::Got(pairs) => pairs.first().map(parse).unwrap_or_default().elements,
                StepReply::Put | StepReply::Deleted(_) => Vec::new(),
            }),
        });
        filled.collect::<Vec<_>>()
    });
    session.history.lists.push(told.operation(session.id, steps));
}

/// A transaction that appends.
async fn change(session: &mut Session, steps: Vec<Step>) {
    let mut lists: BTreeMap<String, List> = BTreeMap::new();
    for step in &steps {
        let key = key_of(step);
        if lists.contains_key(key) {
            continue;
        }
        let fresh = session.dice.once_in(2);
        let freshness = if fresh { Freshness::Linearizable } else { Freshness::Serializable };
        let Some(pairs) = session.pairs(&Range::one(key), freshness).await else { return };
        lists.insert(key.to_owned(), pairs.first().map(parse).unwrap_or_default());
    }
    let compare = lists.iter().map(|(key, list)| unchanged(key, list.revision)).collect();
    let told = carry_out(&steps, &mut lists);
    let appended: std::collections::BTreeSet<&str> =
        steps.iter().filter(|step| matches!(step, Step::Append { .. })).map(key_of).collect();
    let success = appended.iter().map(|key| put_step(key, &text(&lists[*key].elements))).collect();
    let txn = Txn { compare, success, failure: Vec::new() };
    let timed = session.transact(&txn, None).await;
    session.history.lists.push(settle(timed, told).operation(session.id, steps));
}

/// The reply, with reads filled in; the lists afterwards.
fn carry_out(steps: &[Step], lists: &mut BTreeMap<String, List>) -> Vec<Step> {
    let told = steps.iter().map(|step| match step {
        Step::Append { key, element } => {
            lists.entry(key.clone()).or_default().elements.push(*element);
            step.clone()
        }
        Step::Read { key, .. } => {
            let elements = lists.get(key).map(|list| list.elements.clone());
            Step::Read { key: key.clone(), elements }
        }
    });
    told.collect()
}

/// A transaction whose lists had changed has failed.
fn settle(timed: Timed<revision::Reply>, told: Vec<Step>) -> Timed<Vec<Step>> {
    let held = timed.outcome.reply().is_none_or(|reply| reply.succeeded);
    let mut timed = timed.seen_as(|_| told);
    if !held {
        timed.outcome = Outcome::Failed;
    }
    timed
}

fn parse(pair: &KeyValue) -> List {
    let elements = pair.value.split(',').filter_map(|element| element.parse().ok()).collect();
    List { elements, revision: pair.mod_revision }
}

fn text(elements: &[u64]) -> String {
    elements.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}
