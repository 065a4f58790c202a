//! How much may be unacknowledged on a link of unknown speed, and after which silence it is taken for lost.
//!
//! What is sent again although it is only slow makes a slow link slower, until it carries nothing else. So a sender waits for
//! several of the round trips that it has seen before it sends again, twice as long after each time in vain; what it sends at a
//! time shrinks then, and grows while acknowledgements come (Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988; Karn and
//! Partridge, SIGCOMM 1987, for which round trips count).

use quorate_raft::Mono;

/// How many round trips of silence mean that something was lost.
const ROUND_TRIPS: u64 = 3;
/// The longest silence that is waited for, in nanoseconds.
const WAIT_MAX_NS: u64 = 10_000_000_000;

/// The pace of one sender. Units are the sender's: bytes, or pieces.
#[derive(Clone, Debug)]
pub struct Pace {
    window: u64,
    /// The least and the most that the window becomes.
    bounds: (u64, u64),
    /// The shortest silence that is waited for, in nanoseconds.
    wait_min_ns: u64,
    wait_ns: u64,
    smoothed_ns: Option<u64>,
    /// What is timed: it is acknowledged when everything before this number is.
    timed: Option<(u64, Mono)>,
}

impl Pace {
    /// Begins with a window of `first`, which stays within `bounds`, and waits at least `wait_min_ns`.
    pub fn new(first: u64, bounds: (u64, u64), wait_min_ns: u64) -> Self {
        let wait_ns = wait_min_ns;
        Self { window: first, bounds, wait_min_ns, wait_ns, smoothed_ns: None, timed: None }
    }

    /// How much may be unacknowledged.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// How long a silence means that something was lost, in nanoseconds.
    pub fn wait_ns(&self) -> u64 {
        self.wait_ns
    }

    /// Something new was sent, up to number `end`; not something that was sent before.
    pub fn sent(&mut self, now: Mono, end: u64) {
        self.timed.get_or_insert((end, now));
    }

    /// Everything before `next` is acknowledged, which is news.
    pub fn acked(&mut self, now: Mono, next: u64) {
        if let Some((_, at)) = self.timed.take_if(|(end, _)| next >= *end) {
            let sample = now.since(at);
            let smoothed = self.smoothed_ns.map_or(sample, |old| (7 * old + sample) / 8);
            self.smoothed_ns = Some(smoothed);
            let wait_ns = smoothed.max(sample).saturating_mul(ROUND_TRIPS);
            self.wait_ns = wait_ns.clamp(self.wait_min_ns, WAIT_MAX_NS.max(self.wait_min_ns));
        }
        self.window = (self.window + self.window / 4 + 1).min(self.bounds.1);
    }

    /// The silence lasted: what is unacknowledged is sent again.
    pub fn lost(&mut self) {
        self.timed = None;
        self.window = (self.window / 2).max(self.bounds.0);
        self.wait_ns = self.wait_ns.saturating_mul(2).min(WAIT_MAX_NS.max(self.wait_min_ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn waits_for_round_trips_that_were_seen_and_longer_after_each_time_in_vain() {
        let mut pace = Pace::new(4, (1, 16), 200 * MS);
        assert_eq!(pace.wait_ns(), 200 * MS);
        pace.sent(Mono(0), 1);
        pace.sent(Mono(5), 2);
        pace.acked(Mono(500 * MS), 2);
        assert_eq!(pace.wait_ns(), 1_500 * MS);
        pace.lost();
        assert_eq!(pace.wait_ns(), 3_000 * MS);
        pace.acked(Mono(9_000 * MS), 3);
        assert_eq!(pace.wait_ns(), 3_000 * MS, "what was sent twice tells no round trip");
        for _ in 0..9 {
            pace.lost();
        }
        assert_eq!(pace.wait_ns(), WAIT_MAX_NS);
    }

    #[test]
    fn the_window_grows_with_acknowledgements_and_shrinks_with_losses_within_its_bounds() {
        let mut pace = Pace::new(4, (1, 16), 1);
        for next in 1..40 {
            pace.acked(Mono(next), next);
        }
        assert_eq!(pace.window(), 16);
        pace.lost();
        assert_eq!(pace.window(), 8);
        for _ in 0..9 {
            pace.lost();
        }
        assert_eq!(pace.window(), 1);
    }
}
