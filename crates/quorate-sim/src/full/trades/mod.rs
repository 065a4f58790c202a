//! What clients do for a living.

mod keys;
mod leases;
mod lists;

use quorate_check::{
    Outcome,
    etcd::{Step, Txn},
};

pub(super) use self::{
    keys::Keys,
    leases::{Leases, lease_key},
    lists::Lists,
};
use super::{
    call::{Answer, Ask, Call},
    history::History,
};
use crate::dice::Dice;

/// A way to ask one thing after another.
pub(super) trait Trade: std::fmt::Debug {
    /// What to ask next.
    fn ask(&mut self, who: &mut Who, now: u64) -> Ask;

    /// What was heard of it, for the books. When to ask again; `None`: after the usual pause.
    fn hear(&mut self, who: &mut Who, heard: &Heard<'_>, history: &mut History) -> Option<u64>;
}

/// A client as its trade knows it.
#[derive(Debug)]
pub(super) struct Who {
    pub(super) client: u64,
    pub(super) dice: Dice,
    /// The newest revision it has heard of.
    pub(super) revision: i64,
    /// How much it has written.
    pub(super) written: u64,
}

impl Who {
    pub(super) fn new(client: u64, dice: Dice) -> Self {
        Self { client, dice, revision: 1, written: 0 }
    }

    /// A number that nobody has written before.
    fn number(&mut self) -> u64 {
        self.written += 1;
        self.client * 1_000_000 + self.written
    }

    /// A value that nobody has written before.
    fn value(&mut self) -> String {
        self.written += 1;
        format!("{}.{}", self.client, self.written)
    }
}

/// The end of a call.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) now: u64,
    pub(super) call: &'a Call,
    pub(super) outcome: &'a Outcome<Answer>,
}

fn put(key: String, value: String) -> Txn {
    Txn { success: vec![Step::Put { key, value }], ..Txn::default() }
}
