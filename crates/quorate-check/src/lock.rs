//! Locks: one holder at a time, and a fencing token that always rises.
//!
//! A lock that stands on a lease is advisory: its holder may be paused past the end of the lease and not know it. What a store can promise
//! is that tokens (etcd: the revision at which the holder's key was created) rise from holder to holder, so that the resource that is
//! guarded can refuse whoever comes late. Exclusion is judged as well, between the instants at which a holder surely
//! held: from the answer to its acquisition to its release, or to the moment from which its lease may have run out.
//!
//! Source: Jepsen's analysis of etcd 3.4.3 (2020), "Locks".
//!
//! Left out: fairness.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    history::{self, Error, Outcome},
    verdict::{Finding, Rule, Verdict},
};

/// What a client does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Waits for the lock.
    Acquire {
        /// Which.
        lock: String,
    },
    /// Gives it back, or from now on may have lost it. Counts from its invocation on, whatever its outcome.
    Release {
        /// Which.
        lock: String,
        /// What the acquisition gave.
        token: i64,
    },
    /// Writes to the guarded resource, which knows tokens.
    Guarded {
        /// Which lock guards it.
        lock: String,
        /// What the acquisition gave.
        token: i64,
    },
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To an acquisition: the fencing token.
    Token(i64),
    /// To a release.
    Released,
    /// To a guarded write: it was taken. A refused one has failed.
    Written,
}

/// One request about a lock.
pub type Operation = history::Operation<Request, Reply>;

/// A time for which somebody surely held a lock.
#[derive(Clone, Copy)]
struct Hold {
    id: usize,
    token: i64,
    invoke: u64,
    from: u64,
    to: u64,
}

/// Whether every lock excluded, and every token rose.
///
/// # Errors
/// [`Error::Time`] or [`Error::ReplyKind`] if the history is malformed.
pub fn check(history: &[Operation]) -> Result<Verdict, Error> {
    history::check_times(history)?;
    let mut locks: BTreeMap<&str, Vec<(usize, &Operation)>> = BTreeMap::new();
    for (id, one) in history.iter().enumerate() {
        let (Request::Acquire { lock }
        | Request::Release { lock, .. }
        | Request::Guarded { lock, .. }) = &one.request;
        check_kind(id, one)?;
        locks.entry(lock).or_default().push((id, one));
    }
    let mut findings = Vec::new();
    for (lock, part) in locks {
        let mut holds = holds(&part);
        findings.extend(fencing(lock, &holds));
        findings.extend(exclusion(lock, &mut holds));
        findings.extend(guarded(lock, &part));
    }
    Ok(Verdict::of(findings))
}

fn check_kind(operation: usize, one: &Operation) -> Result<(), Error> {
    match (&one.request, one.outcome.reply()) {
        (_, None)
        | (Request::Acquire { .. }, Some(Reply::Token(_)))
        | (Request::Release { .. }, Some(Reply::Released))
        | (Request::Guarded { .. }, Some(Reply::Written)) => Ok(()),
        (_, Some(_)) => Err(Error::ReplyKind { operation }),
    }
}

fn holds(part: &[(usize, &Operation)]) -> Vec<Hold> {
    let mut ends: BTreeMap<i64, u64> = BTreeMap::new();
    for (_, one) in part {
        if let Request::Release { token, .. } = one.request {
            let end = ends.entry(token).or_insert(one.invoke);
            *end = one.invoke.min(*end);
        }
    }
    let held = part.iter().filter_map(|(id, one)| match (&one.outcome, one.returned) {
        (Outcome::Ok(Reply::Token(token)), Some(from)) => {
            let to = ends.get(token).copied().unwrap_or(u64::MAX);
            Some(Hold { id: *id, token: *token, invoke: one.invoke, from, to })
        }
        (Outcome::Ok(_) | Outcome::Failed | Outcome::Unknown, _) => None,
    });
    held.collect()
}

/// Of two acquisitions of which one was answered before the other was asked for, the later has the higher token; none is given twice.
fn fencing(lock: &str, holds: &[Hold]) -> Vec<Finding> {
    let mut answered: Vec<Hold> = holds.to_vec();
    answered.sort_by_key(|hold| hold.from);
    let mut asked = holds.to_vec();
    asked.sort_by_key(|hold| hold.invoke);
    let mut answered = answered.into_iter().peekable();
    let mut newest: Option<Hold> = None;
    let mut findings = twice(lock, holds);
    for hold in asked {
        while let Some(before) = answered.next_if(|before| before.from < hold.invoke) {
            newest = newest.filter(|newest| newest.token >= before.token).or(Some(before));
        }
        if let Some(before) = newest.filter(|before| before.token > hold.token) {
            let what = format!("{lock}: token {} after {}", hold.token, before.token);
            findings.push(of(Rule::LockFencing, what, before, hold));
        }
    }
    findings
}

fn twice(lock: &str, holds: &[Hold]) -> Vec<Finding> {
    let mut owner: BTreeMap<i64, Hold> = BTreeMap::new();
    let doubled = holds.iter().filter_map(|hold| Some((owner.insert(hold.token, *hold)?, *hold)));
    doubled
        .map(|(one, two)| {
            of(Rule::LockFencing, format!("{lock}: token {} twice", two.token), one, two)
        })
        .collect()
}

fn of(rule: Rule, what: String, one: Hold, two: Hold) -> Finding {
    let to = one.from.max(two.from);
    Finding::new(rule, what).of([one.id, two.id]).within(one.invoke.min(two.invoke), to)
}

/// No two sure holds overlap.
fn exclusion(lock: &str, holds: &mut [Hold]) -> Vec<Finding> {
    holds.sort_by_key(|hold| hold.from);
    let mut longest: Option<Hold> = None;
    let mut findings = Vec::new();
    for hold in holds.iter().filter(|hold| hold.from < hold.to) {
        if let Some(other) = longest.filter(|other| hold.from < other.to) {
            let what =
                format!("{lock}: {} and {} held at {} ns", other.token, hold.token, hold.from);
            findings.push(of(Rule::LockExclusive, what, other, *hold));
        }
        longest = longest.filter(|other| other.to >= hold.to).or(Some(*hold));
    }
    findings
}

/// The resource takes no token that is lower than one of a write that it had answered before.
fn guarded(lock: &str, part: &[(usize, &Operation)]) -> Vec<Finding> {
    let taken = part.iter().filter_map(|(id, one)| match (&one.request, one.deadline()) {
        (Request::Guarded { token, .. }, Some(from)) => {
            Some(Hold { id: *id, token: *token, invoke: one.invoke, from, to: from })
        }
        (Request::Acquire { .. } | Request::Release { .. } | Request::Guarded { .. }, _) => None,
    });
    let taken: Vec<Hold> = taken.collect();
    let stale =
        fencing(lock, &taken).into_iter().filter(|finding| !finding.detail.ends_with("twice"));
    stale.map(|finding| Finding { rule: Rule::LockStaleWrite, ..finding }).collect()
}
