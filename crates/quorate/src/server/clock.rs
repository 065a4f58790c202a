//! The one monotonic clock of a server.

use std::time::{Duration, Instant};

use quorate_raft::Mono;

/// Counts nanoseconds since the server started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// So that "long before now" is still a moment after zero.
    zero: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { zero: Instant::now() }
    }

    pub(super) fn now(self) -> Mono {
        Mono(nanoseconds(self.zero.elapsed()))
    }

    /// The moment as the system's timers take it.
    pub(super) fn instant(self, at: Mono) -> Instant {
        self.zero + Duration::from_nanos(at.0)
    }
}

/// A duration in nanoseconds, as far as they fit.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
