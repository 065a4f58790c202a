//! What must hold of all members together, looked at after every step of any of them.
//!
//! All checks are incremental: a step costs what it changed. What is remembered of the past is indexed by position, term or
//! proposal, so that a check is an array access.
//!
//! Three of them are stronger than the Raft paper's figure 3 and find most bugs before harm is done: *nothing is said before what
//! it promises is durable* (looked at when a message leaves), *a committed entry lies on a quorum's durable logs* (when it is
//! first committed, and whenever a disk replaces one), and *a read sees all that was committed anywhere when it began*.
//!
//! Quorums are counted here by itself, not by the core's arithmetic. Left out: changes of membership.

use std::collections::BTreeMap;

use quorate_raft::{
    EntryId, EntryRange, HardState, Index, Message, NodeId, Past, ReadGrant, Role, Term,
};

use super::conviction::{Conviction, Judge as Property, hold};
use super::disk::{Image, Snapshot, Write};
use super::entry::Entry;
use super::member::{Member, Wire, acknowledged_index};
use crate::dice::mix;

/// What is known of an entry id: its content, and the term before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variant {
    term: Term,
    payload: u64,
    before: Term,
}

/// One committed position.
#[derive(Clone, Copy, Debug)]
struct Committed {
    term: Term,
    payload: u64,
    state: u64,
    /// The term of the leader that committed it: no less than its own.
    by: Term,
}

/// One proposed payload.
#[derive(Clone, Copy, Debug)]
struct Proposal {
    /// What was committed when it was made.
    behind: Index,
    /// Where it was committed; 0 while it was not.
    at: Index,
}

#[derive(Clone, Copy, Debug)]
struct OpenRead {
    node: NodeId,
    context: u64,
    least: Index,
}

/// How often interesting things happened: a run in which nothing happens proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leaders that took office.
    pub elections: u64,
    /// Entries committed.
    pub commits: u64,
    /// Reads granted.
    pub grants: u64,
    /// Snapshots installed.
    pub installs: u64,
    /// Crashes.
    pub crashes: u64,
}

/// Remembers what the properties speak of.
#[derive(Debug, Default)]
pub struct Court {
    /// How much happened.
    pub counts: Counts,
    voters: Vec<NodeId>,
    leaders: Vec<Option<NodeId>>,
    first: Vec<Option<Variant>>,
    others: BTreeMap<EntryId, Variant>,
    committed: Vec<Committed>,
    proposals: Vec<Proposal>,
    reads: Vec<OpenRead>,
    /// What each member's disk was when it was last written.
    disks: Vec<(HardState, EntryId, Snapshot)>,
}

