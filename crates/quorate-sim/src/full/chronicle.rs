//! A run as people want to see it, written down only when somebody asked for it.

use quorate_node::PeerMessage;
use quorate_raft::{Role as RaftRole, View};

use crate::chart::{Event, Fate, Kind, Role, Trace};

/// Writes down what happens, or nothing.
#[derive(Debug, Default)]
pub(super) struct Chronicle {
    trace: Option<Trace>,
    last: Vec<(Role, u64, u64)>,
}

impl Chronicle {
    /// One that writes.
    pub(super) fn writing(title: String, members: usize) -> Self {
        let lanes = (0..members).map(|number| format!("m{number}"));
        Self { trace: Some(Trace::new(title, lanes)), last: vec![(Role::Down, 0, 0); members] }
    }

    /// What was written.
    pub(super) fn into_trace(self) -> Trace {
        self.trace.unwrap_or_default()
    }

    /// What a member looks like now.
    pub(super) fn note(&mut self, now: u64, member: usize, view: &View<'_>) {
        let Some(trace) = &mut self.trace else { return };
        let role = match view.role {
            RaftRole::Leader => Role::Leader,
            RaftRole::Candidate => Role::Candidate,
            RaftRole::PreCandidate => Role::PreCandidate,
            RaftRole::Follower => Role::Follower,
        };
        let (term, commit) = (view.term.0, view.commit.0);
        let Some(last) = self.last.get_mut(member) else { return };
        if (last.0, last.1) != (role, term) {
            trace.push(Event::at(now, Kind::State(role, term)).of(member));
        }
        if last.2 != commit {
            trace.push(Event::at(now, Kind::Commit).of(member).says(format!("{commit}")));
        }
        *last = (role, term, commit);
    }

    /// A message leaves.
    pub(super) fn message(
        &mut self,
        now: u64,
        (from, to): (usize, usize),
        message: &PeerMessage,
        arrivals: &[u64],
    ) {
        let Some(trace) = &mut self.trace else { return };
        let text = format!("{message:?}");
        let words: String = text.chars().take(60).collect();
        let event = |fate, until| {
            let event = Event::at(now, Kind::Message(fate)).of(from).to(to).until(until);
            event.says(words.clone()).minor(message.is_urgent())
        };
        match arrivals.split_first() {
            None => trace.push(event(Fate::Lost, now)),
            Some((first, again)) => {
                trace.push(event(Fate::Delivered, *first));
                trace.events.extend(again.iter().map(|at| event(Fate::Again, *at)));
            }
        }
    }

    /// A process is gone.
    pub(super) fn crash(&mut self, now: u64, member: usize) {
        if let Some(trace) = &mut self.trace {
            trace.push(Event::at(now, Kind::State(Role::Down, 0)).of(member));
        }
        if let Some(last) = self.last.get_mut(member) {
            *last = (Role::Down, 0, 0);
        }
    }

    /// Something goes wrong, or ends.
    pub(super) fn fault(
        &mut self,
        now: u64,
        member: Option<usize>,
        text: String,
        until: Option<u64>,
    ) {
        let Some(trace) = &mut self.trace else { return };
        let event = Event::at(now, Kind::Fault).until(until.unwrap_or(now)).says(text);
        trace.push(Event { member, ..event });
    }

    /// The run ends with something broken.
    pub(super) fn broken(&mut self, now: u64, text: String) {
        if let Some(trace) = &mut self.trace {
            trace.push(Event::at(now, Kind::Broken).says(text));
        }
    }
}
