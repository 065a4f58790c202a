//! What clients saw, and what the judges of histories say of it.

use std::collections::BTreeMap;

use quorate_check::{
    Outcome, Verdict, cycles,
    etcd::{Compare, Range, RevisionEvents, Step, StepReply},
    lease, linear, register, revision,
    revision::Request,
    watch,
};

use crate::world::{Conviction, Judge};

/// All that clients saw.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) requests: Vec<revision::Operation>,
    pub(super) lists: Vec<cycles::Operation>,
    pub(super) leases: Vec<lease::Operation>,
    pub(super) watches: Vec<watch::Watch>,
    /// The newest revision in an answer to anybody.
    acknowledged: i64,
    /// What a member that has started must show, by its number.
    floors: BTreeMap<usize, Floor>,
    /// The first answer from before a member's start.
    went_back: Option<String>,
    /// A member told a client of a failure of its own.
    failure: Option<String>,
}

/// What was acknowledged when a member started: nothing older is shown until it may serve whatever it has.
#[derive(Clone, Copy, Debug)]
struct Floor {
    revision: i64,
    until: u64,
}

impl History {
    /// How many reads were answered.
    pub(super) fn reads(&self) -> u64 {
        let read = |one: &&revision::Operation| {
            matches!(one.request, Request::Read { .. }) && one.outcome.reply().is_some()
        };
        self.requests.iter().filter(read).count() as u64
    }

    /// A member told a client that it failed.
    pub(super) fn fails(&mut self, text: &str) {
        self.failure = Some(text.to_owned());
    }

    /// The failure that was told since it was asked for last.
    pub(super) fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// A member starts. Up to `until` its clients must see what anybody was told before.
    pub(super) fn starts(&mut self, member: usize, until: u64) {
        self.floors.insert(member, Floor { revision: self.acknowledged, until });
    }

    /// A member shows its state at a revision.
    pub(super) fn shows(&mut self, member: usize, now: u64, revision: i64) {
        self.acknowledged = self.acknowledged.max(revision);
        let floor = self.floors.get(&member).filter(|floor| now < floor.until);
        if let Some(floor) = floor.filter(|floor| revision < floor.revision) {
            let known = floor.revision;
            let text = || {
                format!("member {member} shows {revision}, but before it started {known} was told")
            };
            self.went_back.get_or_insert_with(text);
        }
    }

    /// Judges everything against what is known to have happened.
    ///
    /// # Errors
    /// The first broken promise.
    pub(super) fn judge(
        &self,
        persisted: &[RevisionEvents],
        bounds: lease::Bounds,
    ) -> Result<(), Conviction> {
        if let Some(text) = &self.went_back {
            return Err(Conviction::new(Judge::History, text.clone()));
        }
        settle("requests", revision::check(&self.requests, persisted))?;
        settle("registers", linear::check(&self.registers()))?;
        settle("lists", cycles::check(&self.lists))?;
        settle("leases", lease::check(&self.leases, bounds))?;
        settle("watches", Ok(watch::check(&self.watches, persisted)))
    }

    /// The requests for registers: keys that nobody touches but alone. Without the revisions that came with them.
    fn registers(&self) -> Vec<register::Operation> {
        self.requests.iter().filter_map(register_of).collect()
    }
}

/// Registers have keys that begin so.
pub(super) const REGISTER_PREFIX: &str = "r";

fn register_of(one: &revision::Operation) -> Option<register::Operation> {
    let request = register_request(&one.request)?;
    request.key().starts_with(REGISTER_PREFIX).then_some(())?;
    let is_conditional = matches!(request, register::Request::Cas { .. });
    let reply = |given: &revision::Reply| match given.steps.first() {
        _ if is_conditional => register::Reply::Swapped(given.succeeded),
        Some(StepReply::Got(pairs)) => {
            register::Reply::Value(pairs.first().map(|pair| pair.value.clone()))
        }
        Some(StepReply::Put | StepReply::Deleted(_)) | None => register::Reply::Done,
    };
    let outcome = match &one.outcome {
        Outcome::Ok(given) => Outcome::Ok(reply(given)),
        Outcome::Failed => Outcome::Failed,
        Outcome::Unknown => Outcome::Unknown,
    };
    let (client, invoke, returned) = (one.client, one.invoke, one.returned);
    Some(register::Operation { client, invoke, returned, request, outcome })
}

fn register_request(request: &Request) -> Option<register::Request> {
    let txn = match request {
        Request::Read { range: Range { key, end: None }, at: None, serializable: false } => {
            return Some(register::Request::Get { key: key.clone() });
        }
        Request::Read { .. } => return None,
        Request::Txn(txn) => txn,
    };
    match (txn.compare.as_slice(), txn.success.as_slice()) {
        ([], [Step::Put { key, value }]) => {
            Some(register::Request::Put { key: key.clone(), value: value.clone() })
        }
        ([], [Step::Delete(range)]) => Some(register::Request::Delete { key: range.key.clone() }),
        ([Compare::Value { value: expected, .. }], [Step::Put { key, value }]) => {
            let (expected, value) = (Some(expected.clone()), value.clone());
            Some(register::Request::Cas { key: key.clone(), expected, value })
        }
        _ => None,
    }
}

fn settle(what: &str, verdict: Result<Verdict, quorate_check::Error>) -> Result<(), Conviction> {
    match verdict {
        Ok(Verdict::Holds) => Ok(()),
        // An order could not be found within the limits: nothing is said against the store.
        Ok(Verdict::Undecided(_)) => Ok(()),
        Ok(broken @ Verdict::Broken(_)) => {
            Err(Conviction::new(Judge::History, format!("{what}: {broken}")))
        }
        Err(error) => Err(Conviction::new(Judge::Contract, format!("{what}: {error}"))),
    }
}
