//! Cutting a failing run down to what matters.
//!
//! First the plan: mishaps are taken out, in halves and then ever smaller parts (delta debugging, Zeller and Hildebrandt 2002), and
//! everything else is made simpler, as long as the run still fails alike. Where progress is missing, that is the end of it. For
//! everything else what is left of the plan is run with a tape of every call to the world, and the tape is cut down further, by `story`.
//! Several seeds that fail may be tried, and the shortest story is told.

use super::draft::{self, Draft, Simpler};
use super::plan::Options;
use super::run::{Outcome, Watch, run_plan, run_seed};
use super::script::{self, Script};
use super::story::{self, Told};
use crate::world::{Conviction, Judge};

/// How many events are simulated in all while a plan is cut down.
const PLAN_EVENTS_MAX: u64 = 12_000_000;
/// How many seeds are looked at for others that fail.
const SEEDS_MAX: u64 = 1_600;
/// Of these, how many that fail are compared.
const FAILING_MAX: usize = 60;

/// A run that fails, and little more.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The seed it was.
    pub seed: u64,
    /// What broke in the whole run.
    pub failure: Conviction,
    /// How many events the whole run had.
    pub events_before: u64,
    /// How many are left: calls, or, where progress is missing, mishaps.
    pub events: usize,
    /// How many mishaps the plan had, and how many are left.
    pub mishaps: (usize, usize),
    /// How many voters and learners are left.
    pub members: (usize, usize),
    /// A text that tells it, and that [`tell`] runs again.
    pub script: String,
}

/// Runs a seed; if it fails, cuts it down.
///
/// # Errors
/// What became of the seed, if it does not fail.
pub fn shrink_seed(seed: u64, options: &Options) -> Result<Shrunk, Outcome> {
    let whole = Draft::of(seed, options);
    let outcome = run_plan(&whole.plan(), Watch::default()).0;
    let Some(failure) = outcome.failure.clone() else { return Err(outcome) };
    let judge = failure.judge;
    let mishaps_before = whole.kept.len();
    let draft = shrink_draft(whole, judge, outcome.events);
    let plan = draft.plan();
    let mut shrunk = Shrunk {
        seed,
        failure,
        events_before: outcome.events,
        events: plan.mishaps.len(),
        mishaps: (mishaps_before, plan.mishaps.len()),
        members: (plan.voters, plan.learners),
        script: draft.text(),
    };
    if judge != Judge::Liveness {
        let (_, watch) = run_plan(&plan, Watch { tape: Some(Vec::new()), recorder: None });
        let script = story::shrink(Script::of(&plan, watch.tape.unwrap_or_default()));
        shrunk.events = script.tape.len();
        shrunk.members = (script.voters, script.learners);
        shrunk.script = story::text(&script);
    }
    Ok(shrunk)
}

/// The shortest story that is found: of the seed itself, and, while it is longer than `enough` events, of up to `tries` others that fail,
/// the shortest runs first.
///
/// # Errors
/// What became of the seed, if it does not fail.
pub fn shrink_best(
    seed: u64,
    options: &Options,
    tries: usize,
    enough: usize,
) -> Result<Shrunk, Outcome> {
    let mut best = shrink_seed(seed, options)?;
    if best.events <= enough || tries == 0 {
        return Ok(best);
    }
    for (other, options) in others(seed, options, best.failure.judge).into_iter().take(tries) {
        if let Ok(shrunk) = shrink_seed(other, &options)
            && shrunk.events < best.events
        {
            best = shrunk;
        }
        if best.events <= enough {
            break;
        }
    }
    Ok(best)
}

/// Other seeds that fail, the shortest runs first; half of them in small groups.
fn others(seed: u64, options: &Options, judge: Judge) -> Vec<(u64, Options)> {
    let small =
        Options { voters: Some(3), learners: Some(0), seconds: Some(20), ..options.clone() };
    let mut failing: Vec<(u64, u64, Options)> = Vec::new();
    for number in 1..=SEEDS_MAX {
        let options = if number % 2 == 0 { options } else { &small };
        let outcome = run_seed(seed.wrapping_add(number), options);
        if outcome.failure.is_some_and(|failure| is_like(&failure, judge)) {
            failing.push((outcome.events, outcome.seed, options.clone()));
        }
        if failing.len() >= FAILING_MAX {
            break;
        }
    }
    failing.sort_by_key(|(events, seed, _)| (*events, *seed));
    failing.into_iter().map(|(_, seed, options)| (seed, options)).collect()
}

