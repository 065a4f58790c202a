//! Watches: each follows a range from some revision on, breaks off, and goes on where it was.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use quorate_check::{
    etcd::Range,
    watch::{Response, Watch},
};

use super::below;
use crate::{
    convert,
    history::History,
    session::{PATIENCE, Session, connect},
};

/// How far back a watch goes when it goes back.
const BACK_MAX: u64 = 600;

/// The largest message that a watch takes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How long a watch over everything may take to catch up in the end.
const CATCH_UP: Duration = Duration::from_secs(30);

/// Works until the load is over.
pub async fn run(mut session: Session) -> History {
    let ranges = ["r/", "s/", "l/", "b/", "e/", "k/"];
    let all = session.dice.once_in(2);
    let range = if all { Range::all() } else { below(ranges[session.dice.place(ranges.len())]) };
    let mut next = 1;
    while session.goes_on().await {
        let back = session.dice.once_in(5);
        let from = match i64::try_from(session.dice.below(BACK_MAX)) {
            Ok(back_by) if back => (next - back_by).max(1),
            _ => next,
        };
        let watch = Watch {
            range: range.clone(),
            start_revision: from,
            prev_kv: session.dice.once_in(2),
            no_put: session.dice.once_in(8),
            no_delete: session.dice.once_in(8),
            responses: Vec::new(),
            complete_to: None,
        };
        let watch = follow(&mut session, watch).await;
        let told = watch.responses.iter().flat_map(|response| &response.events);
        let newest = told.map(|told| told.event.pair.mod_revision).max().unwrap_or(0);
        next = next.max(newest + 1);
        session.history.watches.push(watch);
    }
    session.history
}

/// Watches for a while, or until the stream breaks.
async fn follow(session: &mut Session, mut watch: Watch) -> Watch {
    let client = session.client();
    let until = Instant::now() + session.dice.milliseconds(300, 6000);
    let Ok(Ok(mut stream)) = tokio::time::timeout(PATIENCE, open(client, &watch)).await else {
        session.move_on();
        tokio::time::sleep(Duration::from_millis(100)).await;
        return watch;
    };
    while Instant::now() < until && !session.world.over.load(Relaxed) {
        if session.dice.once_in(40) && stream.request_progress().await.is_err() {
            break;
        }
        match tokio::time::timeout(Duration::from_millis(300), stream.message()).await {
            Ok(Ok(Some(message))) if !message.canceled() => match response(&message) {
                Ok(response) => {
                    session.world.counts.events.fetch_add(response.events.len() as u64, Relaxed);
                    watch.responses.push(response);
                }
                Err(error) => session.history.complaints.push(format!("a watch: {error:#}")),
            },
            Err(_) => {}
            Ok(_) => break,
        }
    }
    watch
}

async fn open(
    client: etcd_client::Client,
    watch: &Watch,
) -> Result<WatchStream, etcd_client::Error> {
    let mut options = WatchOptions::new().with_start_revision(watch.start_revision);
    options = match watch.range.end.as_deref() {
        None => options,
        Some("\0") => options.with_all_keys(),
        Some(end) => options.with_range(end),
    };
    if watch.prev_kv {
        options = options.with_prev_key();
    }
    let mut filters = Vec::new();
    if watch.no_put {
        filters.push(etcd_client::WatchFilterType::NoPut);
    }
    if watch.no_delete {
        filters.push(etcd_client::WatchFilterType::NoDelete);
    }
    if !filters.is_empty() {
        options = options.with_filters(filters);
    }
    let mut watches = client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
    watches.watch(watch.range.key.as_str(), Some(options)).await
}

fn response(message: &WatchResponse) -> Result<Response> {
    let revision = message.header().context("a watch response without a header")?.revision();
    let events = message.events().iter().map(convert::told).collect::<Result<Vec<_>>>()?;
    let progress = events.is_empty() && !message.created();
    Ok(Response { revision, progress, events })
}

/// What a member tells of everything from the first revision up to `to`.
///
/// # Errors
/// It does not tell it all in time.
pub async fn everything(endpoint: &str, to: i64) -> Result<Watch> {
    let mut watch = Watch {
        range: Range::all(),
        start_revision: 1,
        prev_kv: false,
        no_put: false,
        no_delete: false,
        responses: Vec::new(),
        complete_to: Some(to),
    };
    let until = Instant::now() + CATCH_UP;
    let mut reached = 0;
    let mut stream = tokio::time::timeout(CATCH_UP, open(connect(endpoint).await?, &watch))
        .await
        .context("no watch could be opened")??;
    while reached < to {
        let left = until.saturating_duration_since(Instant::now());
        let message = tokio::time::timeout(left, stream.message()).await;
        let message = message.with_context(|| format!("silent after revision {reached}"))??;
        let message = message.with_context(|| format!("ended after revision {reached}"))?;
        if message.canceled() {
            bail!("canceled after revision {reached}: {}", message.cancel_reason());
        }
        let mut response = response(&message)?;
        // Leases may end after the revision that everybody is asked about.
        response.events.retain(|told| told.event.pair.mod_revision <= to);
        let told = response.events.last().map(|told| told.event.pair.mod_revision);
        reached = reached.max(told.unwrap_or(0));
        watch.responses.push(response);
    }
    Ok(watch)
}
