//! Cutting the calls of a failing run down, and telling what is left.
//!
//! That is sound because every part of a tape is a legal run (see [`world`](crate::world)): a call that makes no sense any more is
//! skipped. Calls are taken [literally](Reading::Literal) first, then [freely](Reading::Free), so that an early election can go although every
//! term behind it is another one then. Members are taken out with all they do; disks that need no calls of their own are made
//! prompt; and at the end two, three and four calls are taken out at a time, such as a proposal with its append and its answer.

use super::draft::Draft;
use super::plan::MEMBERS_MAX;
use super::record::Recorder;
use super::run::{Watch, run_plan};
use super::script::{self, Script};
use super::shrink::minimise;
use super::stage::{Played, Reading, Stage, play};
use super::tape::{Act, Taped};
use super::words;
use crate::chart::{Trace, Unit};
use crate::world::{Conviction, Judge, World, id_of};

/// How many calls are played in all while a tape is cut down.
const CALLS_MAX: usize = 25_000_000;
/// So many calls at a time are taken out of scripts that are no longer than this.
const TOGETHER_MAX: [(usize, usize); 3] = [(2, 120), (3, 60), (4, 40)];

/// A script that was run again.
#[derive(Clone, Debug)]
pub struct Told {
    /// One line for each thing that happens.
    pub lines: Vec<String>,
    /// What broke, if something did.
    pub failure: Option<Conviction>,
    /// What can be drawn of it.
    pub trace: Trace,
}

/// A script being cut down.
#[derive(Debug)]
struct Cutter {
    left: usize,
    reading: Reading,
}

impl Cutter {
    /// The calls that were made up to the failure, if these still fail.
    fn fails(&mut self, script: &Script, calls: &[Taped]) -> Option<Vec<Taped>> {
        self.left = self.left.saturating_sub(calls.len());
        if self.left == 0 {
            return None;
        }
        let Played { tape, failure } = play(script, calls, self.reading);
        failure.filter(|failure| failure.judge != Judge::Liveness).map(|_| tape)
    }

    /// Takes over what `other` tells, if it still fails.
    fn adopt(&mut self, script: &mut Script, mut other: Script) {
        if let Some(tape) = self.fails(&other, &other.tape) {
            other.tape = tape;
            *script = other;
        }
    }

    fn drop_calls(&mut self, script: &mut Script) {
        let calls = std::mem::take(&mut script.tape);
        script.tape = minimise(calls, |some| self.fails(script, some));
    }

    fn drop_members(&mut self, script: &mut Script) {
        for seat in (0..script.members()).rev() {
            if let Some(other) = without_seat(script, seat) {
                self.adopt(script, other);
            }
        }
    }

    /// Lets disks be prompt, all or one by one; their syncs are no calls any more.
    fn hurry_disks(&mut self, script: &mut Script) {
        let all = (0..script.members()).fold(0_u8, |set, seat| set | 1 << seat);
        let each = (0..MEMBERS_MAX).map(|seat| 1 << seat);
        for more in [all].into_iter().chain(each).map(|set: u8| set & all) {
            let prompt = script.prompt | more;
            let waits = |taped: &&Taped| {
                !(matches!(taped.act, Act::Sync { .. }) && prompt >> taped.seat & 1 == 1)
            };
            let tape = script.tape.iter().filter(waits).copied().collect();
            if prompt != script.prompt {
                self.adopt(script, Script { prompt, tape, ..script.clone() });
            }
        }
    }

    /// Makes calls plainer, one by one.
    fn plain(&mut self, script: &mut Script) {
        for at in (0..script.tape.len()).rev() {
            let mut other = script.clone();
            let Some(taped) = other.tape.get_mut(at) else { continue };
            let act = plain(taped.act);
            if taped.act != act {
                taped.act = act;
                self.adopt(script, other);
            }
        }
    }

