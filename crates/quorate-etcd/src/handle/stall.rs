//! A stream that is taken away from a client that takes nothing.
//!
//! A streamed answer holds a state, which keeps the space of everything that was deleted since. Nobody asks such a stream
//! for anything while its client's window is closed, so it can't look at a clock by itself: a task beside does, and takes
//! the source out of it. What is left is an error for whoever asks again.
//!
//! A client that is slow but takes something is left alone, until the server needs the space: see [`OpenViews`].

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_stream::Stream;

use crate::{
    backend::ServerError,
    long_work::Paced,
    open_views::{HoldsView, NotedView, OpenViews},
};

/// What a client is told that took nothing for too long.
const STALLED: &str = "the client took nothing of the stream for too long";

/// See the [module](self).
#[derive(Debug)]
pub struct StallGuard<S> {
    state: Arc<Mutex<State<S>>>,
    watch: Option<AbortHandle>,
    /// For a source that holds a state.
    noted: Option<NotedView>,
}

#[derive(Debug)]
struct State<S> {
    /// `None` once it was taken away.
    source: Option<S>,
    /// How often it gave something, or a piece of that went to the client.
    given: u64,
    /// What it gave last was taken, and it was asked for more: whoever is slow, it is not the client. It may have been
    /// asked before that, too, which says nothing of the client.
    asked: bool,
    /// Why it was taken away, until the client has heard it.
    end: Option<ServerError>,
    /// Who waits for the source.
    waker: Option<Waker>,
}

impl<S: Send + 'static> StallGuard<S> {
    /// Guards `source`, when there is a runtime to do it.
    pub(crate) fn new(source: S, stall_max: Duration) -> Self {
        let end = Some(ServerError::Internal(STALLED.into()));
        let state = State { source: Some(source), given: 0, asked: true, end, waker: None };
        let state = Arc::new(Mutex::new(state));
        let watched = Arc::clone(&state);
        let runtime = tokio::runtime::Handle::try_current().ok();
        let watch = runtime.map(|runtime| {
            runtime.spawn(async move {
                let mut seen = u64::MAX;
                loop {
                    tokio::time::sleep(stall_max).await;
                    let taken = watched.lock().take_if_stalled(&mut seen);
                    if taken.is_some() {
                        return;
                    }
                }
            })
        });
        Self { state, watch: watch.map(|task| task.abort_handle()), noted: None }
    }

    /// The same for a source with a state that was taken when the file of the state had this size.
    pub(crate) fn with_view(
        source: S,
        stall_max: Duration,
        (views, file_bytes): (&Arc<OpenViews>, u64),
    ) -> Self {
        let mut guard = Self::new(source, stall_max);
        let holder: Weak<dyn HoldsView> = Arc::downgrade(&guard.state) as _;
        guard.noted = Some(views.note(file_bytes, holder));
        guard
    }
}

impl<S> State<S> {
    /// The client has something to take.
    fn gave(&mut self) {
        self.given += 1;
        self.asked = false;
    }

    /// Takes the source away when nothing was asked since the last look, which saw `seen`.
    fn take_if_stalled(&mut self, seen: &mut u64) -> Option<S> {
        let before = std::mem::replace(seen, self.given);
        if self.asked || before != self.given { None } else { self.source.take() }
    }
}

impl<S: Send> HoldsView for Mutex<State<S>> {
    fn let_go(&self) -> bool {
        let Some(mut state) = self.try_lock() else { return false };
        let Some(source) = state.source.take() else { return false };
        state.end = Some(ServerError::ViewTakenBack);
        let waker = state.waker.take();
        drop(state);
        drop(source);
        // It may wait for a turn that its source has left.
        waker.into_iter().for_each(Waker::wake);
        true
    }
}

