//! Leases and locks.

use quorate_check::{
    Outcome, Rule,
    lease::{self, Bounds},
    lock,
};

use super::{Row, convict, op, reply};

const BOUNDS: Bounds = Bounds { early: 5, late: 50 };

/// A lease of 100 that is renewed once and runs out; one that is revoked.
fn leases() -> Vec<lease::Operation> {
    use lease::{Reply, Request};
    let renew = |lease| Request::Renew { lease };
    let look = |lease| Request::Look { lease };
    vec![
        op(1, (0, 10), renew(1), Reply::Granted(100)),
        op(1, (80, 90), renew(1), Reply::Granted(100)),
        op(2, (150, 160), look(1), Reply::Present(true)),
        op(2, (190, 200), look(1), Reply::Present(false)),
        op(1, (0, 10), renew(2), Reply::Granted(1000)),
        op(2, (20, 30), Request::Revoke { lease: 2 }, Reply::Revoked),
        op(2, (40, 50), look(2), Reply::Present(false)),
        op(1, (0, 10), renew(3), Reply::Granted(100)),
        op(2, (40, 50), Request::TimeToLive { lease: 3 }, Reply::Left(55)),
    ]
}

fn lease_rows() -> usize {
    use lease::Reply;
    let rows: [Row<Vec<lease::Operation>>; 8] = [
        ("a key vanishes before its lease ends", Rule::LeaseEarly, |h| {
            *reply(&mut h[2]) = Reply::Present(false);
        }),
        ("a renewal is acknowledged but not counted", Rule::LeaseEarly, |h| {
            (h[3].invoke, h[3].returned) = (120, Some(130));
        }),
        ("a renewal is told that a lease in force is gone", Rule::LeaseEarly, |h| {
            *reply(&mut h[1]) = Reply::Gone;
        }),
        ("a lease ends though its revocation failed", Rule::LeaseEarly, |h| {
            h[5].outcome = Outcome::Failed;
        }),
        ("a key outlives its lease", Rule::LeaseLate, |h| {
            *reply(&mut h[3]) = Reply::Present(true);
            (h[3].invoke, h[3].returned) = (300, Some(310));
        }),
        ("a renewal that failed is counted", Rule::LeaseLate, |h| {
            h[1].outcome = Outcome::Failed;
            (h[2].invoke, h[2].returned) = (165, Some(170));
        }),
        ("a key outlives the revocation of its lease", Rule::LeaseLate, |h| {
            *reply(&mut h[6]) = Reply::Present(true);
        }),
        ("a lease is told to have less left than it was granted", Rule::LeaseEarly, |h| {
            *reply(&mut h[8]) = Reply::Left(40);
        }),
    ];
    convict(&leases(), &rows, |history| lease::check(history, BOUNDS).unwrap())
}

/// Three holders in a row, each of which writes; the second writes once more after it let go, and is refused.
fn locks() -> Vec<lock::Operation> {
    use lock::{Reply, Request};
    let name = || "l".to_owned();
    let acquire = || Request::Acquire { lock: name() };
    let release = |token| Request::Release { lock: name(), token };
    let guarded = |token| Request::Guarded { lock: name(), token };
    let mut history = vec![
        op(1, (0, 10), acquire(), Reply::Token(5)),
        op(1, (11, 12), guarded(5), Reply::Written),
        op(1, (20, 30), release(5), Reply::Released),
        op(2, (5, 32), acquire(), Reply::Token(6)),
        op(2, (33, 34), guarded(6), Reply::Written),
        op(2, (40, 50), release(6), Reply::Released),
        op(3, (55, 60), acquire(), Reply::Token(9)),
        op(3, (61, 62), guarded(9), Reply::Written),
        op(2, (65, 66), guarded(6), Reply::Written),
    ];
    history[8].outcome = Outcome::Failed;
    history
}

fn lock_rows() -> usize {
    use lock::Reply;
    let rows: [Row<Vec<lock::Operation>>; 7] = [
        ("a lock is given before it is given back", Rule::LockExclusive, |h| {
            h[3].returned = Some(15);
        }),
        ("a lock is given though its holder never let go", Rule::LockExclusive, |h| {
            h.remove(5);
        }),
        ("a token falls", Rule::LockFencing, |h| *reply(&mut h[6]) = Reply::Token(4)),
        ("a token is given twice", Rule::LockFencing, |h| *reply(&mut h[3]) = Reply::Token(5)),
        ("a token falls below that of a holder long gone", Rule::LockFencing, |h| {
            h.push(op(4, (70, 75), lock::Request::Acquire { lock: "l".into() }, Reply::Token(7)));
        }),
        ("the resource takes a late write", Rule::LockStaleWrite, |h| {
            h[8].outcome = Outcome::Ok(Reply::Written);
        }),
        ("a paused holder writes after its successor", Rule::LockStaleWrite, |h| {
            (h[1].invoke, h[1].returned) = (36, Some(38));
        }),
    ];
    convict(&locks(), &rows, |history| lock::check(history).unwrap())
}

pub(super) fn rows() -> usize {
    lease_rows() + lock_rows()
}
