//! A plan as a short text: what it was drawn from, what of it was made simpler, and which of its mishaps are left.
//!
//! It means the same as long as seeds are drawn in the same way, as a seed does.

use std::fmt::Write as _;

use super::plan::{Options, Plan, SECOND, Weather};

/// The first line.
pub(crate) const HEAD: &str = "quorate-sim plan 1";

/// One way to make a plan simpler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Simpler {
    /// Only so many voters.
    Voters(usize),
    /// No learners.
    NoLearners,
    /// Things go wrong for so many seconds only.
    Seconds(u64),
    /// The network of a healthy group neither loses nor repeats, and is equally quick always.
    Calm,
    /// Every sync takes the same short time.
    QuickDisks,
    /// An operation a second.
    FewOperations,
    /// No reads but those that look for progress.
    NoReads,
    /// A payload at a time.
    SinglePayloads,
    /// The log is hardly ever cut, but where a mishap does so.
    LongLogs,
    /// Snapshots are not announced.
    Unannounced,
    /// What is under way arrives although the link is cut.
    InFlightArrives,
    /// Limits are the defaults.
    Roomy,
}

/// In this order they are tried.
const WAYS: [(Simpler, &str); 18] = [
    (Simpler::NoLearners, "no-learners"),
    (Simpler::Voters(1), "voters-1"),
    (Simpler::Voters(2), "voters-2"),
    (Simpler::Voters(3), "voters-3"),
    (Simpler::Voters(5), "voters-5"),
    (Simpler::Seconds(1), "seconds-1"),
    (Simpler::Seconds(3), "seconds-3"),
    (Simpler::Seconds(10), "seconds-10"),
    (Simpler::Seconds(30), "seconds-30"),
    (Simpler::Calm, "calm"),
    (Simpler::QuickDisks, "quick-disks"),
    (Simpler::FewOperations, "few-operations"),
    (Simpler::NoReads, "no-reads"),
    (Simpler::SinglePayloads, "single-payloads"),
    (Simpler::LongLogs, "long-logs"),
    (Simpler::Unannounced, "unannounced"),
    (Simpler::InFlightArrives, "in-flight-arrives"),
    (Simpler::Roomy, "roomy"),
];

impl Simpler {
    /// All ways.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        WAYS.iter().map(|(way, _)| *way)
    }

    fn name(self) -> &'static str {
        WAYS.iter().find(|(way, _)| *way == self).map_or("", |(_, name)| name)
    }

    fn named(name: &str) -> Option<Self> {
        WAYS.iter().find(|(_, known)| *known == name).map(|(way, _)| *way)
    }

    /// Makes a plan simpler. Says whether that changes anything.
    fn apply(self, plan: &mut Plan) -> bool {
        let before = plan.clone();
        match self {
            Self::Voters(voters) => plan.shrink_to(voters, plan.learners),
            Self::NoLearners => plan.shrink_to(plan.voters, 0),
            Self::Seconds(seconds) => {
                plan.safety_ns = plan.safety_ns.min(seconds * SECOND);
                plan.mishaps.retain(|planned| planned.at < seconds * SECOND);
            }
            Self::Calm => {
                let weather =
                    Weather { loss_ppm: 0, duplicate_ppm: 0, jitter_ns: 0, ..plan.weather };
                plan.weather = Weather { in_order: true, ..weather };
            }
            Self::QuickDisks => plan.sync_ns = (100_000, 100_000),
            Self::FewOperations => plan.client_gap_ns = plan.client_gap_ns.max(SECOND),
            Self::NoReads => plan.read_ppm = 0,
            Self::SinglePayloads => plan.batch_max = 1,
            Self::LongLogs => plan.log_max = plan.log_max.max(2_000),
            Self::Unannounced => plan.announce = false,
            Self::InFlightArrives => plan.cuts_in_flight = false,
            Self::Roomy => plan.set_default_limits(),
        }
        *plan != before
    }
}

