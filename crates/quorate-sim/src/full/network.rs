//! The way between members: who reaches whom, how long it takes, and what gets lost.

use std::collections::BTreeMap;

use quorate_node::PeerMessage;

use super::plan::NetworkPlan;
use crate::dice::Dice;

/// What lies between members; they are numbered from 0.
#[derive(Clone, Debug)]
pub(super) struct Network {
    plan: NetworkPlan,
    dice: Dice,
    /// The directions in which nothing passes, and until when.
    cut: BTreeMap<(usize, usize), u64>,
    /// When the last message of a lane arrives.
    last_arrival: BTreeMap<(usize, usize, bool), u64>,
    /// When a lane is free of what it carries already.
    free_at: BTreeMap<(usize, usize, bool), u64>,
}

impl Network {
    pub(super) fn new(plan: NetworkPlan, dice: Dice) -> Self {
        Self {
            plan,
            dice,
            cut: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            free_at: BTreeMap::new(),
        }
    }

    /// When copies of a message that leaves now arrive.
    pub(super) fn arrivals(
        &mut self,
        now: u64,
        (from, to): (usize, usize),
        message: &PeerMessage,
    ) -> Vec<u64> {
        if self.is_cut(now, from, to) || self.dice.chance(self.plan.lost_ppm) {
            return Vec::new();
        }
        let copies = 1 + u64::from(self.dice.chance(self.plan.twice_ppm));
        // A transfer relies on the order of its connection: without it, every chunk would wait for the next resend.
        let is_chunk = matches!(message, PeerMessage::SnapshotChunk { .. });
        let overtakes = self.plan.overtakes && !is_chunk;
        let lane = (from, to, message.is_urgent());
        (0..copies)
            .map(|_| {
                let leaves = self.departure(now, lane, message);
                self.arrival(leaves, lane, overtakes)
            })
            .collect()
    }

    /// When all of a message has left, behind what its lane carries already.
    fn departure(&mut self, now: u64, lane: (usize, usize, bool), message: &PeerMessage) -> u64 {
        let Some(bytes_per_second) = self.plan.bytes_per_second else { return now };
        let lasts_ns = message.content_bytes().saturating_mul(1_000_000_000) / bytes_per_second;
        let free_at = self.free_at.entry(lane).or_default();
        *free_at = now.max(*free_at) + lasts_ns;
        *free_at
    }

    fn arrival(&mut self, now: u64, lane: (usize, usize, bool), overtakes: bool) -> u64 {
        let more = exponential(&mut self.dice, self.plan.delay_more_ns);
        let at = now + self.plan.delay_least_ns + more;
        if overtakes {
            return at;
        }
        let last = self.last_arrival.entry(lane).or_default();
        *last = at.max(*last + 1);
        *last
    }

    /// Whether nothing passes from one to the other.
    pub(super) fn is_cut(&self, now: u64, from: usize, to: usize) -> bool {
        self.cut.get(&(from, to)).is_some_and(|until| *until > now)
    }

    /// Nothing passes in this direction until then.
    pub(super) fn cut(&mut self, from: usize, to: usize, until: u64) {
        let end = self.cut.entry((from, to)).or_default();
        *end = until.max(*end);
    }

    /// From now on everything passes, soon and once.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.plan.lost_ppm = 0;
        self.plan.twice_ppm = 0;
        self.plan.delay_more_ns = self.plan.delay_more_ns.min(1_000_000);
    }
}

/// A time with this mean, such that short ones are most frequent; at most ten times the mean.
pub(super) fn exponential(dice: &mut Dice, mean_ns: u64) -> u64 {
    // A geometric number of eighths of the mean: integers, so that every machine draws the same.
    let step = (mean_ns / 8).max(1);
    let mut steps = 0;
    while steps < 80 && !dice.chance(117_503) {
        steps += 1;
    }
    steps * step + dice.below(step)
}
