//! What clients do while members fail.

mod bank;
mod bulk;
mod counts;
mod leases;
mod lists;
mod locks;
mod registers;
mod sets;
mod watchers;

use std::{future::Future, pin::Pin, sync::Arc};

use anyhow::Result;
use quorate_check::etcd::{Compare, Range, Step, Txn};
use tokio::task::JoinSet;

pub use self::{bank::open_accounts, sets::SET, watchers::everything};
use crate::{
    dice::Dice,
    history::History,
    session::{Session, World},
};

type Work = fn(Session) -> Pin<Box<dyn Future<Output = History> + Send>>;

/// Makes a row of a workload.
macro_rules! work {
    ($clients:literal, $function:path) => {
        ($clients, |session| Box::pin($function(session)))
    };
}

/// Each workload and how many clients it has.
const LOADS: &[(u64, Work)] = &[
    work!(9, registers::run),
    work!(4, sets::run),
    work!(5, lists::run),
    work!(4, bank::run),
    work!(4, leases::run),
    work!(4, locks::run),
    work!(5, watchers::run),
    work!(2, bulk::run),
    work!(2, counts::run),
];

/// Starts every client; each ends some time after the load is over, and answers what it saw.
///
/// # Errors
/// A client that cannot be made.
pub async fn begin(world: &Arc<World>, dice: &mut Dice) -> Result<JoinSet<History>> {
    let mut clients = JoinSet::new();
    let members = world.endpoints.len();
    let runs = LOADS.iter().flat_map(|(count, run)| (0..*count).map(move |_| *run));
    for (id, run) in (1..).zip(runs) {
        let member = dice.place(members);
        let session = Session::new(id, member, dice.split(), Arc::clone(world)).await?;
        clients.spawn(run(session));
    }
    Ok(clients)
}

/// One of a few keys; every three seconds they are new ones, so that no judge has to carry an unknown outcome for long.
fn fresh_key(session: &mut Session, prefix: &str, keys: u64) -> String {
    let epoch = session.world.clock.now() / 3_000_000_000;
    format!("{prefix}/{epoch:03}/{}", session.dice.below(keys))
}

/// A transaction of one put.
pub fn put(key: &str, value: &str) -> Txn {
    Txn { success: vec![put_step(key, value)], ..Txn::default() }
}

/// A transaction that does `step` if a key was last changed at `revision`; 0 if it is not there.
fn guarded(key: &str, revision: i64, step: Step) -> Txn {
    let compare = vec![unchanged(key, revision)];
    Txn { compare, success: vec![step], ..Txn::default() }
}

fn unchanged(key: &str, revision: i64) -> Compare {
    Compare::ModRevision { key: key.to_owned(), revision }
}

fn put_step(key: &str, value: &str) -> Step {
    Step::Put { key: key.to_owned(), value: value.to_owned() }
}

fn get_step(key: &str) -> Step {
    Step::Get(Range::one(key))
}

fn delete_step(key: &str) -> Step {
    Step::Delete(Range::one(key))
}

/// All keys that begin with `prefix`, which ends with a slash.
fn below(prefix: &str) -> Range {
    let end = format!("{}0", prefix.trim_end_matches('/'));
    Range { key: prefix.to_owned(), end: Some(end) }
}
