//! Writes a run down as a trace, for a chart.

use quorate_raft::{Role as CoreRole, View};

use super::plan::{MEMBERS_MAX, Plan};
use super::script::Script;
use super::tape::Act;
use super::words;
use crate::chart::{Event, Fate, Kind, Role, Trace, Unit, Window};
use crate::world::{Conviction, id_of};

/// What a member was when it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    role: Role,
    term: u64,
    commit: u64,
}

/// A trace that is being written.
#[derive(Debug)]
pub(crate) struct Recorder {
    trace: Trace,
    window: Option<Window>,
    seen: [Option<Seen>; MEMBERS_MAX],
}

fn bug(mutant: u16) -> String {
    if mutant == 0 { String::new() } else { format!(", mutant {mutant}") }
}

fn names(voters: usize, members: usize) -> impl Iterator<Item = String> {
    (0..members).map(move |seat| {
        format!("{} {}", if seat < voters { "node" } else { "learner" }, id_of(seat))
    })
}

fn role(role: CoreRole) -> Role {
    match role {
        CoreRole::Follower => Role::Follower,
        CoreRole::PreCandidate => Role::PreCandidate,
        CoreRole::Candidate => Role::Candidate,
        CoreRole::Leader => Role::Leader,
    }
}

impl Recorder {
    /// Records a run of a plan; with a window, only what is to be seen in it.
    pub(crate) fn new(plan: &Plan, unit: Unit, window: Option<Window>) -> Self {
        let title = format!("core world, seed {}{}", plan.seed, bug(plan.mutant));
        let trace = Trace { unit, ..Trace::new(title, names(plan.voters, plan.members())) };
        Self { trace, window, seen: [None; MEMBERS_MAX] }
    }

    /// Records a script; time is counted in its calls.
    pub(crate) fn of_script(script: &Script) -> Self {
        let title = format!("core world, a script{}", bug(script.mutant));
        let trace = Trace::new(title, names(script.voters, script.members()));
        let trace = Trace { unit: Unit::Steps, ..trace };
        Self { trace, window: None, seen: [None; MEMBERS_MAX] }
    }

    /// What was recorded, with how it ended.
    pub(crate) fn end(mut self, at: u64, failure: Option<&Conviction>) -> Trace {
        if let Some(conviction) = failure {
            self.trace.push(Event::at(at, Kind::Broken).says(conviction.to_string()));
        }
        self.trace
    }

    fn push(&mut self, event: Event) {
        if self.window.is_none_or(|window| event.at <= window.to && event.until >= window.from) {
            self.trace.push(event);
        }
    }

    /// What a member shows after a step; `None`: it is down.
    pub(crate) fn state(&mut self, at: u64, seat: usize, view: Option<View<'_>>) {
        let now = view.map_or(Seen { role: Role::Down, term: 0, commit: 0 }, |view| Seen {
            role: role(view.role),
            term: view.term.0,
            commit: view.commit.0,
        });
        let Some(slot) = self.seen.get_mut(seat) else { return };
        let before = slot.replace(now);
        let same = before.is_some_and(|seen| (seen.role, seen.term) == (now.role, now.term));
        let ran = before.filter(|seen| seen.role != Role::Down);
        if !same {
            // Bars reach into the window from before it.
            self.trace.push(Event::at(at, Kind::State(now.role, now.term)).of(seat));
        }
        if ran.is_some_and(|seen| seen.commit < now.commit) {
            self.push(Event::at(at, Kind::Commit).of(seat).says(format!("commit {}", now.commit)));
        }
    }

    /// A call that is not a message's arrival.
    pub(crate) fn act(&mut self, at: u64, seat: usize, act: &Act) {
        let kind = match act {
            Act::Wake | Act::Deliver { .. } | Act::Sync { count: 0 } => return,
            Act::Propose { .. } | Act::Read { .. } | Act::Transfer { .. } => Kind::Call,
            Act::Start { .. }
            | Act::Sync { .. }
            | Act::Compact { .. }
            | Act::Repaired
            | Act::OwnUp
            | Act::Room
            | Act::SnapshotSent { .. } => Kind::Disk,
            Act::Crash { .. }
            | Act::Doom { .. }
            | Act::SyncFailed
            | Act::DiskFault { .. }
            | Act::Kill
            | Act::Lie
            | Act::Damage { .. }
            | Act::Wipe
            | Act::Full
            | Act::Unreachable { .. } => Kind::Fault,
        };
        let seen = self.seen.get(seat).copied().flatten();
        let is_down = seen.is_none_or(|seen| seen.role == Role::Down);
        if is_down && !act.is_of_disk() && !matches!(act, Act::Start { .. }) {
            // Nobody is there to hear it.
            return;
        }
        self.push(Event::at(at, kind).of(seat).says(words::act(act)));
    }

    /// A message that left at `span.0` arrives at `span.1`, or does not.
    pub(crate) fn message(
        &mut self,
        span: (u64, u64),
        ends: (usize, usize),
        fate: Fate,
        (kind, text): (usize, String),
    ) {
        let minor = (4..=5).contains(&kind);
        let event = Event::at(span.0, Kind::Message(fate)).of(ends.0).to(ends.1).until(span.1);
        self.push(event.says(text).minor(minor));
    }

    /// Something goes wrong, with one member or with the whole group.
    pub(crate) fn fault(&mut self, seat: Option<usize>, span: (u64, u64), text: String) {
        let event = Event { member: seat, ..Event::at(span.0, Kind::Fault) };
        self.push(event.until(span.1).says(text));
    }
}
