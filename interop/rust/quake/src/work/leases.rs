//! Leases: a key under a lease is there as long as the lease is renewed, and goes soon after.

use std::time::Duration;

use quorate_check::{
    Outcome,
    etcd::{Range, StepReply, Txn},
    lease::{Reply, Request},
    revision,
};

use super::{delete_step, put};
use crate::{
    history::{History, Timed},
    session::{Freshness, Session},
};

/// The time-to-live that is asked for.
pub const TTL_SECONDS: i64 = 2;

/// How often a lease that should have ended is looked at.
const LOOKS_MAX: u64 = 30;

/// A lease that was granted.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Its id.
    pub id: i64,
    /// Its time-to-live in nanoseconds, as the server granted it.
    pub ttl: u64,
    /// When the last renewal that was answered had been asked for; the lease lives at least one time-to-live longer.
    pub renewed: u64,
}

/// Works until the load is over.
pub async fn run(mut session: Session) -> History {
    while session.goes_on().await {
        live(&mut session).await;
    }
    session.history
}

/// The life of one lease: a key under it, some renewals, and then nobody cares for it, or it is revoked.
async fn live(session: &mut Session) {
    let Some(mut lease) = grant(session).await else { return };
    let key = format!("e/{}", lease.id);
    expect_deletion(session, &key, lease.renewed);
    let value = session.unique();
    let there = session.transact(&put(&key, &value), Some(lease.id)).await;
    if there.outcome.reply().is_none() {
        revoke(session, lease).await;
        return;
    }
    for _ in 0..session.dice.below(4) {
        let wait = session.dice.milliseconds(200, 900);
        tokio::time::sleep(wait).await;
        look(session, lease, &key).await;
        renew(session, &mut lease).await;
    }
    if session.dice.once_in(4) {
        revoke(session, lease).await;
        look(session, lease, &key).await;
        return;
    }
    for _ in 0..LOOKS_MAX {
        let wait = session.dice.milliseconds(100, 400);
        tokio::time::sleep(wait).await;
        if look(session, lease, &key).await == Some(false) || !session.goes_on().await {
            break;
        }
    }
    revoke(session, lease).await;
}

/// A new lease; tells the lease's judge.
pub async fn grant(session: &mut Session) -> Option<Lease> {
    let mut client = session.client();
    let timed = session.ask(async move { client.lease_grant(TTL_SECONDS, None).await }).await?;
    session.world.counts.count(&timed.outcome);
    let granted = timed.outcome.reply()?;
    let ttl = u64::try_from(granted.ttl()).unwrap_or(0).saturating_mul(1_000_000_000);
    let lease = Lease { id: granted.id(), ttl, renewed: timed.invoke };
    let told = timed.seen_as(|_| Reply::Granted(ttl));
    note(session, Request::Renew { lease: lease.id }, told);
    Some(lease)
}

/// Renews a lease; tells the lease's judge.
pub async fn renew(session: &mut Session, lease: &mut Lease) -> bool {
    let (mut client, id) = (session.client(), lease.id);
    let asked = async move {
        match client.lease_keep_alive(id).await {
            Ok(_) => Ok(true),
            Err(etcd_client::Error::LeaseKeepAliveError(_)) => Ok(false),
            Err(error) => Err(error),
        }
    };
    let Some(timed) = session.ask(asked).await else { return false };
    session.world.counts.count(&timed.outcome);
    let renewed = timed.outcome.reply() == Some(&true);
    if renewed {
        lease.renewed = timed.invoke;
    }
    let gone = timed.outcome.reply() == Some(&false);
    let mut told = timed.seen_as(|_| Reply::Granted(lease.ttl));
    if gone {
        told.outcome = Outcome::Failed;
    }
    note(session, Request::Renew { lease: lease.id }, told);
    renewed
}

/// Ends a lease; tells the lease's judge.
pub async fn revoke(session: &mut Session, lease: Lease) {
    let (mut client, id) = (session.client(), lease.id);
    let Some(timed) = session.ask(async move { client.lease_revoke(id).await }).await else {
        return;
    };
    session.world.counts.count(&timed.outcome);
    let told = timed.seen_as(|_| Reply::Revoked);
    note(session, Request::Revoke { lease: lease.id }, told);
}

/// Says that from now on a key may be deleted at any time, by nobody: its lease may end.
pub fn expect_deletion(session: &mut Session, key: &str, from: u64) {
    let txn = Txn { success: vec![delete_step(key)], ..Txn::default() };
    let timed: Timed<revision::Reply> =
        Timed { invoke: from, returned: from, outcome: Outcome::Unknown };
    session.history.keys.push(timed.operation(session.id, revision::Request::Txn(txn)));
}

async fn look(session: &mut Session, lease: Lease, key: &str) -> Option<bool> {
    let timed = session.read(&Range::one(key), Freshness::Linearizable).await;
    let present = |reply: &revision::Reply| match reply.steps.first() {
        Some(StepReply::Got(pairs)) => !pairs.is_empty(),
        _ => false,
    };
    let answer = timed.outcome.reply().map(present);
    let told = timed.seen_as(|reply| Reply::Present(present(reply)));
    note(session, Request::Look { lease: lease.id }, told);
    answer
}

fn note(session: &mut Session, request: Request, timed: Timed<Reply>) {
    session.history.leases.push(timed.operation(session.id, request));
}

/// For how long after `renewed` nobody has to doubt a lease: its time-to-live, less what clocks and answers may take.
pub fn sure_until(lease: Lease) -> u64 {
    let margin = u64::try_from(Duration::from_millis(100).as_nanos()).unwrap_or(0);
    (lease.renewed + lease.ttl).saturating_sub(margin)
}
