//! Cutting a failing run of whole servers down: its settings become simpler and its mishaps fewer, as long as it fails alike.

use super::{
    chronicle::Chronicle,
    cuts::{Cuts, SIMPLER},
    run,
};
use crate::{
    chart::{Kind, Trace},
    swarm::{Options, Outcome, Shrunk, Told, minimise},
    world::{Conviction, Judge},
};

/// How many events are simulated in all.
const EVENTS_MAX: u64 = 12_000_000;

/// Runs a seed; if it fails, cuts it down.
///
/// # Errors
/// What became of the seed, if it does not fail.
pub fn shrink_seed(seed: u64, options: &Options, _: usize, _: usize) -> Result<Shrunk, Outcome> {
    let whole = Cuts::none(seed, options);
    let (outcome, mishaps) = try_out(&whole);
    let Some(failure) = outcome.failure.clone() else { return Err(outcome) };
    let mut cutter =
        Cutter { judge: failure.judge, events: outcome.events, mishaps, left: EVENTS_MAX };
    let mut cuts = whole;
    cutter.simplify(&mut cuts);
    cutter.drop_mishaps(&mut cuts);
    cutter.simplify(&mut cuts);
    let kept = cutter.mishaps - cuts.skipped.len() as u64;
    let members = cuts.plan().map_or(0, |plan| plan.members);
    Ok(Shrunk {
        seed,
        failure,
        events_before: outcome.events,
        events: usize::try_from(cutter.events).unwrap_or(usize::MAX),
        mishaps: (usize::try_from(mishaps).unwrap_or(0), usize::try_from(kept).unwrap_or(0)),
        members: (members, 0),
        script: cuts.text(),
    })
}

/// Runs again what [`shrink_seed`] wrote.
///
/// # Errors
/// The text is no such thing.
pub fn tell(text: &str) -> Result<Told, String> {
    let cuts = Cuts::parse(text)?;
    let plan = cuts.plan().ok_or("no such plan")?;
    let title = format!("full world, seed {}, cut down", cuts.seed);
    let chronicle = Chronicle::writing(title, plan.members);
    let (outcome, world) = run(plan, chronicle);
    let trace = world.chronicle.into_trace();
    Ok(Told { lines: lines(&trace), failure: outcome.failure, trace })
}

/// What is worth a line: everything but messages and commits.
fn lines(trace: &Trace) -> Vec<String> {
    let worth = trace.events.iter().filter(|event| {
        matches!(event.kind, Kind::State(..) | Kind::Fault | Kind::Broken | Kind::Disk)
    });
    let line = |event: &crate::chart::Event| {
        let (whole, part) = (event.at / 1_000_000, event.at / 1_000 % 1_000);
        let member = event.member.map(|member| format!(" m{member}")).unwrap_or_default();
        let kind = match event.kind {
            Kind::State(role, term) => format!("{role:?} in term {term}"),
            Kind::Message(_)
            | Kind::Commit
            | Kind::Call
            | Kind::Disk
            | Kind::Fault
            | Kind::Broken => event.text.clone(),
        };
        format!("{whole:>6}.{part:03} ms{member} {kind}")
    };
    worth.map(line).collect()
}

fn try_out(cuts: &Cuts) -> (Outcome, u64) {
    let Some(plan) = cuts.plan() else { return Default::default() };
    let (outcome, world) = run(plan, Chronicle::default());
    (outcome, world.mishaps)
}

#[derive(Debug)]
struct Cutter {
    judge: Judge,
    /// What the shortest run that still fails takes.
    events: u64,
    /// How many mishaps it has, those that are left out included.
    mishaps: u64,
    left: u64,
}

impl Cutter {
    /// Whether a run still fails, and, unless it is progress that is missing, no later than before.
    fn fails(&mut self, cuts: &Cuts) -> bool {
        if self.left == 0 {
            return false;
        }
        let (outcome, mishaps) = try_out(cuts);
        self.left = self.left.saturating_sub(outcome.events.max(1));
        let fails = outcome.failure.as_ref().is_some_and(|failure| self.is_alike(failure));
        let simpler = fails && (self.is_of_progress() || outcome.events <= self.events);
        if simpler {
            (self.events, self.mishaps) = (outcome.events, mishaps);
        }
        simpler
    }

    fn is_of_progress(&self) -> bool {
        self.judge == Judge::Liveness
    }

    /// Any broken property will do, but for progress: runs without it are another story.
    fn is_alike(&self, failure: &Conviction) -> bool {
        (failure.judge == Judge::Liveness) == self.is_of_progress()
    }

    fn simplify(&mut self, cuts: &mut Cuts) {
        for (name, value) in SIMPLER {
            if let Some(simpler) = cuts.with(name, value).filter(|simpler| self.fails(simpler)) {
                *cuts = simpler;
            }
        }
    }

    fn drop_mishaps(&mut self, cuts: &mut Cuts) {
        let all: Vec<u64> =
            (0..self.mishaps).filter(|number| !cuts.skipped.contains(number)).collect();
        let (skipped, whole, simpler) = (cuts.skipped.clone(), all.clone(), cuts.clone());
        let kept = minimise(all, |some| {
            let left_out = whole.iter().filter(|number| !some.contains(number));
            let skipped = skipped.iter().chain(left_out).copied().collect();
            let fewer = Cuts { skipped, ..simpler.clone() };
            self.fails(&fewer).then(|| some.to_vec())
        });
        let left_out = whole.iter().filter(|number| !kept.contains(number));
        cuts.skipped = skipped.iter().chain(left_out).copied().collect();
        // Those that the shorter run no longer comes to need no mention.
        cuts.skipped.retain(|number| *number < self.mishaps);
    }
}
