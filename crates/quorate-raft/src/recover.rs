//! Restart: what the disk gave back becomes a follower, or an error that names the invariant the disk broke.
//!
//! A member remembers its term, its vote and its log (Raft paper figure 2, "persistent state"). It does not remember its role,
//! its leader or what its peers hold: every one of those is learnt again. Whether the *content* of entries is sound is the
//! driver's to check before it calls here.

use crate::config::{INDEX_MAX, TERM_MAX, VOTERS_MAX};
use crate::durability::Durability;
use crate::election::State;
use crate::log::Log;
use crate::machine::{Core, Staged};
use crate::quorum::Quorum;
use crate::random::Random;
use crate::read::Reads;
use crate::{
    Config, EntryId, EntryKind, EntryMeta, HardState, Index, Membership, Mono, NodeId,
    SnapshotMeta, Term,
};

/// What a member knew when it stopped, as its disk tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Term and vote; the default for a fresh member.
    pub hard_state: HardState,
    /// Where the log starts: the last entry that is only in the state machine. For a fresh group position 0, term 0 and the
    /// first membership.
    pub base: SnapshotMeta,
    /// The log behind `base`, without gaps.
    pub entries: Vec<EntryMeta>,
    /// The last entry that the state machine has applied, durably. Commits are given out from here on.
    pub applied: EntryId,
}

/// Which invariant does not hold of what the disk gave back, or of the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The settings contradict themselves.
    #[error("bad configuration: {0}")]
    Config(&'static str),
    /// The membership is not one that a group can have.
    #[error("bad membership: {0}")]
    Membership(&'static str),
    /// A term or position beyond all bounds.
    #[error("{what} {value} is beyond the greatest one, {max}")]
    OutOfRange {
        /// What it counts.
        what: &'static str,
        /// The value found.
        value: u64,
        /// The greatest value allowed.
        max: u64,
    },
    /// Terms in a log never fall.
    #[error("the entry at {index} has term {term}, below term {before} of the one before it")]
    TermFalls {
        /// The entry's position.
        index: Index,
        /// The entry's term.
        term: Term,
        /// The term before it.
        before: Term,
    },
    /// A member has seen the term of each of its entries (figure 2: `currentTerm` is the latest term seen).
    #[error("the log ends at {last}, beyond the saved term {term}")]
    TermBehindLog {
        /// The saved term.
        term: Term,
        /// The end of the log.
        last: EntryId,
    },
    /// Nobody votes before the first election.
    #[error("a vote for node {0} is saved, but no term")]
    VoteWithoutTerm(NodeId),
    /// The entry in question changes the membership, which this version does not do.
    #[error("the entry at {0} changes the membership, which this version can't")]
    MembershipEntry(Index),
    /// Committed entries are never lost (leader completeness rests on it).
    #[error("the log ends at {last}, but it was committed up to {commit}")]
    CommitBeyondLog {
        /// The saved commit index.
        commit: Index,
        /// The end of the log.
        last: EntryId,
    },
    /// The state machine holds only what the log held.
    #[error("the log ends at {last}, but it was applied up to {applied}")]
    AppliedBeyondLog {
        /// The applied index.
        applied: Index,
        /// The end of the log.
        last: EntryId,
    },
    /// State and log speak of the same entries: what was applied is committed, and what is committed is never another entry
    /// (state machine safety, figure 3).
    #[error("the state machine has applied {applied}, but the log's entry there has term {found}")]
    AppliedDiffers {
        /// The last entry applied.
        applied: EntryId,
        /// The term of the log's entry at its index.
        found: Term,
    },
    /// What the log has dropped is in the state machine.
    #[error("the log starts behind {base}, but it is applied only up to {applied}")]
    AppliedBehindBase {
        /// The applied index.
        applied: Index,
        /// The start of the log.
        base: EntryId,
    },
}

impl Core {
    /// Makes a member from what its disk gave back; a fresh member is one whose disk gave back only the first membership.
    ///
    /// `seed` drives all its random choices: it should differ between members and between starts, or elections may split
    /// for long. A lone voter is due at once; everybody else first waits for a leader.
    ///
    /// # Errors
    /// [`RecoverError`] names the first invariant that does not hold. Such a member must not start: it could break promises it
    /// made before.
    pub fn recover(
        config: Config,
        recovered: Recovered,
        now: Mono,
        seed: u64,
    ) -> Result<Self, RecoverError> {
        if let Some(problem) = config.problem() {
            return Err(RecoverError::Config(problem));
        }
        if let Some(problem) = membership_problem(&recovered.base.membership) {
            return Err(RecoverError::Membership(problem));
        }
        check_hard_state(recovered.hard_state)?;
        let log = read_log(recovered.base.last, &recovered.entries)?;
        check_positions(&log, &recovered)?;
        Ok(Self::start(config, recovered, log, now, Random::new(seed)))
    }

    fn start(
        config: Config,
        recovered: Recovered,
        log: Log,
        now: Mono,
        mut random: Random,
    ) -> Self {
        let HardState { term, vote, commit } = recovered.hard_state;
        let membership = recovered.base.membership;
        let quorum = Quorum::of(&membership);
        let wait_ns =
            if quorum.is_lone(config.id) { 0 } else { random.timeout(config.election_timeout_ns) };
        let reads = Reads::new(random.next());
        Self {
            term,
            vote,
            commit: commit.max(recovered.applied.index),
            released: recovered.applied.index,
            leader: None,
            leader_seen: now,
            armed: now,
            wait_ns,
            state: State::Follower,
            durability: Durability::new(log.last().index),
            staged: Staged::default(),
            fault: None,
            reads,
            random,
            config,
            log,
            membership,
            quorum,
        }
    }
}

/// What is wrong with a membership, if anything.
pub(crate) fn membership_problem(membership: &Membership) -> Option<&'static str> {
    let Membership { voters, voters_outgoing, learners } = membership;
    let votes = |node: &NodeId| voters.contains(node) || voters_outgoing.contains(node);
    let rules = [
        (!voters.is_empty(), "there is no voter"),
        (voters.len().max(voters_outgoing.len()) <= VOTERS_MAX, "there are too many voters"),
        (!learners.iter().any(votes), "a voter is a learner too"),
        (!membership.contains(NodeId(0)), "node 0 is a member"),
    ];
    rules.into_iter().find_map(|(holds, what)| (!holds).then_some(what))
}

