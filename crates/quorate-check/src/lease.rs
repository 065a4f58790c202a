//! Leases: a key goes with its lease, not before the lease can have run out, and not long after.
//!
//! The server renews a lease at some instant between a renewal's invocation and its return. So a key may be gone, at
//! the earliest, one time-to-live after the *invocation* of the last acknowledged renewal, and it must be gone, at the latest, one
//! time-to-live after the *return* of the last renewal that can have counted, plus what the operator grants. A renewal that is told
//! that there is no such lease has looked, too. Whoever asks for the time left is told no less than what the same renewals
//! protect.
//!
//! Left out: renewals of unknown outcome can reach the server at any later time, so from the first one on nothing of
//! that lease is too late. A change of leader lengthens leases in etcd: that belongs in [`Bounds::late`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    history::{self, Error, Outcome},
    verdict::{Finding, Rule, Verdict},
};

/// What happened to a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// It came into being with keys under it, or was renewed.
    Renew {
        /// Which.
        lease: i64,
    },
    /// A client ended it, or deleted its keys.
    Revoke {
        /// Which.
        lease: i64,
    },
    /// Somebody looked for its keys.
    Look {
        /// Which.
        lease: i64,
    },
    /// Somebody asked how much time it has left.
    TimeToLive {
        /// Which.
        lease: i64,
    },
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To a renewal: the time-to-live that was granted, in nanoseconds.
    Granted(u64),
    /// To a renewal: there is no such lease.
    Gone,
    /// To a revocation.
    Revoked,
    /// To a look: whether the keys were there.
    Present(bool),
    /// To a question for the time left: at most this, in nanoseconds; etcd tells whole seconds, so add what it cut off.
    Left(u64),
}

/// One request about a lease. Looks must be linearizable reads.
pub type Operation = history::Operation<Request, Reply>;

/// By how much a lease may miss its end.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How far the servers' clocks may run ahead of the clients' in one time-to-live, in nanoseconds.
    pub early: u64,
    /// How long after its end a lease may live on, in nanoseconds: expiry is looked for in intervals, and a new leader starts anew.
    pub late: u64,
}

/// Whether every lease ended in time.
///
/// # Errors
/// [`Error::Time`] or [`Error::ReplyKind`] if the history is malformed.
pub fn check(history: &[Operation], bounds: Bounds) -> Result<Verdict, Error> {
    history::check_times(history)?;
    let mut leases: BTreeMap<i64, Vec<(usize, &Operation)>> = BTreeMap::new();
    for (id, one) in history.iter().enumerate() {
        check_kind(id, one)?;
        leases.entry(lease_of(&one.request)).or_default().push((id, one));
    }
    let findings = leases.iter().flat_map(|(lease, part)| judge(*lease, part, bounds));
    Ok(Verdict::of(findings.collect()))
}

fn lease_of(request: &Request) -> i64 {
    match request {
        Request::Renew { lease }
        | Request::Revoke { lease }
        | Request::Look { lease }
        | Request::TimeToLive { lease } => *lease,
    }
}

fn check_kind(operation: usize, one: &Operation) -> Result<(), Error> {
    match (&one.request, one.outcome.reply()) {
        (_, None)
        | (Request::Renew { .. }, Some(Reply::Granted(_) | Reply::Gone))
        | (Request::Revoke { .. }, Some(Reply::Revoked))
        | (Request::Look { .. }, Some(Reply::Present(_)))
        | (Request::TimeToLive { .. }, Some(Reply::Left(_))) => Ok(()),
        (_, Some(_)) => Err(Error::ReplyKind { operation }),
    }
}

