//! Everything that was ever seen of one member, one message, or the past, each once, with a number.
//!
//! A world is then a few numbers, and what an input does to a member is worked out once, by the real core, and looked up ever
//! after: the core is a function, and there are far fewer members than worlds. Two members are the same when the words that
//! they write out are ([`Member::words`]).
//!
//! Nearly all of the time it is only read, by all threads at once. Whoever meets something new makes it learn that, and
//! then asks again.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use quorate_raft::{NodeId, ReadContext, ReadGrant, Role, Term, Timer};

use super::bound::{Bound, Bug};
use super::hash::{Prints, print_of, prints_of};
use super::member::{Input, Member, Parcel};
use super::parcel;
use super::past::Past;

/// The number of something in the universe.
pub(super) type Id = u32;

/// Hashes keys that are hashes already, or small numbers.
#[derive(Debug, Default)]
pub(super) struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = crate::dice::mix(self.0 ^ word);
    }

    fn write_u128(&mut self, print: u128) {
        self.0 = u64::try_from(print >> 64).unwrap_or(0);
    }
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mixed>>;

/// Terms of a log, four bits each, the first entry lowest; zero is no entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms(pub(super) u64);

impl Terms {
    pub(super) fn of(terms: impl IntoIterator<Item = Term>) -> Self {
        let shifted = terms.into_iter().zip((0..64).step_by(4));
        Self(shifted.fold(0, |packed, (term, shift)| packed | (term.0 & 15) << shift))
    }

    pub(super) fn len(self) -> u32 {
        (64 - self.0.leading_zeros()).div_ceil(4)
    }

    /// The first `count` entries.
    pub(super) fn first(self, count: u32) -> Self {
        Self(if count >= 16 { self.0 } else { self.0 & ((1 << (4 * count)) - 1) })
    }

    /// The term at a position, from 1; 0 where there is none.
    pub(super) fn at(self, index: u32) -> u64 {
        if index == 0 || index > 16 { 0 } else { self.0 >> (4 * (index - 1)) & 15 }
    }

    /// What "up-to-date" compares (Raft paper 5.4.1).
    pub(super) fn end(self) -> (u64, u32) {
        (self.at(self.len()), self.len())
    }

    /// How many entries agree from the start on.
    pub(super) fn common(self, other: Self) -> u32 {
        ((self.0 ^ other.0).trailing_zeros() / 4).min(self.len().min(other.len()))
    }
}

/// What the judges need of a member, at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Face {
    pub(super) term: u64,
    pub(super) leads: bool,
    /// Counts votes in its term.
    pub(super) stands: bool,
    /// Never again is it in a term below this one.
    pub(super) durable_term: u64,
    /// Knows a leader other than itself.
    pub(super) follows: bool,
    pub(super) commit: u32,
    pub(super) log: Terms,
    pub(super) disk: Terms,
    pub(super) unsynced: u8,
    /// A bit for each member that a snapshot is under way to.
    pub(super) sending: u8,
    /// Something of the log can be dropped.
    pub(super) can_compact: bool,
}

/// Why an action could not be looked up.
#[derive(Debug)]
pub(super) enum Halt {
    /// It breaks this rule.
    Broken(String),
    /// The universe must first learn this; then the same can be asked again.
    Lacks(Lack),
}

impl From<String> for Halt {
    fn from(what: String) -> Self {
        Self::Broken(what)
    }
}

/// What the universe has not seen yet.
#[derive(Debug)]
pub(super) enum Lack {
    /// What an act does to a member.
    Outcome(Id, Act),
    /// A past.
    Past(Past),
}

/// A member, seen once.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) member: Member,
    pub(super) face: Face,
    pub(super) prints: Prints,
}

/// What an input did to a member.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// The member now.
    pub(super) member: Id,
    /// The messages that left, in the universe's list.
    pub(super) sent: Range<u32>,
    /// The answers to reads, in the universe's list.
    pub(super) answers: Range<u32>,
    /// The member went beyond the bound.
    pub(super) outside: bool,
}

/// The answer to a read: at an index, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) context: u64,
    pub(super) index: Option<u64>,
}

