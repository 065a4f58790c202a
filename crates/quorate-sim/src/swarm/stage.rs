//! Plays a script: a world, and what is on its way in it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_raft::{Core, Mono, NodeId};

use super::calls::{garbled, perform};
use super::plan::MEMBERS_MAX;
use super::record::Recorder;
use super::script::Script;
use super::tape::{Act, Mark, Taped};
use super::words;
use crate::chart::Fate;
use crate::mutants::driver;
use crate::world::{Conviction, Input, Judge, Parcel, World, id_of};

/// How literally calls are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As they stand: a message of another term is another message, and whoever wakes too early sleeps on.
    Literal,
    /// As they are meant: a message stands for its kind, and whoever wakes wakes at the next deadline.
    Free,
}

/// What became of a script.
#[derive(Debug)]
pub(crate) struct Played {
    /// The calls that made sense, as they were made, up to the failure.
    pub(crate) tape: Vec<Taped>,
    /// What broke.
    pub(crate) failure: Option<Conviction>,
}

/// A message, and how often it was delivered.
#[derive(Debug)]
struct Flying {
    parcel: Parcel,
    mark: Mark,
    delivered: u32,
    sent: u64,
}

/// A script being played.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) world: World,
    script: &'a Script,
    reading: Reading,
    /// By sender, receiver and kind, in the order in which they were sent.
    pool: BTreeMap<(NodeId, NodeId, usize), Vec<Flying>>,
    clocks: [Mono; MEMBERS_MAX],
    calls: u64,
    pub(crate) recorder: Option<Recorder>,
}

/// Plays these calls in the world of a script.
pub(crate) fn play(script: &Script, calls: &[Taped], reading: Reading) -> Played {
    let mut stage = Stage::new(script, reading);
    let mut tape = Vec::with_capacity(calls.len());
    for call in calls {
        match stage.play_safely(call) {
            Ok(None) => {}
            Ok(Some(made)) => tape.push(made),
            Err((made, failure)) => {
                tape.push(made);
                return Played { tape, failure: Some(failure) };
            }
        }
    }
    Played { tape, failure: None }
}

impl<'a> Stage<'a> {
    pub(crate) fn new(script: &'a Script, reading: Reading) -> Self {
        Self {
            world: script.world(),
            script,
            reading,
            pool: BTreeMap::new(),
            clocks: [Mono(0); MEMBERS_MAX],
            calls: 0,
            recorder: None,
        }
    }

    /// Makes a call. Says how it was made; `None`: it made no sense. Fails with the call that broke a property.
    pub(crate) fn play_safely(
        &mut self,
        call: &Taped,
    ) -> Result<Option<Taped>, (Taped, Conviction)> {
        let mut made = Taped { now: self.time_of(call), ..*call };
        match catch_unwind(AssertUnwindSafe(|| self.play(&mut made))) {
            Ok(Ok(sense)) => Ok(sense.then_some(made)),
            Ok(Err(conviction)) => Err((made, conviction)),
            Err(_) => Err((made, Conviction::new(Judge::Panic, "the code under test panicked"))),
        }
    }

    /// When a call is made: its member's clock does not go back.
    fn time_of(&self, call: &Taped) -> Mono {
        let before = self.clocks.get(call.seat).copied().unwrap_or_default();
        let wakes = self.reading == Reading::Free && call.act == Act::Wake;
        let member = self.world.members.get(call.seat).filter(|_| wakes);
        let due = member.and_then(|member| member.core.as_ref()).and_then(Core::next_deadline);
        due.unwrap_or(call.now).max(before)
    }

