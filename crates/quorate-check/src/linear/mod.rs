//! Linearizability of registers: is there an order of the operations, each at some instant between its invocation and its
//! return, that explains every reply?
//!
//! Keys are independent, and a history is linearizable if and only if each key's part is (Herlihy and Wing, "Linearizability",
//! TOPLAS 1990: locality), so the history is split first. Each part is swept once in time order (`search`), with the set
//! of all worlds that may be the true one. The sweep is just-in-time linearization (Lowe, "Testing for linearizability",
//! 2017): an operation takes effect as late as possible, when something that returns needs it.
//!
//! The general problem is NP-complete (Gibbons and Korach, 1997), and the cost is exponential in how many compare-and-sets
//! are open on one key at one instant, never in the length of the history. Plain reads and writes cost little however many are open,
//! because of the two reductions that `search` explains. The worlds are limited by [`CONFIGS_MAX`] and open operations by
//! [`OPEN_MAX`]; beyond that the verdict is [`Verdict::Undecided`].
//!
//! Left out: operations over several keys. The judge in [`crate::revision`] takes those.

mod bits;
mod search;

use std::collections::{BTreeMap, BTreeSet};

use search::{Action, Call, Failure, Sweep};

use crate::{
    history::{self, Error, Outcome},
    register::{Operation, Reply, Request},
    verdict::{Finding, Rule, Verdict},
};

/// How many worlds of one key are kept at most.
pub const CONFIGS_MAX: usize = 1 << 13;

/// How many operations may be open on one key at one instant, with those of unknown outcome.
pub const OPEN_MAX: usize = 256;

/// How many returned operations before the failure are shown in its window.
const BEFORE_FAILURE: usize = 8;

/// Whether every key of the history behaves as one register.
///
/// # Errors
/// [`Error::Time`] or [`Error::ReplyKind`] if the history is malformed.
pub fn check(history: &[Operation]) -> Result<Verdict, Error> {
    history::check_times(history)?;
    let mut findings = Vec::new();
    let mut undecided = None;
    for (key, part) in partition(history)? {
        match Sweep::new(&part).run() {
            Ok(()) => {}
            Err(Failure::NoOrder { call }) => findings.push(explain(key, &part, call, history)),
            Err(Failure::Limit(what)) => undecided = Some(format!("key {key}: {what}")),
        }
    }
    let open = findings.is_empty().then_some(undecided).flatten();
    Ok(open.map_or_else(|| Verdict::of(findings), Verdict::Undecided))
}

/// The calls of each key, with values replaced by small numbers; 0 is the empty register.
fn partition(history: &[Operation]) -> Result<BTreeMap<&str, Vec<Call>>, Error> {
    let mut parts: BTreeMap<&str, (Values<'_>, Vec<Call>)> = BTreeMap::new();
    for (id, operation) in history.iter().enumerate() {
        let (values, calls) = parts.entry(operation.request.key()).or_default();
        if let Some(action) = action(id, operation, values)? {
            calls.push(Call {
                id,
                action,
                invoke: operation.invoke,
                returned: operation.deadline(),
            });
        }
    }
    Ok(parts.into_iter().map(|(key, (_, calls))| (key, without_idle(calls))).collect())
}

#[derive(Debug, Default)]
struct Values<'a>(BTreeMap<&'a str, u32>);

impl<'a> Values<'a> {
    fn number(&mut self, value: Option<&'a str>) -> u32 {
        let next = u32::try_from(self.0.len() + 1).unwrap_or(u32::MAX);
        value.map_or(0, |value| *self.0.entry(value).or_insert(next))
    }
}

/// What the operation does to the register, or `None` if it says nothing about it.
fn action<'a>(
    id: usize,
    operation: &'a Operation,
    values: &mut Values<'a>,
) -> Result<Option<Action>, Error> {
    let reply = match &operation.outcome {
        Outcome::Failed => return Ok(None),
        Outcome::Unknown => None,
        Outcome::Ok(reply) => Some(reply),
    };
    let action = match (&operation.request, reply) {
        (Request::Get { .. }, None) => return Ok(None),
        (Request::Get { .. }, Some(Reply::Value(value))) => {
            Action::Read(values.number(value.as_deref()))
        }
        (Request::Put { value, .. }, None | Some(Reply::Done)) => {
            Action::Set(values.number(Some(value)))
        }
        (Request::Delete { .. }, None | Some(Reply::Done)) => Action::Set(0),
        (Request::Cas { expected, value, .. }, None | Some(Reply::Swapped(true))) => Action::Swap {
            from: values.number(expected.as_deref()),
            to: values.number(Some(value)),
        },
        (Request::Cas { expected, .. }, Some(Reply::Swapped(false))) => {
            Action::Miss(values.number(expected.as_deref()))
        }
        (_, Some(_)) => return Err(Error::ReplyKind { operation: id }),
    };
    Ok(Some(action))
}

/// Drops writes of unknown outcome whose value nobody saw: they can explain nothing, unless a compare-and-set failed for
/// the mere presence of another value.
fn without_idle(mut calls: Vec<Call>) -> Vec<Call> {
    if calls.iter().any(|call| matches!(call.action, Action::Miss(_))) {
        return calls;
    }
    let seen: BTreeSet<u32> = calls.iter().filter_map(|call| call.action.needs()).collect();
    calls.retain(|call| {
        call.returned.is_some() || call.action.gives().is_none_or(|value| seen.contains(&value))
    });
    calls
}

/// The window of a failure: what was open when no world was left, and what had returned just before.
fn explain(key: &str, part: &[Call], failed: usize, history: &[Operation]) -> Finding {
    let last = part.get(failed);
    let to = last.and_then(|call| call.returned).unwrap_or(u64::MAX);
    let open =
        |call: &&Call| call.invoke <= to && call.returned.is_none_or(|returned| returned >= to);
    let mut before: Vec<&Call> =
        part.iter().filter(|call| call.returned.is_some_and(|at| at < to)).collect();
    before.sort_by_key(|call| std::cmp::Reverse(call.returned));
    before.truncate(BEFORE_FAILURE);
    let shown: BTreeSet<usize> =
        part.iter().filter(open).chain(before).map(|call| call.id).collect();
    let answered =
        shown.iter().filter_map(|id| history.get(*id)).filter(|one| one.deadline().is_some());
    let from = answered.map(|one| one.invoke).min().unwrap_or(0);
    let id = last.map_or(0, |call| call.id);
    let what = history.get(id).map(|one| format!("{:?} -> {:?}", one.request, one.outcome));
    let detail =
        format!("key {key}: no order explains operation {id}, {}", what.unwrap_or_default());
    Finding::new(Rule::Linearizable, detail).of(shown).within(from, to)
}