/// A seed's plan, made simpler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) seed: u64,
    pub(crate) options: Options,
    /// What was made simpler, in this order.
    pub(crate) simpler: Vec<Simpler>,
    /// Which of the mishaps that the seed draws are left, in order.
    pub(crate) kept: Vec<usize>,
}

impl Draft {
    /// The whole plan of a seed.
    pub(crate) fn of(seed: u64, options: &Options) -> Self {
        let count = Plan::of(seed, options).mishaps.len();
        let kept = (0..count).collect();
        Self { seed, options: options.clone(), simpler: Vec::new(), kept }
    }

    /// The plan it stands for.
    pub(crate) fn plan(&self) -> Plan {
        let mut plan = Plan::of(self.seed, &self.options);
        plan.mishaps =
            self.kept.iter().filter_map(|number| plan.mishaps.get(*number).copied()).collect();
        for way in &self.simpler {
            way.apply(&mut plan);
        }
        plan
    }

    /// The same, made simpler in one more way; `None` if that changes nothing.
    pub(crate) fn with(&self, way: Simpler) -> Option<Self> {
        let changes = way.apply(&mut self.plan());
        let mut simpler = self.clone();
        simpler.simpler.push(way);
        changes.then_some(simpler)
    }

    /// As a text that [`parse`](Self::parse) reads.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{HEAD}\nseed {}\nmutant {}\n", self.seed, self.options.mutant);
        let Options { voters, learners, rate, seconds, .. } = self.options;
        let size = |size: Option<usize>| size.map(|size| size as u64);
        for (name, value) in [
            ("members", size(voters)),
            ("learners", size(learners)),
            ("rate", rate),
            ("seconds", seconds),
        ] {
            if let Some(value) = value {
                let _ = writeln!(text, "{name} {value}");
            }
        }
        if self.options.atlas_off {
            text.push_str("atlas off\n");
        }
        for way in &self.simpler {
            let _ = writeln!(text, "simpler {}", way.name());
        }
        let kept: Vec<String> = self.kept.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "keep {}", kept.join(" "));
        text
    }

    /// Reads what [`text`](Self::text) wrote.
    ///
    /// # Errors
    /// Which line is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let options = Options::default();
        let mut draft = Self { seed: 0, options, simpler: Vec::new(), kept: Vec::new() };
        for (at, line) in text.lines().enumerate() {
            let told = line.split('#').next().unwrap_or_default();
            if at == 0 && told.trim() != HEAD {
                return Err(format!("line 1 is not {HEAD:?}"));
            }
            let words: Vec<&str> = told.split_whitespace().collect();
            if at > 0 && !words.is_empty() {
                draft.read(&words).map_err(|why| format!("line {}: {why}: {line}", at + 1))?;
            }
        }
        Ok(draft)
    }

    fn read(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["seed", seed] => self.seed = number(seed)?,
            ["mutant", mutant] => self.options.mutant = number(mutant)?,
            ["members", voters] => self.options.voters = Some(number(voters)?),
            ["learners", learners] => self.options.learners = Some(number(learners)?),
            ["rate", rate] => self.options.rate = Some(number(rate)?),
            ["seconds", seconds] => self.options.seconds = Some(number(seconds)?),
            ["atlas", "off"] => self.options.atlas_off = true,
            ["simpler", name] => {
                self.simpler.push(Simpler::named(name).ok_or("nothing is simpler in this way")?);
            }
            ["keep", numbers @ ..] => {
                self.kept = numbers.iter().map(|word| number(word)).collect::<Result<_, _>>()?;
            }
            _ => return Err("not understood".to_owned()),
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word} is not a number that fits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let options =
            Options { mutant: 100, seconds: Some(30), atlas_off: true, ..Options::default() };
        let mut draft = Draft::of(1, &options);
        draft.kept.truncate(2);
        draft.simpler = Simpler::all().collect();
        assert_eq!(Draft::parse(&draft.text()), Ok(draft.clone()));
        assert_eq!(draft.plan().voters, 1);
        assert!(Draft::parse(&format!("{HEAD}\nsimpler x")).unwrap_err().contains("line 2"));
    }
}
