//! Locks: a key that is created once and lives as long as its holder's lease, and a resource that is guarded by its revision.

use std::time::Duration;

use quorate_check::{
    Outcome,
    lock::{Reply, Request},
    revision,
};

use super::{
    delete_step, guarded,
    leases::{self, Lease},
    put_step,
};
use crate::{
    history::{History, Timed},
    session::Session,
};

const LOCKS: u64 = 2;
const TRIES_MAX: u64 = 40;

/// Works until the load is over.
pub async fn run(mut session: Session) -> History {
    while session.goes_on().await {
        let lock = format!("k/{}", session.dice.below(LOCKS));
        if let Some(mut lease) = leases::grant(&mut session).await {
            leases::expect_deletion(&mut session, &lock, lease.renewed);
            if let Some(token) = acquire(&mut session, &lock, &mut lease).await {
                hold(&mut session, &lock, token, &mut lease).await;
                release(&mut session, &lock, token, lease).await;
            }
            leases::revoke(&mut session, lease).await;
        }
    }
    session.history
}

/// Tries until the lock is free; the token is the revision that made the key.
async fn acquire(session: &mut Session, lock: &str, lease: &mut Lease) -> Option<i64> {
    for _ in 0..TRIES_MAX {
        if !leases::renew(session, lease).await || !session.goes_on().await {
            return None;
        }
        let owner = session.unique();
        let txn = guarded(lock, 0, put_step(lock, &owner));
        let timed = session.transact(&txn, Some(lease.id)).await;
        let told = held(timed, |reply| Reply::Token(reply.revision));
        let token = told.outcome.reply().cloned();
        let unknown = told.outcome == Outcome::Unknown;
        note(session, Request::Acquire { lock: lock.to_owned() }, told);
        match token {
            Some(Reply::Token(token)) => return Some(token),
            _ if unknown => return None,
            _ => {}
        }
        let wait = session.dice.milliseconds(20, 80);
        tokio::time::sleep(wait).await;
    }
    None
}

/// Writes to the guarded resource as long as the lock is surely held.
async fn hold(session: &mut Session, lock: &str, token: i64, lease: &mut Lease) {
    for _ in 0..session.dice.below(6) {
        if session.world.clock.now() >= leases::sure_until(*lease) {
            return;
        }
        let value = session.unique();
        let txn = guarded(lock, token, put_step(&format!("g/{lock}"), &value));
        let timed = session.transact(&txn, None).await;
        let told = held(timed, |_| Reply::Written);
        note(session, Request::Guarded { lock: lock.to_owned(), token }, told);
        let wait = session.dice.milliseconds(10, 200);
        tokio::time::sleep(wait).await;
        leases::renew(session, lease).await;
    }
    if session.dice.once_in(8) {
        // A holder that sleeps too long: it has lost the lock, and must notice.
        tokio::time::sleep(Duration::from_nanos(lease.ttl)).await;
    }
}

/// Gives the lock back; it stopped being surely held at the latest when its lease could have run out.
async fn release(session: &mut Session, lock: &str, token: i64, lease: Lease) {
    let invoke = session.world.clock.now().min(leases::sure_until(lease));
    let timed = session.transact(&guarded(lock, token, delete_step(lock)), None).await;
    let told = Timed { invoke, ..timed.seen_as(|_| Reply::Released) };
    note(session, Request::Release { lock: lock.to_owned(), token }, told);
}

/// A transaction that did not hold has failed.
fn held(
    timed: Timed<revision::Reply>,
    reply: impl FnOnce(&revision::Reply) -> Reply,
) -> Timed<Reply> {
    let failed = timed.outcome.reply().is_some_and(|reply| !reply.succeeded);
    let mut told = timed.seen_as(reply);
    if failed {
        told.outcome = Outcome::Failed;
    }
    told
}

fn note(session: &mut Session, request: Request, timed: Timed<Reply>) {
    session.history.locks.push(timed.operation(session.id, request));
}