/// Things by number, and their numbers by fingerprint.
#[derive(Debug)]
struct Catalog<T> {
    things: Vec<T>,
    numbers: Map<u128, Id>,
}

impl<T> Catalog<T> {
    fn new() -> Self {
        Self { things: Vec::new(), numbers: Map::default() }
    }

    fn number(&mut self, print: u128, thing: impl FnOnce() -> T) -> Id {
        let things = &mut self.things;
        *self.numbers.entry(print).or_insert_with(|| {
            things.push(thing());
            Id::try_from(things.len() - 1).unwrap_or(Id::MAX)
        })
    }

    fn get(&self, id: Id) -> Option<&T> {
        self.things.get(id as usize)
    }
}

/// All there is.
#[derive(Debug)]
pub(super) struct Universe {
    pub(super) bound: Bound,
    pub(super) bug: Bug,
    members: Catalog<Local>,
    parcels: Catalog<(Parcel, Prints)>,
    pasts: Catalog<(Past, Prints)>,
    outcomes: Map<u64, Outcome>,
    sent: Vec<Id>,
    answers: Vec<Answer>,
}

/// An input, with its message by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Deliver { parcel: Id, silent: bool },
    Fire(Timer),
    Propose,
    Read(u64),
    Synced,
    Crash(u8),
    Unreachable(NodeId),
    Compact,
    Sent { to: NodeId, failed: bool },
}

impl Act {
    /// Different for different acts.
    fn code(self) -> u64 {
        match self {
            Self::Deliver { parcel, silent } => u64::from(parcel) << 1 | u64::from(silent),
            Self::Fire(timer) => 0xf000_0000 + timer as u64,
            Self::Propose => 0xf100_0000,
            Self::Read(context) => 0xf200_0000 + context,
            Self::Synced => 0xf300_0000,
            Self::Crash(kept) => 0xf400_0000 + u64::from(kept),
            Self::Unreachable(node) => 0xf500_0000 + node.0,
            Self::Compact => 0xf600_0000,
            Self::Sent { to, failed } => 0xf700_0000 + 2 * to.0 + u64::from(failed),
        }
    }
}

/// What can't happen unless this module is wrong.
fn unknown() -> String {
    "the explorer lost a part of the world".to_owned()
}

impl Universe {
    pub(super) fn new(bound: Bound, bug: Bug) -> Self {
        Self {
            bound,
            bug,
            members: Catalog::new(),
            parcels: Catalog::new(),
            pasts: Catalog::new(),
            outcomes: Map::default(),
            sent: Vec::new(),
            answers: Vec::new(),
        }
    }

    pub(super) fn local(&self, id: Id) -> Result<&Local, String> {
        self.members.get(id).ok_or_else(unknown)
    }

    pub(super) fn face(&self, id: Id) -> Result<&Face, String> {
        self.local(id).map(|local| &local.face)
    }

    pub(super) fn parcel(&self, id: Id) -> Result<&(Parcel, Prints), String> {
        self.parcels.get(id).ok_or_else(unknown)
    }

    pub(super) fn past(&self, id: Id) -> Result<&(Past, Prints), String> {
        self.pasts.get(id).ok_or_else(unknown)
    }

