//! A plan as a short text: what it was drawn from, what of it was made simpler, and which of its mishaps are left out.
//!
//! It means the same as long as seeds are drawn in the same way, as a seed does.

use std::fmt::Write as _;

use super::plan::{MS, Plan, SECOND};
use crate::swarm::Options;

/// The first line.
pub const HEAD: &str = "quorate-sim full 1";

/// What can be made simpler, each with its simplest values: the first that does is taken, in this order.
pub(super) const SIMPLER: [(&str, u64); 28] = [
    ("seconds", 2),
    ("seconds", 5),
    ("seconds", 10),
    ("seconds", 30),
    ("members", 1),
    ("members", 3),
    ("watchers", 0),
    ("watchers", 1),
    ("lessees", 0),
    ("lessees", 1),
    ("appenders", 0),
    ("clients", 1),
    ("clients", 2),
    ("keys", 1),
    ("compacts", 0),
    ("lost-ppm", 0),
    ("twice-ppm", 0),
    ("overtakes", 0),
    ("whole-frames", 1),
    ("delay-us", 100),
    ("jitter-us", 50),
    ("sync-us", 200),
    ("drift-ppm", 0),
    ("snapshot-count", 10_000),
    ("apply-bytes", 64 << 20),
    ("job-delay-us", 1_000),
    ("usual-limits", 1),
    ("pause-ms", 1_000),
];

impl Plan {
    /// Sets a value by its name. `None`: there is no such thing.
    pub(super) fn set(&mut self, name: &str, value: u64) -> Option<()> {
        let count = usize::try_from(value).ok()?;
        let ns = value.checked_mul(1_000)?;
        match name {
            "seconds" => self.safety_ns = value.checked_mul(SECOND)?,
            "members" => self.members = count.max(1),
            "clients" => self.load.clients = count,
            "watchers" => self.load.watchers = count,
            "lessees" => self.load.lessees = count,
            "appenders" => self.load.appenders = count,
            "keys" => self.load.keys = value.max(1),
            "compacts" => self.load.compacts = value > 0,
            "pause-ms" => self.load.pause_ns = value.checked_mul(MS)?,
            "lost-ppm" => self.network.lost_ppm = u32::try_from(value).ok()?,
            "twice-ppm" => self.network.twice_ppm = u32::try_from(value).ok()?,
            "overtakes" => self.network.overtakes = value > 0,
            "whole-frames" => self.network.damaged_ppm = None,
            "delay-us" => self.network.delay_least_ns = ns,
            "jitter-us" => self.network.delay_more_ns = ns,
            "sync-us" => self.disk.sync_more_ns = ns,
            "drift-ppm" => self.drift_ppm = value,
            "snapshot-count" => self.snapshot_count = value,
            "apply-bytes" => self.apply_bytes_max = value,
            "job-delay-us" => self.job_delay_ns = ns,
            "usual-limits" => self.lower_limits = self.lower_limits.filter(|_| value == 0),
            _ => return None,
        }
        Some(())
    }
}

/// A seed's plan with cuts.
#[derive(Clone, Debug)]
pub(super) struct Cuts {
    pub(super) seed: u64,
    pub(super) options: Options,
    /// What was made simpler: names and values.
    pub(super) set: Vec<(String, u64)>,
    /// The mishaps that are left out.
    pub(super) skipped: Vec<u64>,
}

impl Cuts {
    /// None yet.
    pub(super) fn none(seed: u64, options: &Options) -> Self {
        Self { seed, options: options.clone(), set: Vec::new(), skipped: Vec::new() }
    }

    /// What is left of the plan. `None`: something of it does not exist.
    pub(super) fn plan(&self) -> Option<Plan> {
        let mut plan = Plan::new(self.seed, &self.options);
        self.set.iter().try_for_each(|(name, value)| plan.set(name, *value))?;
        plan.skipped = self.skipped.iter().copied().collect();
        Some(plan)
    }

    /// The same, with one thing simpler. `None`: it is so already.
    pub(super) fn with(&self, name: &str, value: u64) -> Option<Self> {
        if self.set.iter().any(|(known, _)| known == name) {
            return None;
        }
        let mut simpler = self.clone();
        simpler.set.push((name.to_owned(), value));
        Some(simpler)
    }

    /// As a text.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{HEAD}\nseed {}\nmutant {}\n", self.seed, self.options.mutant);
        let asked = [
            ("members", self.options.voters.map(|members| members as u64)),
            ("rate", self.options.rate),
            ("seconds", self.options.seconds),
        ];
        for (name, value) in asked {
            if let Some(value) = value {
                let _ = writeln!(text, "option {name} {value}");
            }
        }
        for (name, value) in &self.set {
            let _ = writeln!(text, "set {name} {value}");
        }
        for number in &self.skipped {
            let _ = writeln!(text, "skip {number}");
        }
        text
    }

    /// Reads such a text.
    ///
    /// # Errors
    /// The line that can't be read.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut cuts = Self::none(0, &Options::default());
        let told = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        for line in told.skip(1).filter(|line| !line.is_empty()) {
            cuts.take(line).ok_or_else(|| format!("{line:?} can't be read"))?;
        }
        cuts.plan().map(|_| cuts).ok_or_else(|| "something is set that does not exist".to_owned())
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_whitespace();
        let (kind, rest) = (words.next()?, words.collect::<Vec<_>>());
        let (value, name) = rest.split_last()?;
        let (value, name) = (value.parse::<u64>().ok()?, name.first().copied());
        match (kind, name) {
            ("seed", None) => self.seed = value,
            ("mutant", None) => self.options.mutant = u16::try_from(value).ok()?,
            ("skip", None) => self.skipped.push(value),
            ("set", Some(name)) => self.set.push((name.to_owned(), value)),
            ("option", Some("members")) => self.options.voters = Some(usize::try_from(value).ok()?),
            ("option", Some("rate")) => self.options.rate = Some(value),
            ("option", Some("seconds")) => self.options.seconds = Some(value),
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_survive_their_text() {
        let options = Options { voters: Some(5), mutant: 7, ..Options::default() };
        let mut cuts = Cuts::none(3, &options).with("clients", 1).unwrap();
        cuts.skipped = vec![0, 4];
        let again = Cuts::parse(&cuts.text()).unwrap();
        assert_eq!(again.text(), cuts.text());
        assert_eq!((again.seed, again.options, again.skipped), (3, options, vec![0, 4]));
        assert!(Cuts::parse(&format!("{HEAD}\nset nothing 1\n")).is_err());
        assert!(Cuts::parse(&format!("{HEAD}\nskip x\n")).is_err());
    }

    #[test]
    fn everything_that_can_be_simpler_can_be_set() {
        let mut plan = Plan::new(1, &Options::default());
        let unknown: Vec<_> =
            SIMPLER.iter().filter(|(name, value)| plan.set(name, *value).is_none()).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
