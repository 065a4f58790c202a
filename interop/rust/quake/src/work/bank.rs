//! A bank: money moves between accounts, and every look at all of them sums up to the same.

use anyhow::{Result, bail};
use quorate_check::etcd::{KeyValue, StepReply, Txn};

use super::{below, get_step, put_step, unchanged};
use crate::{
    history::History,
    session::{Freshness, Session},
};

const BANK: &str = "b/";
const ACCOUNTS: usize = 8;
const MONEY: i64 = 100;

/// Opens the accounts.
///
/// # Errors
/// The members do not answer.
pub async fn open_accounts(session: &mut Session) -> Result<()> {
    let opened =
        (0..ACCOUNTS).map(|account| put_step(&account_key(account), &format!("{MONEY} opening")));
    let txn = Txn { success: opened.collect(), ..Txn::default() };
    match session.transact(&txn, None).await.outcome.reply() {
        Some(_) => Ok(()),
        None => bail!("the accounts of the bank could not be opened"),
    }
}

/// Works until the load is over.
pub async fn run(mut session: Session) -> History {
    while session.goes_on().await {
        if session.dice.once_in(4) { audit(&mut session).await } else { pay(&mut session).await }
    }
    session.history
}

/// Sums up; a member that answers from what it has may be late, but never wrong.
async fn audit(session: &mut Session) {
    let old = session.dice.once_in(3);
    let freshness = if old { Freshness::Serializable } else { Freshness::Linearizable };
    let Some(pairs) = session.pairs(&below(BANK), freshness).await else { return };
    let sum: i64 = pairs.iter().map(balance).sum();
    let opened = pairs.is_empty() && old;
    if !opened && sum != MONEY * i64::try_from(ACCOUNTS).unwrap_or(0) {
        session.history.complaints.push(format!("the bank holds {sum}: {pairs:?}"));
    }
}

/// Moves some money from one account to another, if neither has changed since it was looked at.
async fn pay(session: &mut Session) {
    let from = session.dice.place(ACCOUNTS);
    let to = (from + 1 + session.dice.place(ACCOUNTS - 1)) % ACCOUNTS;
    let looks = vec![get_step(&account_key(from)), get_step(&account_key(to))];
    let looked = session.transact(&Txn { success: looks, ..Txn::default() }, None).await;
    let Some(reply) = looked.outcome.reply() else { return };
    let [StepReply::Got(payer), StepReply::Got(payee)] = reply.steps.as_slice() else { return };
    let (Some(payer), Some(payee)) = (payer.first(), payee.first()) else { return };
    let most = u64::try_from(balance(payer)).unwrap_or(0);
    let amount = i64::try_from(session.dice.below(most + 1)).unwrap_or(0);
    let note = session.unique();
    let compare =
        [payer, payee].map(|account| unchanged(&account.key, account.mod_revision)).to_vec();
    let success = vec![
        put_step(&payer.key, &format!("{} {note}", balance(payer) - amount)),
        put_step(&payee.key, &format!("{} {note}", balance(payee) + amount)),
    ];
    session.transact(&Txn { compare, success, failure: Vec::new() }, None).await;
}

fn account_key(account: usize) -> String {
    format!("{BANK}{account}")
}

fn balance(account: &KeyValue) -> i64 {
    account.value.split(' ').next().and_then(|amount| amount.parse().ok()).unwrap_or(0)
}