    /// Takes out `count` calls at a time that need not stand together.
    fn drop_together(&mut self, script: &mut Script, count: usize) {
        let mut chosen: Vec<usize> = (0..count).collect();
        while chosen.last().is_some_and(|last| *last < script.tape.len()) {
            let stays = |(at, _): &(usize, &Taped)| !chosen.contains(at);
            let rest: Vec<Taped> =
                script.tape.iter().enumerate().filter(stays).map(|(_, taped)| *taped).collect();
            if let Some(tape) = self.fails(script, &rest) {
                script.tape = tape;
            }
            if self.left == 0 || !advance(&mut chosen, script.tape.len()) {
                return;
            }
        }
    }
}

/// The next choice of places below `length`, in order; `false` if there is none.
fn advance(chosen: &mut [usize], length: usize) -> bool {
    let count = chosen.len();
    for place in (0..count).rev() {
        let Some(now) = chosen.get(place).copied() else { return false };
        if now + (count - place) < length {
            chosen.iter_mut().skip(place).zip(now + 1..).for_each(|(slot, next)| *slot = next);
            return true;
        }
    }
    false
}

fn plain(act: Act) -> Act {
    match act {
        Act::Compact { .. } => Act::Compact { kept: 0 },
        Act::Propose { .. } => Act::Propose { count: 1 },
        Act::Crash { .. } => Act::Crash { kept: 0 },
        Act::Sync { .. } => Act::Sync { count: usize::from(u16::MAX) },
        Act::Start { .. }
        | Act::Doom { .. }
        | Act::Wake
        | Act::Deliver { .. }
        | Act::Read { .. }
        | Act::SyncFailed
        | Act::DiskFault { .. }
        | Act::Repaired
        | Act::Unreachable { .. }
        | Act::SnapshotSent { .. }
        | Act::Kill
        | Act::Lie
        | Act::OwnUp
        | Act::Damage { .. }
        | Act::Wipe
        | Act::Full
        | Act::Room
        | Act::Transfer { .. } => act,
    }
}

/// The same act when the member at `gone` was never there; `None`: it was about that member.
fn without(act: Act, gone: usize) -> Option<Act> {
    let moved = |seat: usize| (seat != gone).then_some(seat - usize::from(seat > gone));
    Some(match act {
        Act::Deliver { from, mark } => Act::Deliver { from: moved(from)?, mark },
        Act::Unreachable { peer } => Act::Unreachable { peer: moved(peer)? },
        Act::SnapshotSent { to, last } => Act::SnapshotSent { to: moved(to)?, last },
        Act::Transfer { to } => Act::Transfer { to: moved(to)? },
        Act::Start { .. }
        | Act::Crash { .. }
        | Act::Doom { .. }
        | Act::Wake
        | Act::Sync { .. }
        | Act::Propose { .. }
        | Act::Read { .. }
        | Act::Compact { .. }
        | Act::SyncFailed
        | Act::DiskFault { .. }
        | Act::Kill
        | Act::Lie
        | Act::OwnUp
        | Act::Damage { .. }
        | Act::Wipe
        | Act::Full
        | Act::Room
        | Act::Repaired => act,
    })
}

/// The same without a member and all that others have to do with it; `None` if nobody would vote.
fn without_seat(script: &Script, gone: usize) -> Option<Script> {
    let mut other = script.clone();
    if gone >= script.voters {
        other.learners = script.learners.checked_sub(1)?;
    } else {
        other.voters = script.voters.checked_sub(1).filter(|voters| *voters > 0)?;
    }
    let below = (0..gone).fold(0_u8, |set, seat| set | 1 << seat);
    let squeeze = |set: u8| set & below | set >> 1 & !below;
    (other.prompt, other.spare) = (squeeze(script.prompt), squeeze(script.spare));
    let fit = |taped: &Taped| {
        let seat = (taped.seat != gone).then_some(taped.seat - usize::from(taped.seat > gone))?;
        Some(Taped { seat, act: without(taped.act, gone)?, ..*taped })
    };
    other.tape = script.tape.iter().filter_map(fit).collect();
    Some(other)
}

