//! A member's own clock: it may run fast or slow and jump forward, but never goes back.

use quorate_raft::Mono;

/// Local time as a straight line through a point, until the next change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    true_ns: u64,
    local_ns: u64,
    rate_ppm: u64,
}

const EVEN: u64 = 1_000_000;

fn scale(value: u64, by: u64, of: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(by) / u128::from(of.max(1))).unwrap_or(u64::MAX)
}

impl Clock {
    pub(crate) fn new(offset_ns: u64) -> Self {
        Self { true_ns: 0, local_ns: offset_ns, rate_ppm: EVEN }
    }

    /// What it shows at a true moment.
    pub(crate) fn local(&self, now: u64) -> Mono {
        let past = now - self.true_ns;
        let shown = if self.rate_ppm == EVEN { past } else { scale(past, self.rate_ppm, EVEN) };
        Mono(self.local_ns + shown)
    }

    /// The first true moment at which it shows `local` or more.
    pub(crate) fn when(&self, local: Mono) -> u64 {
        let left = local.0.saturating_sub(self.local_ns);
        let past = if self.rate_ppm == EVEN {
            left
        } else {
            scale(left, EVEN, self.rate_ppm).saturating_add(2)
        };
        self.true_ns.saturating_add(past)
    }

    pub(crate) fn jump(&mut self, now: u64, by_ns: u64) {
        *self = Self { true_ns: now, local_ns: self.local(now).0 + by_ns, rate_ppm: self.rate_ppm };
    }

    pub(crate) fn run_at(&mut self, now: u64, rate_ppm: u64) {
        *self = Self { true_ns: now, local_ns: self.local(now).0, rate_ppm: rate_ppm.max(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_when_the_clock_says_so_at_any_rate() {
        let mut clock = Clock::new(7);
        for (step, rate) in [(1_000_003, 900_001), (77, 1_099_999), (12_345_678, EVEN)] {
            clock.run_at(clock.true_ns + step, rate);
            let due = Mono(clock.local_ns + 987_654_321);
            let when = clock.when(due);
            assert!(clock.local(when) >= due && clock.local(when - 10) < due, "{clock:?}");
        }
    }

    #[test]
    fn a_clock_never_goes_back() {
        let mut clock = Clock::new(0);
        let before = clock.local(1000);
        clock.run_at(1000, 900_000);
        clock.jump(1000, 5);
        assert!(clock.local(1000) > before);
    }
}
