//! The one monotonic clock of a server, and waiting for it.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use quorate_raft::Mono;

/// Counts nanoseconds since the server started.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system's.
    System {
        /// When the server started, so that "long before now" is still a moment after zero.
        zero: Instant,
    },
    /// A simulated world's: whoever holds the number moves time, and polls what waits for it.
    Simulated(Arc<AtomicU64>),
}

impl Clock {
    /// The system's clock, from now on.
    pub fn start() -> Self {
        Self::System { zero: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Mono {
        match self {
            Self::System { zero } => Mono(nanoseconds(zero.elapsed())),
            Self::Simulated(now) => Mono(now.load(SeqCst)),
        }
    }

    /// How long ago `since` was.
    pub(crate) fn elapsed(&self, since: Mono) -> Duration {
        Duration::from_nanos(self.now().since(since))
    }

    /// The moment as the system's timers take it; `None` where time isn't the system's.
    pub(crate) fn instant(&self, at: Mono) -> Option<Instant> {
        match self {
            Self::System { zero } => Some(*zero + Duration::from_nanos(at.0)),
            Self::Simulated(_) => None,
        }
    }

    /// Resolves at `at`.
    pub(crate) fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + use<> {
        let timer = self.instant(at).map(|at| Box::pin(tokio::time::sleep_until(at.into())));
        let (clock, mut timer) = (self.clone(), timer);
        poll_fn(move |cx| match &mut timer {
            Some(timer) => timer.as_mut().poll(cx),
            None if clock.now() >= at => Poll::Ready(()),
            None => Poll::Pending,
        })
    }

    /// What `work` comes to, if it does before `until`.
    pub(crate) async fn before<T>(&self, until: Mono, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut timer = pin!(self.sleep_until(until));
        let either = |cx: &mut Context<'_>| -> Poll<Option<T>> {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            let timer: Pin<&mut _> = timer.as_mut();
            timer.poll(cx).map(|()| None)
        };
        poll_fn(either).await
    }
}

/// A duration in nanoseconds, as far as they fit.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn simulated_time_passes_when_it_is_told_to() {
        let now = Arc::new(AtomicU64::new(5));
        let clock = Clock::Simulated(Arc::clone(&now));
        let mut cx = Context::from_waker(Waker::noop());
        let mut wait = pin!(clock.before(Mono(7), std::future::pending::<()>()));
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        now.store(7, SeqCst);
        assert_eq!(wait.as_mut().poll(&mut cx), Poll::Ready(None));
    }

    #[test]
    fn system_time_passes_by_itself() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let clock = Clock::start();
        let until = clock.now().after(1);
        assert_eq!(runtime.block_on(clock.before(until, std::future::pending::<()>())), None);
        assert!(clock.now() >= until);
    }
}
