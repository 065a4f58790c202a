//! Clients that count: what only grows never becomes fewer.

use std::time::Duration;

use quorate_check::etcd::Range;

use super::SET;
use crate::{history::History, session::Session};

/// The pause between two counts, in milliseconds.
const PAUSE_MAX_MS: u64 = 200;

/// Works until the load is over.
pub async fn run(mut session: Session) -> History {
    let set = Range { key: SET.to_owned(), end: Some("s0".to_owned()) };
    let mut most = 0;
    while session.goes_on().await {
        if let Some(count) = session.count(&set).await {
            if count < most {
                let what = format!("{count} elements of a set that had {most} and only grows");
                session.history.complaints.push(what);
            }
            most = most.max(count);
        }
        let pause = session.dice.below(PAUSE_MAX_MS);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    session.history
}