impl<S> Drop for StallGuard<S> {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

impl<S: Paced> Paced for StallGuard<S> {
    fn sending(&mut self) {
        let mut state = self.state.lock();
        state.gave();
        if let Some(source) = &mut state.source {
            source.sending();
        }
    }
}

impl<S, T> Stream for StallGuard<S>
where
    S: Stream<Item = Result<T, ServerError>> + Unpin,
{
    type Item = Result<T, ServerError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.state.lock();
        state.asked = true;
        let Some(source) = &mut state.source else {
            return Poll::Ready(state.end.take().map(Err));
        };
        let next = Pin::new(source).poll_next(cx);
        if next.is_ready() {
            state.gave();
        } else {
            state.waker = Some(cx.waker().clone());
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering::SeqCst},
        task::Wake,
    };

    use super::*;

    /// Gives numbers while it lives, one at each second call.
    struct Numbers {
        _held: Arc<()>,
        gives: bool,
    }

    impl Stream for Numbers {
        type Item = Result<(), ServerError>;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.gives = !self.gives;
            if self.gives {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(())))
        }
    }

    impl Paced for Numbers {}

    /// It may be waiting for its turn, which nobody gives it any more.
    #[test]
    fn whose_state_is_taken_back_hears_of_it_at_once() {
        let (held, views) = (Arc::new(()), Arc::default());
        let source = Numbers { _held: Arc::clone(&held), gives: false };
        let mut stream = StallGuard::with_view(source, Duration::MAX, (&views, 100));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(Pin::new(&mut stream).poll_next(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!((views.take_back(100), Arc::strong_count(&held)), (0, 2));
        woken.0.store(false, SeqCst);
        let being_read = Arc::clone(&stream.state);
        let reading = being_read.lock();
        assert_eq!(views.take_back(101), 0, "nobody waits for a read of the disk");
        drop(reading);
        assert_eq!((views.take_back(101), Arc::strong_count(&held)), (1, 1));
        assert!(woken.0.load(SeqCst));
        assert!(matches!(poll(&mut stream), Poll::Ready(Some(Err(ServerError::ViewTakenBack)))));
        assert!(matches!(poll(&mut stream), Poll::Ready(None)));
        assert_eq!(views.take_back(u64::MAX), 0);
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }

    fn poll(stream: &mut StallGuard<Numbers>) -> Poll<Option<Result<(), ServerError>>> {
        Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_source_goes_when_its_client_takes_nothing_and_not_before() {
        let held = Arc::new(());
        // Without a runtime nobody looks but this test.
        let mut stream =
            StallGuard::new(Numbers { _held: Arc::clone(&held), gives: false }, Duration::MAX);
        let mut seen = u64::MAX;
        let look = |stream: &StallGuard<Numbers>, seen: &mut u64| {
            drop(stream.state.lock().take_if_stalled(seen));
        };
        for _ in 0..3 {
            assert!(poll(&mut stream).is_pending());
            look(&stream, &mut seen);
            look(&stream, &mut seen);
            assert_eq!(Arc::strong_count(&held), 2, "it is slow itself");
            assert!(matches!(poll(&mut stream), Poll::Ready(Some(Ok(())))));
            look(&stream, &mut seen);
            assert_eq!(Arc::strong_count(&held), 2, "it gave something since the last look");
        }
        look(&stream, &mut seen);
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(matches!(poll(&mut stream), Poll::Ready(Some(Err(_)))));
        assert!(matches!(poll(&mut stream), Poll::Ready(None)));
    }

    /// What it gave is sent only after it was asked for more in vain.
    #[test]
    fn to_be_asked_before_the_client_took_anything_counts_for_nothing() {
        let held = Arc::new(());
        let source = Numbers { _held: Arc::clone(&held), gives: false };
        let mut stream = StallGuard::new(source, Duration::MAX);
        assert!(poll(&mut stream).is_pending());
        stream.sending();
        let mut seen = u64::MAX;
        for left in [2, 1] {
            drop(stream.state.lock().take_if_stalled(&mut seen));
            assert_eq!(Arc::strong_count(&held), left);
        }
    }
}