/// Cuts a failing script down.
pub(super) fn shrink(mut script: Script) -> Script {
    let mut cutter = Cutter { left: CALLS_MAX, reading: Reading::Literal };
    // A log that is cut to nothing tells the same story with fewer entries.
    let mut cut = script.clone();
    for taped in &mut cut.tape {
        if matches!(taped.act, Act::Compact { .. }) {
            taped.act = plain(taped.act);
        }
    }
    cutter.adopt(&mut script, cut);
    cutter.drop_calls(&mut script);
    loop {
        let before = (script.tape.len(), script.members(), script.prompt);
        for reading in [Reading::Free, Reading::Literal] {
            cutter.reading = reading;
            cutter.hurry_disks(&mut script);
            cutter.drop_members(&mut script);
            cutter.plain(&mut script);
            cutter.drop_calls(&mut script);
        }
        cutter.reading = Reading::Free;
        for (count, longest) in TOGETHER_MAX {
            if script.tape.len() <= longest {
                cutter.drop_together(&mut script, count);
            }
        }
        if (script.tape.len(), script.members(), script.prompt) == before || cutter.left == 0 {
            return script;
        }
    }
}

/// The script with a remark for people behind each call.
pub(super) fn text(script: &Script) -> String {
    let told = tell_script(script);
    let end = told.failure.map_or(String::new(), |failure| format!("# => {failure}\n"));
    script.head() + &told.lines.join("\n") + "\n" + &end
}

/// What a member is, in one line.
fn state(world: &World, seat: usize) -> String {
    world.view(seat).map_or_else(
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
    )
}

/// Plays a script, and tells each call and what the member is then.
pub(super) fn tell_script(script: &Script) -> Told {
    let mut stage = Stage::new(script, Reading::Literal);
    stage.recorder = Some(Recorder::of_script(script));
    let (mut lines, mut failure) = (Vec::new(), None);
    for call in &script.tape {
        let broken = match stage.play_safely(call) {
            Ok(None) => continue,
            Ok(Some(_)) => None,
            Err((_, conviction)) => Some(conviction),
        };
        let what = format!("{} | {}", script::line(call), words::act(&call.act));
        lines.push(format!("{what:<90} | {}", state(&stage.world, call.seat)));
        if broken.is_some() {
            failure = broken;
            break;
        }
    }
    let end = lines.len() as u64;
    let recorder = stage.recorder.take();
    let trace = recorder.map(|recorder| recorder.end(end, failure.as_ref())).unwrap_or_default();
    Told { lines, failure, trace }
}

/// Runs a plan, and tells its mishaps.
pub(super) fn tell_plan(draft: &Draft) -> Told {
    let plan = draft.plan();
    let recorder = Some(Recorder::new(&plan, Unit::Nanoseconds, None));
    let (outcome, watch) = run_plan(&plan, Watch { tape: None, recorder });
    let line = |at: u64, what: &str| format!("{:>9} ms  {what}", at / 1_000_000);
    let mut lines: Vec<String> = plan
        .mishaps
        .iter()
        .map(|planned| line(planned.at, &words::mishap(&planned.mishap)))
        .collect();
    let well = (0..plan.members()).filter(|seat| plan.healthy >> seat & 1 == 1);
    let well: Vec<String> = well.map(|seat| id_of(seat).to_string()).collect();
    lines.push(line(plan.safety_ns, &format!("only {} are well", well.join(","))));
    let failure = outcome.failure;
    let end = |recorder: Recorder| recorder.end(outcome.simulated_ns, failure.as_ref());
    let trace = watch.recorder.map(end).unwrap_or_default();
    Told { lines, failure, trace }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_comes_once() {
        let mut chosen = vec![0, 1];
        let mut seen = vec![chosen.clone()];
        while advance(&mut chosen, 4) {
            seen.push(chosen.clone());
        }
        assert_eq!(seen, [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]);
    }
}
