//! One lease after the other: granted, a key under it, renewed a few times, then revoked or left alone until the key is gone.

use quorate_check::{
    Outcome,
    etcd::{Range, StepReply},
    lease,
    revision::Request,
};

use super::{Heard, Trade, Who, put};
use crate::full::{
    call::{Answer, Ask},
    history::History,
    plan::{MS, SECOND},
};

/// How often a client looks whether its key is gone.
const LOOK_EVERY_NS: u64 = 300 * MS;

/// Holds leases.
#[derive(Debug, Default)]
pub(in crate::full) struct Leases {
    /// How many there were.
    count: i64,
    stage: Stage,
    /// When the grant was asked for.
    since: u64,
    ttl: i64,
    renewals: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Grant,
    /// Renews at once what was just granted.
    Confirm,
    Put,
    Renew,
    /// Asks how much time is left.
    Ask,
    Revoke,
    /// Looks until the key is gone.
    Look,
}

/// The key of a lease.
pub(in crate::full) fn lease_key(lease: i64) -> String {
    format!("lease{lease}")
}

impl Trade for Leases {
    fn ask(&mut self, who: &mut Who, now: u64) -> Ask {
        let lease = self.lease(who);
        match self.stage {
            Stage::Grant => {
                self.since = now;
                let longest = if who.dice.chance(300_000) { 10 } else { 4 };
                Ask::Grant(lease, who.dice.within(2, longest).cast_signed())
            }
            Stage::Put => Ask::Keys(Request::Txn(put(lease_key(lease), "held".into())), lease),
            Stage::Confirm | Stage::Renew => Ask::Renew(lease),
            Stage::Ask => Ask::TimeToLive(lease),
            Stage::Revoke => Ask::Revoke(lease),
            Stage::Look => {
                let range = Range::one(&lease_key(lease));
                Ask::Keys(Request::Read { range, at: None, serializable: false }, 0)
            }
        }
    }

    fn hear(&mut self, who: &mut Who, heard: &Heard<'_>, history: &mut History) -> Option<u64> {
        if let Some((request, outcome)) = self.for_the_books(who, heard) {
            let invoke = if self.stage == Stage::Put { self.since } else { heard.call.invoke };
            let (client, returned) = (who.client, Some(heard.now));
            history.leases.push(lease::Operation { client, invoke, returned, request, outcome });
        }
        self.stage = self.next_stage(who, heard);
        let pause = match self.stage {
            Stage::Put | Stage::Confirm => 0,
            Stage::Renew => self.ttl.cast_unsigned() * SECOND / 3,
            Stage::Ask => who.dice.below(LOOK_EVERY_NS),
            Stage::Grant | Stage::Revoke | Stage::Look => LOOK_EVERY_NS,
        };
        Some(heard.now + pause + 1)
    }
}

impl Leases {
    fn lease(&self, who: &Who) -> i64 {
        who.client.cast_signed() * 10_000 + self.count
    }

    /// What the judge of leases is to know of this.
    fn for_the_books(
        &self,
        who: &Who,
        heard: &Heard<'_>,
    ) -> Option<(lease::Request, Outcome<lease::Reply>)> {
        let lease = self.lease(who);
        let granted = |ttl: i64| lease::Reply::Granted(ttl.cast_unsigned() * SECOND);
        let renew = lease::Request::Renew { lease };
        let revoke = lease::Request::Revoke { lease };
        match (self.stage, heard.outcome) {
            (Stage::Grant, Outcome::Ok(Answer::Lease(ttl))) => {
                Some((renew, Outcome::Ok(granted(*ttl))))
            }
            (Stage::Confirm | Stage::Renew, Outcome::Ok(Answer::Lease(0))) => {
                Some((renew, Outcome::Ok(lease::Reply::Gone)))
            }
            // The lease counts from its grant on, but it has a key only now.
            (Stage::Put, Outcome::Ok(_)) => Some((renew, Outcome::Ok(granted(self.ttl)))),
            (Stage::Confirm | Stage::Renew, Outcome::Ok(Answer::Lease(ttl))) => {
                Some((renew, Outcome::Ok(granted(*ttl))))
            }
            (Stage::Confirm | Stage::Renew, Outcome::Unknown) => Some((renew, Outcome::Unknown)),
            (Stage::Ask, Outcome::Ok(Answer::Left(seconds))) => {
                let left = lease::Reply::Left((seconds + 1).cast_unsigned() * SECOND);
                Some((lease::Request::TimeToLive { lease }, Outcome::Ok(left)))
            }
            (Stage::Revoke, Outcome::Ok(_)) => Some((revoke, Outcome::Ok(lease::Reply::Revoked))),
            (Stage::Revoke, Outcome::Unknown) => Some((revoke, Outcome::Unknown)),
            (Stage::Look, Outcome::Ok(answer)) => {
                let reply = lease::Reply::Present(shows_key(answer));
                Some((lease::Request::Look { lease }, Outcome::Ok(reply)))
            }
            _ => None,
        }
    }

    fn next_stage(&mut self, who: &mut Who, heard: &Heard<'_>) -> Stage {
        match (self.stage, heard.outcome) {
            (Stage::Grant, Outcome::Ok(Answer::Lease(ttl))) => {
                self.ttl = *ttl;
                self.renewals = who.dice.below(5);
                if who.dice.chance(300_000) { Stage::Confirm } else { Stage::Put }
            }
            (Stage::Confirm, Outcome::Ok(Answer::Lease(1..)) | Outcome::Unknown) => Stage::Put,
            (Stage::Put, Outcome::Ok(_)) => self.renew_or_end(who),
            (Stage::Renew, Outcome::Ok(Answer::Lease(1..)) | Outcome::Unknown) => {
                self.renewals = self.renewals.saturating_sub(1);
                if who.dice.chance(500_000) { Stage::Ask } else { self.renew_or_end(who) }
            }
            (Stage::Ask, Outcome::Ok(Answer::Left(0..)) | Outcome::Unknown) => {
                self.renew_or_end(who)
            }
            (Stage::Look, Outcome::Ok(answer)) if !shows_key(answer) => self.begin_anew(),
            (Stage::Renew | Stage::Ask | Stage::Revoke | Stage::Look, _) => Stage::Look,
            // Whether there is such a lease or key is not known.
            (Stage::Grant | Stage::Confirm | Stage::Put, _) => self.begin_anew(),
        }
    }

    fn renew_or_end(&self, who: &mut Who) -> Stage {
        match self.renewals {
            0 if who.dice.chance(300_000) => Stage::Revoke,
            0 => Stage::Look,
            _ => Stage::Renew,
        }
    }

    fn begin_anew(&mut self) -> Stage {
        self.count += 1;
        Stage::Grant
    }
}

fn shows_key(answer: &Answer) -> bool {
    match answer {
        Answer::Keys(reply) => {
            matches!(reply.steps.first(), Some(StepReply::Got(pairs)) if !pairs.is_empty())
        }
        Answer::Lease(_) | Answer::Left(_) | Answer::Done => false,
    }
}