fn judge(lease: i64, part: &[(usize, &Operation)], bounds: Bounds) -> Vec<Finding> {
    let found = part.iter().filter_map(|(id, one)| {
        let returned = one.returned?;
        let (rule, cause, what) = match one.outcome.reply()? {
            Reply::Present(true) => late(part, one.invoke, bounds),
            Reply::Present(false) | Reply::Gone => early(part, returned, bounds),
            Reply::Left(left) => short(part, (one.invoke, returned), *left, bounds),
            Reply::Granted(_) | Reply::Revoked => None,
        }?;
        let from = part.iter().find(|(id, _)| *id == cause).map_or(0, |(_, one)| one.invoke);
        let finding = Finding::new(rule, format!("lease {lease}: {what}"));
        Some(finding.of([cause, *id]).within(from, returned))
    });
    found.collect()
}

type Breach = (Rule, usize, String);

/// Gone at `seen`: too early if an answered renewal, or the grant, still protected it, and nobody had asked to end it.
fn early(part: &[(usize, &Operation)], seen: u64, bounds: Bounds) -> Option<Breach> {
    if was_ended(part, seen) {
        return None;
    }
    let (end, cause) = protected(part, seen)?;
    let what = format!("gone at {seen} ns, protected to {end} ns");
    (seen.saturating_add(bounds.early) < end).then_some((Rule::LeaseEarly, cause, what))
}

/// With `left` to go, asked for in this time: too short if a renewal that was answered before protects it for longer.
fn short(
    part: &[(usize, &Operation)],
    (invoke, returned): (u64, u64),
    left: u64,
    bounds: Bounds,
) -> Option<Breach> {
    if was_ended(part, returned) {
        return None;
    }
    let (end, cause) = protected(part, invoke)?;
    let told = returned.saturating_add(left);
    let what = format!("told to end at {told} ns, protected to {end} ns");
    (told.saturating_add(bounds.early) < end).then_some((Rule::LeaseEarly, cause, what))
}

/// Whether somebody may have ended it up to `seen`.
fn was_ended(part: &[(usize, &Operation)], seen: u64) -> bool {
    part.iter().any(|(_, one)| {
        matches!(one.request, Request::Revoke { .. })
            && one.outcome != Outcome::Failed
            && one.invoke <= seen
    })
}

/// The latest end that renewals answered up to `seen` protect, and the one that does.
fn protected(part: &[(usize, &Operation)], seen: u64) -> Option<(u64, usize)> {
    let renewed = part.iter().filter_map(|(id, one)| match one.outcome.reply()? {
        Reply::Granted(ttl) if one.returned? <= seen => {
            Some((one.invoke.saturating_add(*ttl), *id))
        }
        Reply::Granted(_) | Reply::Gone | Reply::Revoked | Reply::Present(_) | Reply::Left(_) => {
            None
        }
    });
    renewed.max()
}

/// There at `seen`, the invocation of a look: too late if the last renewal that can have counted ended long before, or if it had been revoked.
fn late(part: &[(usize, &Operation)], seen: u64, bounds: Bounds) -> Option<Breach> {
    let revoked = part.iter().find(|(_, one)| {
        matches!(one.outcome, Outcome::Ok(Reply::Revoked))
            && one.returned.is_some_and(|at| at < seen)
    });
    if let Some((cause, _)) = revoked {
        return Some((
            Rule::LeaseLate,
            *cause,
            format!("there at {seen} ns, after it was revoked"),
        ));
    }
    let open = |one: &Operation| {
        matches!(one.request, Request::Renew { .. }) && one.outcome == Outcome::Unknown
    };
    if part.iter().any(|(_, one)| open(one) && one.invoke <= seen) {
        return None;
    }
    let renewed =
        part.iter().filter(|(_, one)| one.invoke <= seen).filter_map(|(id, one)| {
            match one.outcome.reply()? {
                Reply::Granted(ttl) => Some((one.returned?.saturating_add(*ttl), *id)),
                Reply::Gone | Reply::Revoked | Reply::Present(_) | Reply::Left(_) => None,
            }
        });
    let (end, cause) = renewed.max()?;
    let what = format!("there at {seen} ns, but it ended at {end} ns");
    (end.saturating_add(bounds.late) < seen).then_some((Rule::LeaseLate, cause, what))
}
