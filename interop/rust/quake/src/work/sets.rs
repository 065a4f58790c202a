//! A set that only grows: each element is a key that is put once.

use quorate_check::etcd::Step;

use super::{guarded, put};
use crate::{history::History, session::Session};

/// Where the elements are.
pub const SET: &str = "s/";

/// Works until the load is over.
pub async fn run(mut session: Session) -> History {
    while session.goes_on().await {
        let key = format!("{SET}{}", session.unique());
        let value = "in".to_owned();
        let txn = if session.dice.once_in(3) {
            guarded(&key, 0, Step::Put { key: key.clone(), value })
        } else {
            put(&key, &value)
        };
        let timed = session.transact(&txn, None).await;
        session.history.added.push((key, timed.seen_as(|_| ()).outcome));
    }
    session.history
}
