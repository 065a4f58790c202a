//! Cutting a failing run down to what matters.
//!
//! First the plan: mishaps are taken out, in halves and then ever smaller parts (delta debugging, Zeller and Hildebrandt 2002), as long
//! as the run still fails by the same judge. Then, for everything but liveness, the run itself: what is left of the plan is run
//! with a tape of every call to the world, and the tape is cut down in the same way. That is sound because every part of a tape is a
//! legal run (see [`world`](crate::world)): a call that makes no sense any more is skipped.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_raft::NodeId;

use super::plan::{Options, Plan};
use super::run::{Outcome, Watch, perform, run_plan};
use super::tape::{Act, Mark, Taped};
use super::words;
use crate::world::{Conviction, Input, Judge, Parcel, World, id_of};

/// How many runs of a plan are tried.
const PLANS_MAX: usize = 300;
/// How many calls are played in all while a tape is cut down.
const CALLS_MAX: usize = 40_000_000;

/// A run that fails, and little more.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What broke in the whole run.
    pub failure: Conviction,
    /// How many events the whole run had, and how many are left.
    pub events: (u64, usize),
    /// How many mishaps the plan had, and how many are left.
    pub mishaps: (usize, usize),
    /// What happens, one line each.
    pub script: Vec<String>,
}

/// Runs a seed; if it fails, cuts it down.
///
/// # Errors
/// What became of the seed, if it does not fail.
pub fn shrink_seed(seed: u64, options: &Options) -> Result<Shrunk, Outcome> {
    let plan = Plan::of(seed, options);
    let (outcome, _) = run_plan(&plan, Watch::default());
    let Some(failure) = outcome.failure.clone() else { return Err(outcome) };
    let judge = failure.judge;
    let small = shrink_plan(plan.clone(), judge);
    let (_, watch) = run_plan(&small, Watch { tape: Some(Vec::new()), recorder: None });
    let tape = watch.tape.unwrap_or_default();
    let mishaps = (plan.mishaps.len(), small.mishaps.len());
    let events = outcome.events;
    if judge == Judge::Liveness {
        let script = small.mishaps.iter().map(|planned| format!("{planned:?}")).collect::<Vec<_>>();
        return Ok(Shrunk { failure, events: (events, tape.len()), mishaps, script });
    }
    let tape = shrink_tape(&small, tape, judge);
    let (script, _) = tell(&small, &tape);
    Ok(Shrunk { failure, events: (events, tape.len()), mishaps, script })
}

/// Any broken property will do, but for progress: runs without it are another story.
fn is_like(failure: &Conviction, judge: Judge) -> bool {
    (failure.judge == Judge::Liveness) == (judge == Judge::Liveness)
}

fn shrink_plan(mut plan: Plan, judge: Judge) -> Plan {
    let mut left = PLANS_MAX;
    let mut events = u64::MAX;
    let mishaps = minimise(plan.mishaps.clone(), |some| {
        left = left.saturating_sub(1);
        if left == 0 {
            return false;
        }
        let (outcome, _) =
            run_plan(&Plan { mishaps: some.to_vec(), ..plan.clone() }, Watch::default());
        let like = outcome.failure.is_some_and(|failure| is_like(&failure, judge));
        let shorter = like && outcome.events <= events;
        if shorter {
            events = outcome.events;
        }
        shorter
    });
    plan.mishaps = mishaps;
    plan
}

fn shrink_tape(plan: &Plan, tape: Vec<Taped>, judge: Judge) -> Vec<Taped> {
    let mut left = CALLS_MAX;
    let mut fails = |some: &[Taped]| {
        left = left.saturating_sub(some.len());
        left > 0 && play(plan, some).is_some_and(|failure| is_like(&failure, judge))
    };
    // A log that is cut to nothing tells the same story with fewer entries.
    let plain: Vec<Taped> = tape.iter().copied().map(plain).collect();
    let tape = if fails(&plain) { plain } else { tape };
    let mut tape = minimise(tape, &mut fails);
    // What a smaller story no longer needs may be whole members.
    for seat in 0..plan.members() {
        let others: Vec<Taped> = tape.iter().filter(|taped| taped.seat != seat).copied().collect();
        if fails(&others) {
            tape = others;
        }
    }
    minimise(tape, &mut fails)
}

fn plain(taped: Taped) -> Taped {
    let cuts = matches!(taped.act, Act::Compact { .. });
    if cuts { Taped { act: Act::Compact { kept: 0 }, ..taped } } else { taped }
}

/// A part of `items` of which no single item, and no run of them that was tried, can be taken out.
pub(crate) fn minimise<T: Clone>(items: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
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
            if fails(&rest) {
                items = rest;
            }
            end = start;
        }
        if size == 1 && items.len() == before {
            break;
        }
        size = (size / 2).max(1);
    }
    items
}

