//! The three kinds of metric, each fed without a lock.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// Takes over a sum that somebody else keeps.
    pub fn raise_to(&self, sum: u64) {
        self.0.fetch_max(sum, Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Replaces it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Adds `difference`, which may be negative.
    pub fn add(&self, difference: i64) {
        self.0.fetch_add(difference, Relaxed);
    }

    /// What it is now.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// How often durations of different lengths occurred.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds in seconds, ascending, and how many durations fell under each but over the one before.
    buckets: Vec<(f64, AtomicU64)>,
    over: AtomicU64,
    sum_nanos: AtomicU64,
}

impl Histogram {
    /// Buckets of twice the length each, the first up to `first_seconds`.
    pub(super) fn doubling(first_seconds: f64, count: i32) -> Self {
        let buckets = (0..count).map(|at| (first_seconds * 2f64.powi(at), AtomicU64::new(0)));
        Self { buckets: buckets.collect(), over: AtomicU64::new(0), sum_nanos: AtomicU64::new(0) }
    }

    /// Takes in one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.buckets.iter().find(|(bound, _)| seconds <= *bound);
        bucket.map_or(&self.over, |(_, count)| count).fetch_add(1, Relaxed);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Relaxed);
    }

    /// Upper bounds in seconds, each with the number of durations up to it, and the number of all.
    pub(super) fn cumulative(&self) -> (Vec<(f64, u64)>, u64) {
        let mut sum = 0;
        let buckets = self.buckets.iter().map(|(bound, count)| {
            sum += count.load(Relaxed);
            (*bound, sum)
        });
        let buckets = buckets.collect();
        (buckets, sum + self.over.load(Relaxed))
    }

    /// All durations together.
    pub(super) fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let histogram = Histogram::doubling(0.001, 3);
        for millis in [1, 2, 3, 100] {
            histogram.observe(Duration::from_millis(millis));
        }
        assert_eq!(histogram.cumulative(), (vec![(0.001, 1), (0.002, 2), (0.004, 3)], 4));
        assert_eq!(histogram.sum(), Duration::from_millis(106));
    }
}
