//! Promises broken on purpose, so that a judge of real servers can be judged: only with the feature `breakable`, never in a server
//! that anybody uses.
//!
//! A disk that forgets is not here: that is the binary's, as all of the disk is.

use quorate_node::LogRecord;
use quorate_raft::{HardState, Index, Term};

use crate::bugs::Bug;

/// Which promises are broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaks {
    /// A member that believes to lead answers linearizable reads without asking anybody.
    ///
    /// Source: Jepsen on etcd and Consul, 2014.
    pub stale_reads: bool,
    /// The log keeps no vote, and no term that no entry has: a member that starts again can vote twice in one term.
    ///
    /// Source: Raft paper, figure 2: `currentTerm` and `votedFor` are persistent.
    pub vote_not_persisted: bool,
    /// What was not synced is lost with the process, as if the power had gone.
    pub power_cut: bool,
    /// A sync returns at once; what it should have made durable becomes so a second later.
    pub no_fsync: bool,
    /// A mistake further in, for simulated servers.
    pub bug: Option<Bug>,
}

impl Breaks {
    /// Takes vote and term from what is about to be written; `last` is the term of the log's last entry.
    pub(crate) fn forget(self, records: &mut [LogRecord<'_>], last: Term, commit: Index) {
        if !self.vote_not_persisted {
            return;
        }
        for record in records {
            match record {
                LogRecord::Save { hard_state, entries, .. } => {
                    let of_entries = entries.last().map(|entry| entry.meta.term);
                    if let Some(term) = of_entries.or(hard_state.map(|kept| kept.term.min(last))) {
                        *hard_state = Some(HardState { term, vote: None, commit });
                    }
                }
                LogRecord::Install { hard_state, snapshot, .. } => {
                    *hard_state = HardState { term: snapshot.last.term, vote: None, commit };
                }
                LogRecord::Compacted { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::{GroupId, NodeId};

    use super::*;

    #[test]
    fn a_vote_and_its_term_are_forgotten_only_when_asked() {
        let voted = HardState { term: Term(7), vote: Some(NodeId(3)), commit: Index(2) };
        let save = |hard_state| LogRecord::Save {
            group: GroupId(0),
            hard_state: Some(hard_state),
            first: Index(4),
            entries: &[],
        };
        let kept = |breaks: Breaks| {
            let mut records = [save(voted)];
            breaks.forget(&mut records, Term(5), Index(2));
            match records {
                [LogRecord::Save { hard_state, .. }] => hard_state,
                _ => None,
            }
        };
        assert_eq!(kept(Breaks::default()), Some(voted));
        let breaks = Breaks { vote_not_persisted: true, ..Breaks::default() };
        assert_eq!(kept(breaks), Some(HardState { term: Term(5), vote: None, commit: Index(2) }));
    }
}