fn check_range(what: &'static str, value: u64, max: u64) -> Result<(), RecoverError> {
    if value <= max { Ok(()) } else { Err(RecoverError::OutOfRange { what, value, max }) }
}

fn check_hard_state(hard_state: HardState) -> Result<(), RecoverError> {
    check_range("the saved term", hard_state.term.0, TERM_MAX)?;
    match hard_state.vote {
        Some(vote) if hard_state.term == Term(0) => Err(RecoverError::VoteWithoutTerm(vote)),
        _ => Ok(()),
    }
}

fn read_log(base: EntryId, entries: &[EntryMeta]) -> Result<Log, RecoverError> {
    check_range(
        "the end of the log",
        base.index.0.saturating_add(entries.len() as u64),
        INDEX_MAX,
    )?;
    let mut log = Log::new(base);
    for entry in entries {
        let (index, before) = (log.last().index.next(), log.last().term);
        if entry.term < before || entry.term == Term(0) {
            return Err(RecoverError::TermFalls { index, term: entry.term, before });
        }
        if entry.kind == EntryKind::Membership {
            return Err(RecoverError::MembershipEntry(index));
        }
        log.append(entry.term, [entry.bytes]);
    }
    Ok(log)
}

fn check_positions(log: &Log, recovered: &Recovered) -> Result<(), RecoverError> {
    let (base, last) = (log.base(), log.last());
    let HardState { term, commit, .. } = recovered.hard_state;
    let EntryId { term: applied_term, index: applied } = recovered.applied;
    if last.term > term {
        return Err(RecoverError::TermBehindLog { term, last });
    }
    if commit > last.index {
        return Err(RecoverError::CommitBeyondLog { commit, last });
    }
    if applied > last.index {
        return Err(RecoverError::AppliedBeyondLog { applied, last });
    }
    if applied < base.index {
        return Err(RecoverError::AppliedBehindBase { applied, base });
    }
    match log.term_at(applied) {
        Some(found) if found != applied_term => {
            Err(RecoverError::AppliedDiffers { applied: recovered.applied, found })
        }
        Some(_) | None => Ok(()),
    }
}