    fn play(&mut self, made: &mut Taped) -> Result<bool, Conviction> {
        let seat = made.seat;
        let starts = matches!(made.act, Act::Start { .. });
        let fits = made.act.is_of_disk() || starts != self.world.running(seat).is_some();
        if !fits || !self.possible(made) {
            return Ok(false);
        }
        if let Act::Deliver { from, mark } = made.act {
            let Some((parcel, mark)) = self.take(from, seat, mark) else { return Ok(false) };
            self.begin(made);
            made.act = Act::Deliver { from, mark };
            let input = Input::Arrival { from: parcel.from, body: parcel.body };
            self.world.step(seat, made.now, input)?;
        } else {
            self.begin(made);
            perform(&mut self.world, seat, made.now, &made.act)?;
        }
        self.settle(seat, made.now)?;
        Ok(true)
    }

    fn begin(&mut self, made: &Taped) {
        self.calls += 1;
        if let Some(clock) = self.clocks.get_mut(made.seat) {
            *clock = made.now;
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.act(self.calls, made.seat, &made.act);
        }
    }

    /// Makes writes durable where that takes no time, and takes what was sent.
    fn settle(&mut self, seat: usize, now: Mono) -> Result<(), Conviction> {
        while self.script.prompt >> seat & 1 == 1 {
            let waiting = self.world.running(seat).map_or(0, |member| member.disk.queue.len());
            if waiting == 0 {
                break;
            }
            self.world.sync(seat, waiting, now)?;
        }
        for parcel in self.world.outbox.drain(..) {
            let mark = Mark::of(&parcel.body);
            let key = (parcel.from, parcel.to, mark.kind);
            let flying = Flying { parcel, mark, delivered: 0, sent: self.calls };
            self.pool.entry(key).or_default().push(flying);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.state(self.calls, seat, self.world.view(seat));
        }
        Ok(())
    }

    /// Reports of what never happened would be lies of the driver.
    fn possible(&self, taped: &Taped) -> bool {
        match taped.act {
            Act::SnapshotSent { to, last } => self.world.view(taped.seat).is_some_and(|view| {
                last.is_none_or(|last| last.index <= view.last.index) && to != taped.seat
            }),
            Act::Sync { .. } => {
                self.world.running(taped.seat).is_some_and(|member| !member.disk.queue.is_empty())
            }
            Act::Start { .. }
            | Act::Crash { .. }
            | Act::Doom { .. }
            | Act::Wake
            | Act::Deliver { .. }
            | Act::Propose { .. }
            | Act::Read { .. }
            | Act::Compact { .. }
            | Act::SyncFailed
            | Act::DiskFault { .. }
            | Act::Repaired
            | Act::Unreachable { .. }
            | Act::Transfer { .. }
            | Act::Kill
            | Act::Lie
            | Act::OwnUp
            | Act::Damage { .. }
            | Act::Wipe
            | Act::Full
            | Act::Room => true,
        }
    }

    /// The message on this link that is most like the one on the tape; one that was not delivered yet, if there is one.
    fn take(&mut self, from: usize, to: usize, mark: Mark) -> Option<(Parcel, Mark)> {
        let alike = self.pool.get_mut(&(id_of(from), id_of(to), mark.kind))?;
        let literal = self.reading == Reading::Literal;
        if self.script.mutant == driver::BAD_FRAME && alike.iter().all(|flying| flying.mark != mark)
        {
            let broken = alike.iter().map(|flying| garbled(&flying.parcel));
            if let Some(parcel) = broken.into_iter().find(|parcel| Mark::of(&parcel.body) == mark) {
                return Some((parcel, mark));
            }
        }
        let best = alike
            .iter_mut()
            .filter(|flying| !literal || flying.mark.term == mark.term)
            .min_by_key(|flying| {
                // Freely read, the newest is meant rather than one that is long out of date.
                let age = if literal { Reverse(0) } else { Reverse(flying.sent) };
                (flying.mark != mark, flying.mark.term != mark.term, flying.delivered, age)
            })?;
        best.delivered += 1;
        if let Some(recorder) = &mut self.recorder {
            let fate = if best.delivered > 1 { Fate::Again } else { Fate::Delivered };
            let what = (best.mark.kind, words::message(&best.parcel.body));
            recorder.message((best.sent, self.calls + 1), (from, to), fate, what);
        }
        Some((best.parcel.clone(), best.mark))
    }
}
