//! What a judge must remember of a run: what was ever committed, who ever led, and what reads were promised.
//!
//! It is part of the world, since the same members after different pasts must be judged differently.

use quorate_raft::NodeId;

use super::hash::rename;
use super::universe::{Answer, Face, Terms};

/// How many terms and reads a past can hold.
const SLOTS: usize = 16;

/// The past of one world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    /// The terms of all entries that any member ever knew to be committed.
    pub(super) committed: Terms,
    /// For each of them, the term in which it was first known to be committed.
    pub(super) committed_in: Terms,
    /// By term: who led it; 0 for nobody yet.
    leaders: [u8; SLOTS],
    /// By context: 0 for no read under way, else one more than what was committed when it was asked.
    reads: [u8; SLOTS],
}

impl Past {
    /// Whether a member's present is in it already.
    pub(super) fn knows(&self, node: u8, face: &Face) -> bool {
        let known = self.committed.first(face.commit) == face.log.first(face.commit);
        known && (!face.leads || self.leader_of(face.term) == Some(node))
    }

    /// A past in which this was committed, each entry in its own term, and nothing else happened.
    #[cfg(test)]
    pub(super) fn of(committed: Terms) -> Self {
        Self { committed, committed_in: committed, ..Self::default() }
    }

    fn leader_of(&self, term: u64) -> Option<u8> {
        self.leaders.get(usize::try_from(term).ok()?).copied()
    }

    /// Takes in a member's present.
    ///
    /// # Errors
    /// State machine safety or election safety is broken (Raft paper, figure 3).
    pub(super) fn learn(&mut self, node: u8, face: &Face) -> Result<(), String> {
        let committed = face.log.first(face.commit);
        if self.committed.common(committed) < self.committed.len().min(face.commit) {
            return Err(format!("state machine safety: member {node} commits another entry"));
        }
        while self.committed.len() < face.commit {
            let shift = 4 * self.committed.len();
            self.committed.0 |= face.log.at(self.committed.len() + 1) << shift;
            self.committed_in.0 |= (face.term & 15) << shift;
        }
        if face.leads {
            let slot = usize::try_from(face.term).ok().and_then(|term| self.leaders.get_mut(term));
            let leader = slot.ok_or_else(|| "a term beyond all bounds".to_owned())?;
            if *leader != 0 && *leader != node {
                return Err(format!(
                    "election safety: members {leader} and {node} lead term {}",
                    face.term
                ));
            }
            *leader = node;
        }
        Ok(())
    }

    /// A read is asked for now.
    pub(super) fn ask(&mut self, context: u64) {
        let floor = u8::try_from(self.committed.len() + 1).unwrap_or(u8::MAX);
        if let Some(read) = usize::try_from(context).ok().and_then(|slot| self.reads.get_mut(slot))
        {
            *read = floor;
        }
    }

    /// A read is answered.
    ///
    /// # Errors
    /// The read is not linearizable: it misses what was committed before it was asked, or was answered before.
    pub(super) fn answer(&mut self, answer: Answer) -> Result<(), String> {
        let slot = usize::try_from(answer.context).ok().and_then(|slot| self.reads.get_mut(slot));
        let read = slot.ok_or_else(|| "a read that nobody asked for is answered".to_owned())?;
        let floor = std::mem::take(read);
        match answer.index {
            None => Ok(()),
            Some(_) if floor == 0 => Err(format!("read {} is answered twice", answer.context)),
            Some(index) if index + 1 < u64::from(floor) => Err(format!(
                "linearizable reads: read {} is served at {index}, but {} was committed before it was asked",
                answer.context,
                floor - 1
            )),
            Some(_) => Ok(()),
        }
    }

    /// Writes it out, members renamed.
    pub(super) fn words(&self, renaming: usize, out: &mut Vec<u64>) {
        out.extend([self.committed.0, self.committed_in.0]);
        out.extend(self.leaders.iter().map(|node| rename(renaming, NodeId(u64::from(*node))).0));
        out.extend(self.reads.iter().map(|floor| u64::from(*floor)));
    }
}
