//! What must hold after every step of a world of servers.
//!
//! | Judge | What |
//! |---|---|
//! | election safety | one leader in a term |
//! | disk monotony | term and commit of a running member never go back; what it told to be durable is there after a crash |
//! | durable quorum | what anybody knows to be committed lies on a quorum's disks |
//! | log and state agree | the log's entry at a member's applied index has the term of the entry that was applied |
//! | state machine safety | the same applied index shows the same state, every revision the same events, whoever applied it |

use std::collections::BTreeMap;

use quorate_check::etcd::RevisionEvents;
use quorate_kv::{ReadError, Reader, RequestError};
use quorate_raft::{Index, NodeId, Role, View};

use super::{member::Member, wire};
use crate::world::{Conviction, Judge};

/// The states that are compared in full: one in this many applied entries.
const HASH_EVERY: u64 = 16;
/// How many bytes of events are looked at in one go.
const EVENTS_BYTES: usize = 1 << 20;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Witness {
    leaders: BTreeMap<u64, usize>,
    seen: Vec<Seen>,
    /// The end of what anybody knew to be committed.
    committed: u64,
    /// What stood after an entry: its term, the revisions, and now and then a hash.
    states: BTreeMap<u64, State>,
    hashes: BTreeMap<u64, u32>,
    /// Every revision, as the first who applied it did.
    revisions: Vec<RevisionEvents>,
}

type State = (u64, i64, i64);

/// What a member has told to be durable: the end of its log, its term, its vote.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) durable: u64,
    pub(super) term: u64,
    pub(super) vote: Option<NodeId>,
}

/// What was last seen of a member.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    boot: u64,
    term: u64,
    commit: u64,
    durable: u64,
    last_term: u64,
    vote: Option<NodeId>,
    applied: u64,
    revision: i64,
}

impl Witness {
    pub(super) fn new(members: usize) -> Self {
        Self { seen: vec![Seen::default(); members], ..Self::default() }
    }

    /// Every revision from an empty store on.
    pub(super) fn revisions(&self) -> &[RevisionEvents] {
        &self.revisions
    }

