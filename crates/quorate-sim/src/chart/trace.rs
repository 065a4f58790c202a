//! What is drawn: events, in plain words and numbers.

use super::EVENTS_MAX;

/// The part that a member plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its process does not run.
    Down,
    /// It follows, or waits.
    Follower,
    /// It asks whether it would win an election.
    PreCandidate,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Delivered,
    /// A further copy of one that arrived, or will, arrives.
    Again,
    /// It does not arrive.
    Lost,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From now on the member plays this part, in this term.
    State(Role, u64),
    /// A message goes from the member to the peer; it leaves at `at` and arrives at `until`.
    Message(Fate),
    /// The member learns that more is committed.
    Commit,
    /// A client, or an operator, asks the member for something.
    Call,
    /// The member's disk, its log or its state changes.
    Disk,
    /// Something goes wrong, until `until`: with the member, or, without one, with the network or the whole group.
    Fault,
    /// A broken property is seen, and the run is over.
    Broken,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in the trace's unit.
    pub at: u64,
    /// When it is over; the same as `at` for what takes no time, `u64::MAX` for what does not end.
    pub until: u64,
    /// What kind of thing it is.
    pub kind: Kind,
    /// The lane of the member it happens at; for a message, of the sender.
    pub member: Option<usize>,
    /// For a message, the lane of the receiver.
    pub peer: Option<usize>,
    /// A few words.
    pub text: String,
    /// It happens all the time, such as a sign of life, and may be hidden.
    pub minor: bool,
}

impl Event {
    /// Something that happens at a moment.
    pub fn at(at: u64, kind: Kind) -> Self {
        Self { at, until: at, kind, member: None, peer: None, text: String::new(), minor: false }
    }

    /// The same, at this member.
    #[must_use]
    pub fn of(self, member: usize) -> Self {
        Self { member: Some(member), ..self }
    }

    /// The same, to this peer.
    #[must_use]
    pub fn to(self, peer: usize) -> Self {
        Self { peer: Some(peer), ..self }
    }

    /// The same, over at this moment, or at once if that is before it began.
    #[must_use]
    pub fn until(self, until: u64) -> Self {
        Self { until: until.max(self.at), ..self }
    }

    /// The same, with a text.
    #[must_use]
    pub fn says(self, text: impl Into<String>) -> Self {
        Self { text: text.into(), ..self }
    }

    /// The same, as one of many.
    #[must_use]
    pub fn minor(self, minor: bool) -> Self {
        Self { minor, ..self }
    }
}

/// What time is counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds from the start of the run.
    #[default]
    Nanoseconds,
    /// Steps of a script.
    Steps,
}

/// A run, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// What it is.
    pub title: String,
    /// The members' names.
    pub lanes: Vec<String>,
    /// What time is counted in.
    pub unit: Unit,
    /// What happens, in any order.
    pub events: Vec<Event>,
}

impl Trace {
    /// Nothing has happened yet to these members.
    pub fn new(
        title: impl Into<String>,
        lanes: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let lanes = lanes.into_iter().map(Into::into).collect();
        Self { title: title.into(), lanes, ..Self::default() }
    }

    /// Writes an event down.
    pub fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    /// The last moment at which something begins.
    pub fn end(&self) -> u64 {
        self.events.iter().map(|event| event.at).max().unwrap_or(0)
    }
}

/// A part of a trace's time, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub from: u64,
    /// The last one.
    pub to: u64,
}

impl Window {
    /// The part of a trace that a chart can show whole: the last one, if the trace ends with something broken, and otherwise the first.
    pub fn of(trace: &Trace) -> Self {
        let mut moments: Vec<u64> = trace.events.iter().map(|event| event.at).collect();
        moments.sort_unstable();
        let end = moments.last().copied().unwrap_or(0);
        if moments.len() <= EVENTS_MAX {
            return Self { from: 0, to: end };
        }
        if trace.events.iter().any(|event| event.kind == Kind::Broken) {
            let first = moments.get(moments.len() - EVENTS_MAX / 2).copied();
            return Self { from: first.unwrap_or(0), to: end };
        }
        Self { from: 0, to: moments.get(EVENTS_MAX / 2).copied().unwrap_or(end) }
    }

    /// Whether an event is, at least in part, within.
    pub(super) fn shows(self, event: &Event) -> bool {
        event.at <= self.to && event.until >= self.from
    }
}
