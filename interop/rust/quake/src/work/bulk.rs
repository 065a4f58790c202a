//! Values of a megabyte, a few of them, and what they are while members fail.

use quorate_check::etcd::Range;

use super::put;
use crate::{
    convert::big,
    history::History,
    session::{Freshness, Session},
};

/// How many are written in all: history is not compacted, and every member keeps them.
const WRITES_MAX: u32 = 30;
/// The longest pause between two, in milliseconds.
const PAUSE_MAX_MS: u64 = 3000;

/// Works until the load is over.
pub async fn run(mut session: Session) -> History {
    let mut writes = 0;
    while session.goes_on().await {
        let key = format!("big/{}", session.dice.below(3));
        if writes < WRITES_MAX && session.dice.once_in(2) {
            let value = big(&session.unique());
            session.transact(&put(&key, &value), None).await;
            writes += 1;
        } else {
            session.read(&Range::one(&key), Freshness::Linearizable).await;
        }
        let pause = session.dice.milliseconds(0, PAUSE_MAX_MS);
        tokio::time::sleep(pause).await;
    }
    session.history
}