/// A world and what is on its way in it.
struct Stage {
    world: World,
    /// By sender, receiver, kind and term, in the order in which they were sent.
    pool: BTreeMap<(NodeId, NodeId, usize, u64), Vec<Flying>>,
}

/// A message, and how often it was delivered.
struct Flying {
    parcel: Parcel,
    mark: Mark,
    delivered: u32,
}

impl Stage {
    fn new(plan: &Plan) -> Self {
        let world = plan.world();
        Self { world, pool: BTreeMap::new() }
    }

    /// Makes the call. Says whether it made sense.
    fn play(&mut self, taped: &Taped) -> Result<bool, Conviction> {
        let starts = matches!(taped.act, Act::Start { .. });
        if starts == self.world.running(taped.seat).is_some() {
            return Ok(false);
        }
        if let Act::Deliver { from, mark } = taped.act {
            let Some(parcel) = self.take(from, taped.seat, mark) else { return Ok(false) };
            let input = Input::Arrival { from: parcel.from, body: parcel.body };
            self.world.step(taped.seat, taped.now, input)?;
        } else if !self.possible(taped) {
            return Ok(false);
        } else {
            perform(&mut self.world, taped.seat, taped.now, &taped.act)?;
        }
        for parcel in self.world.outbox.drain(..) {
            let mark = Mark::of(&parcel.body);
            let key = (parcel.from, parcel.to, mark.kind, mark.term);
            self.pool.entry(key).or_default().push(Flying { parcel, mark, delivered: 0 });
        }
        Ok(true)
    }

    /// Reports of what never happened would be lies of the driver.
    fn possible(&self, taped: &Taped) -> bool {
        match taped.act {
            Act::SnapshotSent { to, last } => self.world.view(taped.seat).is_some_and(|view| {
                last.is_none_or(|last| last.index <= view.last.index) && to != taped.seat
            }),
            Act::Start { .. }
            | Act::Crash { .. }
            | Act::Doom { .. }
            | Act::Wake
            | Act::Sync { .. }
            | Act::Deliver { .. }
            | Act::Propose { .. }
            | Act::Read { .. }
            | Act::Compact { .. }
            | Act::SyncFailed
            | Act::DiskFault { .. }
            | Act::Repaired
            | Act::Unreachable { .. }
            | Act::Transfer { .. } => true,
        }
    }

    /// The message on this link that is most like the one on the tape; one that was not delivered yet, if there is one.
    fn take(&mut self, from: usize, to: usize, mark: Mark) -> Option<Parcel> {
        let alike = self.pool.get_mut(&(id_of(from), id_of(to), mark.kind, mark.term))?;
        let best = alike.iter_mut().min_by_key(|flying| (flying.mark != mark, flying.delivered))?;
        best.delivered += 1;
        Some(best.parcel.clone())
    }
}

fn play(plan: &Plan, tape: &[Taped]) -> Option<Conviction> {
    let mut stage = Stage::new(plan);
    let mut played = || tape.iter().try_for_each(|taped| stage.play(taped).map(|_| ()));
    match catch_unwind(AssertUnwindSafe(&mut played)) {
        Ok(Ok(())) => None,
        Ok(Err(conviction)) => Some(conviction),
        Err(_) => Some(Conviction::new(Judge::Panic, "the code under test panicked")),
    }
}

/// Plays a tape and says what happens.
fn tell(plan: &Plan, tape: &[Taped]) -> (Vec<String>, Option<Conviction>) {
    let mut stage = Stage::new(plan);
    let mut lines = Vec::new();
    for taped in tape {
        let line =
            format!("{:>14} node {} {}", taped.now, id_of(taped.seat), words::act(&taped.act));
        let played = catch_unwind(AssertUnwindSafe(|| stage.play(taped)));
        let after = stage.world.view(taped.seat).map_or_else(
            || "down".to_owned(),
            |view| {
                format!(
                    "{:?} term={} vote={} commit={} last={} durable={}",
                    view.role,
                    view.term,
                    view.vote.map_or(0, |vote| vote.0),
                    view.commit,
                    view.last,
                    view.durable
                )
            },
        );
        lines.push(format!("{line:<70} | {after}"));
        match played {
            Ok(Ok(_)) => {}
            Ok(Err(conviction)) => {
                lines.push(format!("  => {conviction}"));
                return (lines, Some(conviction));
            }
            Err(_) => {
                lines.push("  => panic".to_owned());
                return (lines, None);
            }
        }
    }
    (lines, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_is_left() {
        let left =
            minimise((0..1000).collect(), |some: &[u32]| some.contains(&7) && some.contains(&901));
        assert_eq!(left, [7, 901]);
        assert!(minimise(vec![1, 2, 3], |_| true).is_empty());
    }
}