fn place(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The state machine: what the state is after `payload` was applied at `index`.
pub(super) fn advance(state: u64, index: Index, payload: u64) -> u64 {
    mix(state ^ mix(index.0 ^ payload.rotate_left(32)))
}

impl Court {
    /// A court for a group of these voters.
    pub fn new(voters: Vec<NodeId>) -> Self {
        Self { voters, ..Self::default() }
    }

    /// How far anything is known to be committed.
    pub fn commit_index(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// The last committed entry.
    pub fn last_committed(&self) -> EntryId {
        let term = self.committed.last().map_or(Term(0), |entry| entry.term);
        EntryId { term, index: self.commit_index() }
    }

    /// Numbers `count` new proposals, from the one returned on.
    pub fn propose(&mut self, count: u64) -> u64 {
        let proposal = Proposal { behind: self.commit_index(), at: Index(0) };
        let first = self.proposals.len() as u64 + 1;
        self.proposals.extend((0..count).map(|_| proposal));
        first
    }

    /// A read begins now: it must see everything committed so far.
    pub fn read(&mut self, node: NodeId, context: u64) {
        self.reads.push(OpenRead { node, context, least: self.commit_index() });
    }

    /// How many reads of `node` wait for an answer.
    pub fn reads_open(&self, node: NodeId) -> usize {
        self.reads.iter().filter(|read| read.node == node).count()
    }

    fn committed_at(&self, index: Index) -> Option<&Committed> {
        self.committed.get(place(index.0.checked_sub(1)?))
    }

    /// A member appended `range` to its log.
    pub fn appended(&mut self, member: &Member, range: EntryRange) -> Result<(), Conviction> {
        (range.first.0..=range.last.0).try_for_each(|index| self.check_entry(member, Index(index)))
    }

    fn check_entry(&mut self, member: &Member, index: Index) -> Result<(), Conviction> {
        let before = member.log.term_at(index.previous());
        let (Some(entry), Some(before)) = (member.log.get(index), before) else { return Ok(()) };
        let seen = Variant { term: entry.meta.term, payload: entry.payload, before };
        let known = self.variant(index, seen);
        hold(known == seen, Property::LogMatching, || {
            format!("node {} has {seen:?} at {index}, known is {known:?}", member.id())
        })
    }

    /// What is known of the id of `seen`; itself, if nothing was.
    fn variant(&mut self, index: Index, seen: Variant) -> Variant {
        let at = place(index.0);
        if self.first.len() <= at {
            self.first.resize(at + 1, None);
        }
        match self.first.get_mut(at) {
            Some(slot @ None) => *slot.insert(seen),
            Some(Some(known)) if known.term == seen.term => *known,
            _ => *self.others.entry(EntryId { term: seen.term, index }).or_insert(seen),
        }
    }

    /// A lone voter leads, and appends, before its term is durable. What it loses in a crash nobody else has seen, and it may lead
    /// that term again.
    pub fn forget_term_behind(&mut self, lone: NodeId, kept: Term) {
        if self.voters != [lone] {
            return;
        }
        for slot in &mut self.first {
            *slot = slot.filter(|variant| variant.term <= kept);
        }
        self.others.retain(|id, _| id.term <= kept);
    }

    /// A lone voter lost entries of a term that it may lead on.
    pub fn forget_entries_behind(&mut self, lone: NodeId, last: Index) {
        if self.voters == [lone] {
            self.first.truncate(place(last.0 + 1));
            self.others.retain(|id, _| id.index <= last);
        }
    }

    /// `node` stopped: nobody waits for its reads.
    pub fn crashed(&mut self, node: NodeId) {
        self.counts.crashes += 1;
        self.reads.retain(|read| read.node != node);
    }

    /// Looks at the member that has just made a step. Its log holds what the step appended; nothing of it is applied yet.
    pub fn after_step(&mut self, members: &[Member], seat: usize) -> Result<(), Conviction> {
        let Some(member) = members.get(seat) else { return Ok(()) };
        let Some(core) = &member.core else { return Ok(()) };
        core.check().map_err(|broken| Conviction::new(Property::CoreState, broken))?;
        if let Some(past) = &member.past {
            past.check(core).map_err(|broken| convict_past(broken, member.id()))?;
        }
        let view = core.view();
        hold(view.last == member.log.last(), Property::Contract, || {
            format!("the core's log ends at {}, the driver's at {}", view.last, member.log.last())
        })?;
        if view.role == Role::Leader {
            self.check_leader(members, member, view.term)?;
        }
        if view.commit > self.commit_index() {
            let of = member.log.term_at(view.commit);
            hold(view.role != Role::Leader || of == Some(view.term), Property::CommitRule, || {
                format!("{} commits {} of term {of:?} in term {}", view.id, view.commit, view.term)
            })?;
            self.check_commit(members, member, view.commit, view.term)?;
        }
        Ok(())
    }

    /// Votes that moved on to a later term can't be told any more, and count.
    fn check_votes(
        &self,
        members: &[Member],
        leader: NodeId,
        term: Term,
    ) -> Result<(), Conviction> {
        let votes = |member: &&Member| {
            self.voters.contains(&member.id()) && member.disk.voted(term, leader)
        };
        let count = members.iter().filter(votes).count();
        let lone = self.voters.len() == 1;
        hold(lone || count * 2 > self.voters.len(), Property::ElectionSafety, || {
            format!(
                "{leader} leads term {term} with {count} durable votes of {}",
                self.voters.len()
            )
        })
    }

    fn check_leader(
        &mut self,
        members: &[Member],
        member: &Member,
        term: Term,
    ) -> Result<(), Conviction> {
        let at = place(term.0);
        if self.leaders.len() <= at {
            self.leaders.resize(at + 1, None);
        }
        let Some(slot) = self.leaders.get_mut(at) else { return Ok(()) };
        let id = member.id();
        match *slot {
            Some(leader) if leader == id => return Ok(()),
            Some(leader) => {
                let detail = format!("{leader} and {id} both lead term {term}");
                return Err(Conviction::new(Property::ElectionSafety, detail));
            }
            None => *slot = Some(id),
        }
        self.counts.elections += 1;
        self.check_votes(members, id, term)?;
        let last = self.last_committed_before(term);
        hold(member.log.holds(last), Property::LeaderCompleteness, || {
            format!("{id} leads term {term} without the committed entry {last}")
        })
    }

    /// The last entry that a leader of an earlier term than this committed. Leaders of later terms may have committed more by the
    /// time that a candidate of this term hears that it won.
    fn last_committed_before(&self, term: Term) -> EntryId {
        let earlier = |entry: &Committed| entry.by < term;
        let count = self.committed.iter().rposition(earlier).map_or(0, |at| at + 1);
        let last = count.checked_sub(1).and_then(|at| self.committed.get(at));
        EntryId { term: last.map_or(Term(0), |entry| entry.term), index: Index(count as u64) }
    }

    fn check_commit(
        &mut self,
        members: &[Member],
        member: &Member,
        commit: Index,
        term: Term,
    ) -> Result<(), Conviction> {
        while self.commit_index() < commit {
            let index = self.commit_index().next();
            let Some(entry) = member.log.get(index).copied() else {
                let detail = format!("{index} is first committed at {} without it", member.id());
                return Err(Conviction::new(Property::Contract, detail));
            };
            let id = EntryId { term: entry.meta.term, index };
            self.check_quorum(members, id)?;
            check_later_leaders(members, id, term)?;
            self.settle(index, entry, term)?;
        }
        Ok(())
    }

    fn check_quorum(&self, members: &[Member], id: EntryId) -> Result<(), Conviction> {
        let votes = |member: &&Member| self.voters.contains(&member.id());
        let holding = |member: &&Member| member.disk.vouches_for(id);
        let copies = members.iter().filter(votes).filter(holding).count();
        hold(copies * 2 > self.voters.len(), Property::DurableQuorum, || {
            format!("{id} is committed with {copies} durable copies of {}", self.voters.len())
        })
    }

    fn settle(&mut self, index: Index, entry: Entry, by: Term) -> Result<(), Conviction> {
        let state = self.committed.last().map_or(0, |before| before.state);
        let state = advance(state, index, entry.payload);
        let Entry { meta, payload } = entry;
        self.committed.push(Committed { term: meta.term, payload, state, by });
        self.counts.commits += 1;
        if entry.payload == 0 {
            return Ok(());
        }
        let Some(proposal) = self.proposals.get_mut(place(entry.payload - 1)) else {
            let detail = format!("{index} holds {}, which nobody proposed", entry.payload);
            return Err(Conviction::new(Property::WriteLinearizability, detail));
        };
        let (behind, before) = (proposal.behind, std::mem::replace(&mut proposal.at, index));
        hold(before == Index(0) && index > behind, Property::WriteLinearizability, || {
            format!("{} made behind {behind} is at {index}, and was at {before}", entry.payload)
        })
    }

    /// A member applied the entry at `index`, and its state is now `state`.
    pub fn applied(
        &self,
        node: NodeId,
        index: Index,
        entry: &Entry,
        state: u64,
    ) -> Result<(), Conviction> {
        let known = self.committed_at(index);
        let same = known.is_some_and(|known| {
            known.term == entry.meta.term && known.payload == entry.payload && known.state == state
        });
        hold(same, Property::StateMachineSafety, || {
            format!("node {node} applies {entry:?} at {index}, committed is {known:?}")
        })
    }

    /// A member's state becomes that of a snapshot.
    pub fn installed(&mut self, node: NodeId, snapshot: Snapshot) -> Result<(), Conviction> {
        self.counts.installs += 1;
        let known = self.committed_at(snapshot.last.index);
        let same = known
            .is_some_and(|known| known.term == snapshot.last.term && known.state == snapshot.state);
        hold(same, Property::StateMachineSafety, || {
            format!("node {node} installs {snapshot:?}, committed is {known:?}")
        })
    }

    /// A read is granted.
    pub fn granted(&mut self, node: NodeId, grant: ReadGrant) -> Result<(), Conviction> {
        let least = self.close_read(node, grant.context.0)?;
        self.counts.grants += 1;
        hold(grant.index >= least, Property::ReadLinearizability, || {
            format!("a read of node {node} is served at {}, {least} was committed", grant.index)
        })
    }

    /// A read will get no answer.
    pub fn dropped(&mut self, node: NodeId, context: u64) -> Result<(), Conviction> {
        self.close_read(node, context).map(|_| ())
    }

    fn close_read(&mut self, node: NodeId, context: u64) -> Result<Index, Conviction> {
        let open = |read: &OpenRead| read.node == node && read.context == context;
        let Some(at) = self.reads.iter().position(open) else {
            let detail = format!("read {context} of node {node} is answered, but not under way");
            return Err(Conviction::new(Property::Contract, detail));
        };
        Ok(self.reads.swap_remove(at).least)
    }

    /// Remembers what a disk holds.
    pub fn wrote(&mut self, seat: usize, image: &Image) {
        if self.disks.len() <= seat {
            self.disks.resize(seat + 1, Default::default());
        }
        if let Some(disk) = self.disks.get_mut(seat) {
            *disk = image.summary();
        }
    }

    /// A member starts from a disk, which must hold what was durable.
    pub fn check_disk(&self, seat: usize, image: &Image) -> Result<(), Conviction> {
        let found = image.summary();
        let known = self.disks.get(seat).copied().unwrap_or_default();
        hold(found == known, Property::DiskMonotony, || {
            format!("the disk at seat {seat} held {known:?}, and now {found:?}")
        })
    }

    /// A write is about to become durable.
    pub fn check_write(
        &self,
        node: NodeId,
        image: &Image,
        write: &Write,
    ) -> Result<(), Conviction> {
        if let Some(new) = write.hard_state {
            let old = image.hard_state;
            let keeps = new.term > old.term || old.vote.is_none() || new.vote == old.vote;
            let rises = new.term >= old.term && keeps && new.commit >= old.commit;
            hold(rises, Property::DiskMonotony, || {
                format!("node {node}: {old:?} becomes {new:?}")
            })?;
        }
        if let Some(snapshot) = write.install {
            hold(
                snapshot.last.index >= image.checkpoint.last.index,
                Property::DiskMonotony,
                || format!("node {node}: {:?} becomes {snapshot:?}", image.checkpoint),
            )?;
        }
        let Some((first, entries)) = &write.append else { return Ok(()) };
        let Some(known) = self.committed_at(*first) else { return Ok(()) };
        let held = image.log.term_at(*first) == Some(known.term);
        let stays = entries.first().is_some_and(|entry| entry.meta.term == known.term);
        // A leader of a term before the one in which it was committed may not have had it; its write may come late to the disk.
        let is_older = write.hard_state.unwrap_or(image.hard_state).term < known.by;
        hold(!held || stays || is_older, Property::DurableQuorum, || {
            format!("node {node} replaces the committed entry {}/{first} on disk", known.term)
        })
    }
}

fn convict_past(broken: quorate_raft::Broken, node: NodeId) -> Conviction {
    let judge =
        if broken.0.contains("leader") { Property::LeaderAppendOnly } else { Property::CoreState };
    Conviction::new(judge, format!("node {node}: {broken}"))
}

/// A leader of a later term was elected before `id` was committed: it must hold it all the same.
fn check_later_leaders(members: &[Member], id: EntryId, term: Term) -> Result<(), Conviction> {
    for member in members {
        let Some(view) = member.core.as_ref().map(quorate_raft::Core::view) else { continue };
        let lacks = view.role == Role::Leader && view.term > term && !member.log.holds(id);
        hold(!lacks, Property::LeaderCompleteness, || {
            format!(
                "{id} is committed in term {term}, node {} leads {} without it",
                view.id, view.term
            )
        })?;
    }
    Ok(())
}

/// Whether all that a message promises is durable at its sender, in the moment it leaves. `acknowledged` is the term of the entry
/// that it acknowledges, if it does.
pub(crate) fn check_promise(
    member: &Member,
    to: NodeId,
    wire: &Wire,
    acknowledged: Option<Term>,
) -> Result<(), Conviction> {
    let image = &member.disk.image;
    let (term, own) = (wire.term(), image.hard_state.term);
    let rehearsal = matches!(
        wire,
        Message::RequestVote { pre_vote: true, .. } | Message::Vote { pre_vote: true, .. }
    );
    hold(rehearsal || term <= own, Property::Promise, || {
        format!("node {} speaks in term {term}, durable is {own}: {wire:?}", member.id())
    })?;
    let kept = if term != own {
        true
    } else if let Message::Vote { pre_vote: false, granted: true, .. } = wire {
        image.hard_state.vote == Some(to)
    } else if let Message::RequestVote { pre_vote: false, .. } = wire {
        image.hard_state.vote == Some(member.id())
    } else if let Some(index) = acknowledged_index(wire) {
        is_durable(member, index, acknowledged)
    } else {
        true
    };
    hold(kept, Property::Promise, || {
        format!("node {} says to {to} what its disk does not hold: {wire:?}", member.id())
    })
}

fn is_durable(member: &Member, index: Index, term: Option<Term>) -> bool {
    let log = &member.disk.image.log;
    index < log.base().index
        || index < member.log.base().index
        || (log.term_at(index).is_some() && log.term_at(index) == term)
}

/// What a later state is held against.
pub(crate) fn remember(member: &mut Member) {
    member.past = member.core.as_ref().map(Past::of);
}
