//! Watch streams: a client's requests in, events out.
//!
//! What a watch is to get is decided by [`WatchStream`] in `quorate-kv`. This is the loop around it: read the client's
//! requests, wait for a wake-up or the progress timer, pull, poll, hand over. It is a [`Stream`] that is polled only while
//! the client takes what it is sent, so a slow client costs its cursor and one batch, and holds up nobody.
//!
//! A client that ends its half of the stream keeps its watches, as in etcd.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use prost::Message;
use quorate_kv::watch::WatchStream;
use quorate_proto::etcdserverpb::{WatchRequest, WatchResponse, watch_request::RequestUnion};
use tokio::time::Sleep;
use tokio_stream::Stream;

use crate::{
    backend::{Backend, ServerError},
    front::Front,
    long_work::{Paced, Turns, give_way},
    watch_shares::Share,
    watches::WakeSlot,
};

/// About how many bytes of events are made ready at a time.
const BATCH_BYTES: usize = 64 * 1024;

/// The shortest interval of periodic progress. Source: etcd `server/etcdserver/api/v3rpc/watch.go`.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Requests read in one go, before the client is given what they led to.
const REQUESTS_AT_ONCE_MAX: usize = 64;

/// One client's watch stream.
pub struct WatchSession<B: Backend, R> {
    front: Arc<Front<B>>,
    requests: R,
    requests_open: bool,
    /// Taken only by `drop`.
    stream: Option<WatchStream>,
    slot: Arc<WakeSlot>,
    /// Made, and not yet taken by the client.
    ready: VecDeque<WatchResponse>,
    /// What this client holds with all its streams.
    share: Arc<Share>,
    /// The bytes of those, roughly, and of what the stream took and did not deliver yet.
    held_bytes: usize,
    turns: Turns,
    /// A wake-up was taken out of the slot and nothing was pulled since. The hub names a stream once until it pulls, so a
    /// wake-up that is forgotten here would leave the stream silent.
    woken: bool,
    /// Runs from the first watch that asks for progress on.
    progress: Option<Pin<Box<Sleep>>>,
    interval: Duration,
}

impl<B: Backend, R> WatchSession<B, R> {
    /// Opens a stream that takes `requests`.
    pub fn new(front: &Arc<Front<B>>, requests: R) -> Self {
        let watches = front.backend.watches();
        let (stream, slot) = watches.open();
        let share = watches.shares().open(front.client);
        let interval = front.settings.watch_progress_notify_interval.max(PROGRESS_INTERVAL_MIN);
        Self {
            front: Arc::clone(front),
            requests,
            requests_open: true,
            interval: spread(interval, front.next_stream_number()),
            stream: Some(stream),
            slot,
            ready: VecDeque::new(),
            share,
            held_bytes: 0,
            turns: Turns::default(),
            woken: false,
            progress: None,
        }
    }
}

/// Adds up to a tenth, so that the progress of many streams does not come all at once.
fn spread(interval: Duration, stream_number: u32) -> Duration {
    interval + interval * (stream_number % 16) / 160
}

impl<B: Backend, R> Drop for WatchSession<B, R> {
    fn drop(&mut self) {
        let watches = self.front.backend.watches();
        watches.shares().hold(&self.share, self.held_bytes, 0);
        watches.shares().close(self.front.client);
        if let Some(stream) = self.stream.take() {
            watches.close(stream);
        }
    }
}

impl<B: Backend, R> std::fmt::Debug for WatchSession<B, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchSession").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