    /// How many leaders there were.
    pub(super) fn leaders(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// The end of what is committed.
    pub(super) fn committed(&self) -> u64 {
        self.committed
    }

    /// What a member has told to be durable.
    pub(super) fn told(&self, member: usize) -> Told {
        let seen = self.seen.get(member).copied().unwrap_or_default();
        Told { durable: seen.durable, term: seen.term, vote: seen.vote }
    }

    /// Looks at a member after it did something. One that is `excused` may be unreadable: its disk was told to fail.
    ///
    /// # Errors
    /// What it broke.
    pub(super) fn look(&mut self, member: &Member, excused: bool) -> Result<(), Conviction> {
        let Some(running) = &member.running else { return Ok(()) };
        if let Some(view) = running.raft.view() {
            self.look_at_log(member, &view)?;
        }
        look_at_both(member)?;
        match self.look_at_state(member) {
            Err(Look::Unreadable(_)) if excused => Ok(()),
            looked => looked.map_err(Look::into_conviction),
        }
    }

    fn look_at_log(&mut self, member: &Member, view: &View<'_>) -> Result<(), Conviction> {
        let (number, boot) = (member.number, member.boots);
        let Some(seen) = self.seen.get_mut(number) else { return Ok(()) };
        let (term, commit, durable) = (view.term.0, view.commit.0, view.durable.0);
        if seen.boot != boot {
            let (had, has) = (seen.durable, view.last.index.0);
            // A later leader may have replaced what this member did not know to be committed, in the very step in which it
            // died. Within a term nothing is ever replaced.
            let is_kept = has >= had.min(seen.commit) && view.last.term.0 != seen.last_term;
            hold(has >= had || is_kept, Judge::DiskMonotony, || {
                format!("member {number} told that {had} is durable and starts again with {has}")
            })?;
            *seen = Seen { boot, term, commit, durable, ..Seen::default() };
        }
        hold(term >= seen.term && commit >= seen.commit, Judge::DiskMonotony, || {
            let before = (seen.term, seen.commit);
            format!("member {number} goes from {before:?} back to {:?}", (term, commit))
        })?;
        (seen.term, seen.commit, seen.durable) = (term, commit, durable);
        (seen.last_term, seen.vote) = (view.last.term.0, view.vote);
        if view.role == Role::Leader {
            let leader = *self.leaders.entry(term).or_insert(number);
            hold(leader == number, Judge::ElectionSafety, || {
                format!("members {leader} and {number} lead term {term}")
            })?;
        }
        self.look_at_quorum(commit)
    }

    fn look_at_quorum(&mut self, commit: u64) -> Result<(), Conviction> {
        if commit <= self.committed {
            return Ok(());
        }
        self.committed = commit;
        let holders = self.seen.iter().filter(|seen| seen.durable >= commit).count();
        hold(holders > self.seen.len() / 2, Judge::DurableQuorum, || {
            format!("{commit} is committed and durable at {holders} of {}", self.seen.len())
        })
    }

    fn look_at_state(&mut self, member: &Member) -> Result<(), Look> {
        let Some(reader) = member.reader() else { return Ok(()) };
        let Some(seen) = self.seen.get_mut(member.number) else { return Ok(()) };
        let (number, applied) = (member.number, reader.applied());
        if applied.index == seen.applied {
            return Ok(());
        }
        hold(applied.index > seen.applied, Judge::StateMachineSafety, || {
            format!("member {number} goes from entry {} back to {}", seen.applied, applied.index)
        })?;
        seen.applied = applied.index;
        let state = (applied.term, reader.revision(), reader.compact_revision());
        let known = *self.states.entry(applied.index).or_insert(state);
        hold(known == state, Judge::StateMachineSafety, || {
            format!("after {} somebody saw {known:?}, member {number} {state:?}", applied.index)
        })?;
        let from = std::mem::replace(&mut seen.revision, reader.revision());
        self.look_at_revisions(number, from, &reader)?;
        if applied.index.is_multiple_of(HASH_EVERY) {
            self.look_at_hash(number, &reader)?;
        }
        Ok(())
    }

    /// Compares the whole state with what others showed after the same entry.
    ///
    /// # Errors
    /// They differ.
    pub(super) fn look_at_hash(&mut self, member: usize, reader: &Reader) -> Result<(), Look> {
        let index = reader.applied().index;
        let hash = reader.hash_kv(0)?.hash;
        let known = *self.hashes.entry(index).or_insert(hash);
        hold(known == hash, Judge::StateMachineSafety, || {
            format!("the state after {index} is {known:08x}, but {hash:08x} at member {member}")
        })?;
        Ok(())
    }

    /// Compares the revisions that a member has applied since it was last seen.
    fn look_at_revisions(&mut self, member: usize, from: i64, reader: &Reader) -> Result<(), Look> {
        let mut next = (from + 1).max(reader.compact_revision() + 1).max(2);
        while next <= reader.revision() {
            let events = match reader.events(next, 256, EVENTS_BYTES) {
                Ok(events) => events,
                Err(ReadError::Request(RequestError::Compacted)) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let Some(last) = events.last() else { break };
            next = last.revision + 1;
            for one in &events {
                self.compare_revision(member, wire::revision_events(one))?;
            }
        }
        Ok(())
    }

    fn compare_revision(&mut self, member: usize, one: RevisionEvents) -> Result<(), Conviction> {
        let place = usize::try_from(one.revision - 2).unwrap_or(usize::MAX);
        if let Some(known) = self.revisions.get(place) {
            return hold(*known == one, Judge::StateMachineSafety, || {
                format!("revision {} was {known:?}, at member {member} {one:?}", one.revision)
            });
        }
        let expected = self.revisions.len();
        hold(place == expected, Judge::Contract, || {
            format!("revision {} is seen before {}", one.revision, expected + 2)
        })?;
        self.revisions.push(one);
        Ok(())
    }
}

/// Compares the last applied entry with the log's at the same index, where the log still has it.
fn look_at_both(member: &Member) -> Result<(), Conviction> {
    let Some(applied) = member.reader().map(|reader| reader.applied()) else { return Ok(()) };
    let raft = member.running.as_ref().map(|running| &running.raft);
    let found = raft.and_then(|raft| raft.term_at(Index(applied.index)));
    hold(found.is_none_or(|found| found.0 == applied.term), Judge::StateMachineSafety, || {
        let (number, index, term) = (member.number, applied.index, applied.term);
        format!(
            "member {number} has applied entry {index} of term {term}, its log has {found:?} there"
        )
    })
}

/// What a look at a state comes to, if it is not good.
#[derive(Debug)]
pub(super) enum Look {
    /// The disk doesn't give it.
    Unreadable(ReadError),
    Broken(Conviction),
}

impl Look {
    /// Nobody is excused.
    pub(super) fn into_conviction(self) -> Conviction {
        match self {
            Self::Unreadable(error) => {
                Conviction::new(Judge::Contract, format!("a state can't be read: {error}"))
            }
            Self::Broken(conviction) => conviction,
        }
    }
}

impl From<ReadError> for Look {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error)
    }
}

impl From<Conviction> for Look {
    fn from(conviction: Conviction) -> Self {
        Self::Broken(conviction)
    }
}

fn hold(holds: bool, judge: Judge, detail: impl FnOnce() -> String) -> Result<(), Conviction> {
    if holds { Ok(()) } else { Err(Conviction::new(judge, detail())) }
}