/// Any broken property will do, but for progress: runs without it are another story.
fn is_like(failure: &Conviction, judge: Judge) -> bool {
    (failure.judge == Judge::Liveness) == (judge == Judge::Liveness)
}

/// A plan being cut down.
#[derive(Debug)]
struct Cutter {
    judge: Judge,
    /// What the shortest run that still fails takes.
    events: u64,
    left: u64,
}

impl Cutter {
    /// Whether a plan still fails, and, unless it is progress that is missing, no later than before.
    fn fails(&mut self, draft: &Draft) -> bool {
        if self.left == 0 {
            return false;
        }
        let outcome = run_plan(&draft.plan(), Watch::default()).0;
        self.left = self.left.saturating_sub(outcome.events);
        let fails = outcome.failure.is_some_and(|failure| is_like(&failure, self.judge));
        let shorter = fails && (self.judge == Judge::Liveness || outcome.events <= self.events);
        if shorter {
            self.events = outcome.events;
        }
        shorter
    }

    fn drop_mishaps(&mut self, draft: &mut Draft) {
        let kept = std::mem::take(&mut draft.kept);
        let simpler = draft.clone();
        draft.kept = minimise(kept, |some| {
            let fewer = Draft { kept: some.to_vec(), ..simpler.clone() };
            self.fails(&fewer).then(|| some.to_vec())
        });
    }

    fn simplify(&mut self, draft: &mut Draft) {
        for way in Simpler::all() {
            if let Some(simpler) = draft.with(way).filter(|simpler| self.fails(simpler)) {
                *draft = simpler;
            }
        }
    }
}

fn shrink_draft(mut draft: Draft, judge: Judge, events: u64) -> Draft {
    let mut cutter = Cutter { judge, events, left: PLAN_EVENTS_MAX };
    if judge == Judge::Liveness {
        // Such a run is as long as its safety phase.
        cutter.simplify(&mut draft);
    }
    cutter.drop_mishaps(&mut draft);
    cutter.simplify(&mut draft);
    cutter.drop_mishaps(&mut draft);
    draft
}

/// A part of `items` of which no single item, and no run of them that was tried, can be taken out. `fails` says what to go on with:
/// the same items or fewer.
pub(crate) fn minimise<T: Clone>(
    items: Vec<T>,
    mut fails: impl FnMut(&[T]) -> Option<Vec<T>>,
) -> Vec<T> {
    let mut items = items;
    let mut size = items.len().div_ceil(2).max(1);
    while !items.is_empty() {
        let before = items.len();
        let mut end = items.len();
        // From the end: what comes after the failure goes first.
        while end > 0 {
            let start = end.saturating_sub(size);
            let rest: Vec<T> =
                items.iter().take(start).chain(items.iter().skip(end)).cloned().collect();
            if let Some(fewer) = fails(&rest) {
                items = fewer;
            }
            end = start.min(items.len());
        }
        if size == 1 && items.len() == before {
            break;
        }
        size = (size / 2).max(1);
    }
    items
}

/// Runs again what [`Shrunk::script`] tells.
///
/// # Errors
/// The text is no such script.
pub fn tell(text: &str) -> Result<Told, String> {
    let first = text.lines().next().unwrap_or_default().trim();
    if first == draft::HEAD {
        return Draft::parse(text).map(|draft| story::tell_plan(&draft));
    }
    if first == crate::full::HEAD {
        return crate::full::tell(text);
    }
    if first == script::HEAD {
        return Script::parse(text).map(|script| story::tell_script(&script));
    }
    let known = [script::HEAD, draft::HEAD, crate::full::HEAD];
    Err(format!("the first line is none of {known:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_is_left() {
        let left = minimise((0..1000).collect(), |some: &[u32]| {
            (some.contains(&7) && some.contains(&901)).then(|| some.to_vec())
        });
        assert_eq!(left, [7, 901]);
        assert!(minimise(vec![1, 2, 3], |some| Some(some.to_vec())).is_empty());
    }
}