impl<B, R, E> WatchSession<B, R>
where
    B: Backend,
    R: Stream<Item = Result<WatchRequest, E>> + Unpin,
    E: From<ServerError>,
{
    /// Reads the requests that are there. Whether there was any.
    fn read_requests(&mut self, cx: &mut Context<'_>) -> Result<bool, E> {
        let mut any = false;
        for _ in 0..REQUESTS_AT_ONCE_MAX {
            if !self.requests_open || self.stream.as_ref().is_some_and(WatchStream::is_congested) {
                return Ok(any);
            }
            match Pin::new(&mut self.requests).poll_next(cx) {
                Poll::Pending => return Ok(any),
                Poll::Ready(None) => self.requests_open = false,
                Poll::Ready(Some(request)) => {
                    self.take_request(&request?);
                    any = true;
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(any)
    }

    fn take_request(&mut self, request: &WatchRequest) {
        if let Some(RequestUnion::CreateRequest(create)) = &request.request_union
            && create.progress_notify
            && self.progress.is_none()
        {
            self.progress = Some(Box::pin(tokio::time::sleep(self.interval)));
        }
        if let Some(stream) = &mut self.stream {
            self.front.backend.watches().with_hub(|hub| stream.handle(hub, request));
        }
    }

    /// Lets the watches know of each interval that has passed. Whether one has.
    fn progress_due(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(timer) = &mut self.progress else { return false };
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        timer.as_mut().reset(tokio::time::Instant::now() + self.interval);
        // The timer must be asked once more, to wake this stream again.
        let _ = timer.as_mut().poll(cx);
        if let Some(stream) = &mut self.stream {
            stream.interval_elapsed();
        }
        true
    }

    /// Makes the next responses. The reader is taken after the pull, so it is never older than what was pulled. When this
    /// client holds too much, it delivers a revision and keeps nothing else.
    fn make_ready(&mut self) -> Result<(), ServerError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let watches = self.front.backend.watches();
        watches.with_hub(|hub| stream.pull(hub));
        let reader = self.front.backend.reader();
        let is_full = watches.shares().is_full(&self.share);
        let batch_bytes = if is_full { 1 } else { BATCH_BYTES };
        self.ready.extend(stream.poll(&watches.history(&reader), batch_bytes)?);
        if is_full {
            stream.shed();
        }
        let ready_bytes: usize = self.ready.iter().map(Message::encoded_len).sum();
        let held_bytes = ready_bytes + stream.feed_bytes();
        watches.shares().hold(&self.share, self.held_bytes, held_bytes);
        self.held_bytes = held_bytes;
        Ok(())
    }

    /// Takes the next response that is ready.
    fn next_ready(&mut self) -> Option<WatchResponse> {
        let response = self.ready.pop_front()?;
        let held_bytes = self.held_bytes.saturating_sub(response.encoded_len());
        let shares = self.front.backend.watches().shares();
        shares.hold(&self.share, self.held_bytes, held_bytes);
        self.held_bytes = held_bytes;
        Some(self.complete(response))
    }

    /// Whether another poll would bring something now.
    fn has_more(&self) -> bool {
        self.stream.as_ref().is_some_and(WatchStream::has_more)
    }

    /// Fills in ids and term. A revision of 0 stays: etcd sends none there.
    fn complete(&self, mut response: WatchResponse) -> WatchResponse {
        let revision = response.header.map_or(0, |header| header.revision);
        response.header = Some(self.front.header_at(revision));
        response
    }
}

impl<B: Backend, R> Paced for WatchSession<B, R> {
    fn sending(&mut self) {
        self.turns.leave();
    }
}

impl<B, R, E> Stream for WatchSession<B, R>
where
    B: Backend,
    R: Stream<Item = Result<WatchRequest, E>> + Unpin,
    E: From<ServerError>,
{
    type Item = Result<WatchResponse, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(response) = this.next_ready() {
            return Poll::Ready(Some(Ok(response)));
        }
        let asked = match this.read_requests(cx) {
            Ok(asked) => asked,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        let due = this.progress_due(cx);
        this.woken |= asked || due || this.slot.take(cx);
        let reads_history = this.stream.as_ref().is_some_and(WatchStream::reads_history);
        if !reads_history {
            // The watch that waited for a turn may have been canceled.
            this.turns.leave();
        }
        if !(this.woken || this.has_more()) {
            return Poll::Pending;
        }
        let turn =
            if reads_history { Some(ready!(this.turns.poll(&this.front, cx))) } else { None };
        this.woken = false;
        let made = this.make_ready();
        if let Some(turn) = turn {
            this.turns.pass_on(turn);
        }
        if let Err(error) = made {
            return Poll::Ready(Some(Err(error.into())));
        }
        if let Some(response) = this.next_ready() {
            return Poll::Ready(Some(Ok(response)));
        }
        // Nothing to say yet. What came meanwhile must wake this stream again: the slot may have been emptied above.
        this.woken = this.slot.take(cx);
        if this.woken || this.has_more() {
            give_way(cx);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_spread_by_less_than_a_tenth() {
        let minute = Duration::from_secs(60);
        assert!(
            (0..64)
                .map(|stream| spread(minute, stream))
                .all(|at| at >= minute && at < minute * 11 / 10)
        );
    }
}
