//! What must hold of all members together: the Raft paper's figure 3, durable quorums, and linearizable reads.

use std::collections::BTreeMap;

use quorate_raft::{EntryId, Index, NodeId, ReadGrant, Role, Term};

use super::disk::Entry;
use super::member::{Member, Outcome};

#[derive(Default)]
pub(crate) struct Judge {
    /// Election safety: who led each term.
    leaders: BTreeMap<Term, NodeId>,
    /// Log matching: an entry's content and the term before it, by its id.
    entries: BTreeMap<EntryId, (u64, Term)>,
    /// State machine safety: what was committed, by position.
    committed: Vec<Entry>,
    /// In which term each of them was first seen to be committed.
    committed_in: Vec<Term>,
    /// Reads under way, with what they must see.
    reads: BTreeMap<(NodeId, u64), Index>,
    pub(crate) grants: u64,
    pub(crate) elections: u64,
}

impl Judge {
    pub(crate) fn committed(&self) -> &[Entry] {
        &self.committed
    }

    pub(crate) fn commit_index(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    pub(crate) fn reads_open(&self) -> usize {
        self.reads.len()
    }

    /// A read begins now: it must see everything committed so far.
    pub(crate) fn read_begins(&mut self, node: NodeId, context: u64) {
        let index = self.commit_index();
        assert!(self.reads.insert((node, context), index).is_none(), "a context is used twice");
    }

    /// `node` has lost what was not durable. A term that it led and has lost too (only a lone voter can: nobody else leads before
    /// its term is durable) may be led again; nobody else may have heard of it.
    pub(crate) fn crashed(&mut self, members: &BTreeMap<NodeId, Member>, node: NodeId) {
        self.reads.retain(|(reader, _), _| *reader != node);
        let kept = members[&node].disk.hard_state.term;
        let lost: Vec<Term> = self
            .leaders
            .iter()
            .filter(|(term, led)| **led == node && **term > kept)
            .map(|(term, _)| *term)
            .collect();
        for term in lost {
            let heard = members
                .values()
                .any(|other| other.log.entries().iter().any(|entry| entry.meta.term == term));
            assert!(!heard, "a term that is not durable at its leader has left it");
            self.leaders.remove(&term);
            self.entries.retain(|id, _| id.term != term);
        }
    }

    /// Judges the step that `node` has just made.
    pub(crate) fn after_step(
        &mut self,
        members: &BTreeMap<NodeId, Member>,
        node: NodeId,
        outcome: &Outcome,
    ) {
        let member = &members[&node];
        check_member(member);
        for range in &outcome.appended {
            for index in range.first.0..=range.last.0 {
                self.check_entry(member, Index(index));
            }
        }
        self.check_leader(member);
        self.check_commit(members, member);
        for grant in &outcome.reads {
            self.check_read(node, *grant);
        }
        for context in &outcome.dropped {
            assert!(
                self.reads.remove(&(node, context.0)).is_some(),
                "a read is dropped that was not under way"
            );
        }
    }

    fn check_entry(&mut self, member: &Member, index: Index) {
        let entry = member.log.get(index).unwrap();
        let id = EntryId { term: entry.meta.term, index };
        let before = member.log.term_at(index.previous()).unwrap();
        let known = *self.entries.entry(id).or_insert((entry.payload, before));
        assert_eq!(known, (entry.payload, before), "log matching: two entries {id}");
    }

    fn check_leader(&mut self, member: &Member) {
        let view = member.core.as_ref().unwrap().view();
        if view.role != Role::Leader || self.leaders.get(&view.term) == Some(&view.id) {
            return;
        }
        let other = self.leaders.insert(view.term, view.id);
        assert_eq!(other, None, "election safety: two leaders in term {}", view.term);
        self.elections += 1;
        // An election can be won late, when the votes arrive long after they were given: what later terms committed meanwhile
        // is none of this leader's.
        let owed = self.committed_in.iter().rposition(|term| *term < view.term);
        if let Some(at) = owed {
            let id = EntryId { term: self.committed[at].meta.term, index: Index(at as u64 + 1) };
            assert!(
                member.log.holds(id),
                "leader completeness: the leader of {} lacks {id}",
                view.term
            );
        }
    }

    fn check_commit(&mut self, members: &BTreeMap<NodeId, Member>, member: &Member) {
        let view = member.core.as_ref().unwrap().view();
        while self.commit_index() < view.commit {
            let index = self.commit_index().next();
            let entry = member.log.get(index).expect("a commit is first seen where the entry is");
            let id = EntryId { term: entry.meta.term, index };
            let copies = view
                .membership
                .voters
                .iter()
                .filter(|voter| members[voter].disk.log.holds(id))
                .count();
            assert!(
                copies * 2 > view.membership.voters.len(),
                "{id} is committed with {copies} durable copies"
            );
            self.committed.push(entry);
            self.committed_in.push(view.term);
        }
        let applied = member.state.len();
        assert!(
            member.state[..] == self.committed[..applied],
            "state machine safety at {}",
            view.id
        );
    }

    fn check_read(&mut self, node: NodeId, grant: ReadGrant) {
        let least = self.reads.remove(&(node, grant.context.0)).expect("a read is answered once");
        assert!(grant.index >= least, "a read at {} does not see {least}", grant.index);
        self.grants += 1;
    }
}

fn check_member(member: &Member) {
    let core = member.core.as_ref().unwrap();
    core.check().unwrap_or_else(|broken| panic!("{broken}: {core:#?}"));
    if let Some(past) = &member.past {
        past.check(core).unwrap_or_else(|broken| panic!("{broken}: {past:?} {core:#?}"));
    }
    let view = core.view();
    assert_eq!(
        view.last.index,
        member.log.last_index(),
        "the core and its driver agree on the log"
    );
    assert_eq!(view.released.0, member.state.len() as u64, "everything given out is applied");
}