    pub(super) fn sent(&self, range: &Range<u32>) -> &[Id] {
        self.sent.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    pub(super) fn answers(&self, range: &Range<u32>) -> &[Answer] {
        self.answers.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    /// How many different members, messages and steps were seen.
    pub(super) fn counts(&self) -> [usize; 3] {
        [self.members.things.len(), self.parcels.things.len(), self.outcomes.len()]
    }

    pub(super) fn member_id(&mut self, member: Member) -> Id {
        let prints = prints_of(1, |renaming, out| member.words(renaming, out));
        self.members.number(prints[0], || Local { face: face_of(&member), member, prints })
    }

    /// The number of a past that was seen before.
    pub(super) fn past_known(&self, past: Past) -> Result<Id, Halt> {
        let mut words = Vec::new();
        past.words(0, &mut words);
        let known = self.pasts.numbers.get(&print_of(3, &words));
        known.copied().ok_or(Halt::Lacks(Lack::Past(past)))
    }

    pub(super) fn past_id(&mut self, past: Past) -> Id {
        let prints = prints_of(3, |renaming, out| past.words(renaming, out));
        self.pasts.number(prints[0], || (past, prints))
    }

    fn parcel_id(&mut self, parcel: Parcel) -> Id {
        let prints = prints_of(2, |renaming, out| parcel::words(&parcel, renaming, out));
        self.parcels.number(prints[0], || (parcel, prints))
    }

    /// What an act does to a member, if that was worked out before.
    pub(super) fn outcome(&self, member: Id, act: Act) -> Result<&Outcome, Halt> {
        self.outcomes.get(&key_of(member, act)).ok_or(Halt::Lacks(Lack::Outcome(member, act)))
    }

    /// Takes in what was asked for and not known.
    ///
    /// # Errors
    /// Says which rule the member broke.
    pub(super) fn learn(&mut self, lack: Lack) -> Result<(), String> {
        match lack {
            Lack::Past(past) => {
                self.past_id(past);
            }
            Lack::Outcome(member, act) => {
                let outcome = self.work_out(member, act)?;
                self.outcomes.insert(key_of(member, act), outcome);
            }
        }
        Ok(())
    }

    /// An act as a member takes it.
    fn input(&self, act: Act) -> Result<Input<'_>, String> {
        Ok(match act {
            Act::Deliver { parcel, silent } => {
                Input::Deliver { parcel: &self.parcel(parcel)?.0, silent }
            }
            Act::Fire(timer) => Input::Fire(timer),
            Act::Propose => Input::Propose,
            Act::Read(context) => Input::Read(ReadContext(context)),
            Act::Synced => Input::Synced,
            Act::Crash(kept) => Input::Crash { kept: usize::from(kept) },
            Act::Unreachable(node) => Input::Unreachable(node),
            Act::Compact => Input::Compact,
            Act::Sent { to, failed } => Input::Sent { to, failed },
        })
    }

    /// The member that an act makes, whatever rules that breaks; `None` if the act can't be done at all.
    pub(super) fn advance(&self, id: Id, act: Act) -> Result<Option<Member>, String> {
        let member = &self.local(id)?.member;
        let stepped = member.advance(self.input(act)?, self.bug);
        Ok(stepped.ok().map(|(stepped, _)| stepped.member))
    }

    fn work_out(&mut self, id: Id, act: Act) -> Result<Outcome, String> {
        let stepped = self.local(id)?.member.step(self.input(act)?, self.bug)?;
        let view = stepped.member.core().view();
        let outside =
            view.term.0 > self.bound.term_max || stepped.member.log().len() > self.bound.log_max;
        let granted =
            |grant: &ReadGrant| Answer { context: grant.context.0, index: Some(grant.index.0) };
        let dropped = |context: &ReadContext| Answer { context: context.0, index: None };
        let first = self.answers.len();
        self.answers.extend(stepped.grants.iter().map(granted));
        self.answers.extend(stepped.dropped.iter().map(dropped));
        let answers = range_of(first, self.answers.len());
        let first = self.sent.len();
        for parcel in stepped.sent {
            let parcel = self.parcel_id(parcel);
            self.sent.push(parcel);
        }
        let sent = range_of(first, self.sent.len());
        let member = if outside { id } else { self.member_id(stepped.member) };
        Ok(Outcome { member, sent, answers, outside })
    }
}

fn key_of(member: Id, act: Act) -> u64 {
    u64::from(member) << 32 | act.code()
}

fn range_of(first: usize, end: usize) -> Range<u32> {
    u32::try_from(first).unwrap_or(u32::MAX)..u32::try_from(end).unwrap_or(u32::MAX)
}

fn face_of(member: &Member) -> Face {
    let view = member.core().view();
    Face {
        term: view.term.0,
        leads: view.role == Role::Leader,
        stands: view.role == Role::Candidate,
        durable_term: member.disk_term().0,
        follows: view.leader.is_some_and(|leader| leader != view.id),
        commit: u32::try_from(view.commit.0).unwrap_or(u32::MAX),
        log: Terms::of(member.log().iter().copied()),
        disk: Terms::of(member.disk_log().iter().copied()),
        unsynced: u8::try_from(member.unsynced()).unwrap_or(u8::MAX),
        sending: member.sending(),
        can_compact: member.can_compact(),
    }
}
