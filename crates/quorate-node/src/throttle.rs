//! Lines of a log that somebody else can cause: one in a while, with the number of those that were left out.

/// Lets one through in each interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throttle {
    /// Nothing passes before.
    open_at_ns: u64,
    held_back: u64,
}

impl Throttle {
    /// Whether one may pass at `now_ns`; if so, how many were held back since the last that did.
    pub fn pass(&mut self, now_ns: u64, interval_ns: u64) -> Option<u64> {
        if now_ns < self.open_at_ns {
            self.held_back += 1;
            return None;
        }
        self.open_at_ns = now_ns.saturating_add(interval_ns);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_passes_in_each_interval_and_tells_of_the_others() {
        let mut throttle = Throttle::default();
        let passed: Vec<_> = (0..25).filter_map(|now| throttle.pass(now, 10)).collect();
        assert_eq!(passed, [0, 9, 9]);
    }
}
