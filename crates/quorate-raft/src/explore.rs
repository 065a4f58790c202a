//! What an explorer of all states needs of a member, and nobody else: built only with the feature `explore`.
//!
//! An explorer must know when two members are the same for all that can still happen. Two things stand in the way, and both are
//! taken out here without a change of behaviour:
//! - *Time and chance.* No timer is left running: each is far off until the explorer makes it due, at a moment of its choice.
//!   That allows more than a clock does (timers fire in any order, a leader seems silent at any time), never less.
//! - *Numbers that only grow.* Tokens are only compared with each other, so all are lowered by the newest one that is done.
//!
//! What is left is written out as words, with members renamed as the explorer likes, so that two groups that differ only in
//! who is who look the same. Left out of the words: the configuration, which is the same all through an exploration.

use crate::election::{Ballot, Leadership, State};
use crate::machine::Core;
use crate::progress::{Progress, ProgressState};
use crate::random::Random;
use crate::read::give_up_ns;
use crate::{Fault, Mono, NodeId};

/// The one moment at which everything happens in an exploration.
#[doc(hidden)]
pub const NOW: Mono = Mono(1 << 61);

/// A timer that an explorer makes due.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// Nobody led for long enough.
    Election,
    /// The leader has not been heard for the shortest election timeout; due by itself, it wakes nobody.
    Silence,
    /// A heartbeat.
    Beat,
    /// A leader counts its quorum.
    Quorum,
    /// The disk has kept a write for too long.
    Stall,
    /// Reads have waited for too long.
    Reads,
}

/// Gives a member another name.
type Rename<'a> = &'a dyn Fn(NodeId) -> NodeId;

#[doc(hidden)]
impl Core {
    /// Puts all timers far off [`NOW`], forgets the random stream, and lowers all tokens by the newest done one, which is
    /// returned: whoever holds tokens of this member lowers them too.
    pub fn explore_settle(&mut self) -> u64 {
        self.random = Random::new(0);
        self.leader_seen = NOW;
        self.armed = NOW;
        self.wait_ns = self.config.election_timeout_ns;
        if let State::Leader(lead) = &mut self.state {
            lead.heartbeat_due = NOW.after(self.config.heartbeat_interval_ns);
            lead.quorum_due = NOW.after(self.config.election_timeout_ns);
            if let Some(transfer) = &mut lead.transfer {
                transfer.due = NOW.after(self.config.election_timeout_ns);
            }
        }
        self.reads.set_since(NOW);
        self.durability.settle(NOW)
    }

    /// Makes one timer due at [`NOW`].
    pub fn explore_due(&mut self, timer: Timer) {
        let past = Mono(NOW.0 - self.config.election_timeout_ns);
        match (timer, &mut self.state) {
            (Timer::Election, _) => self.armed = past,
            (Timer::Silence, _) => self.leader_seen = past,
            (Timer::Beat, State::Leader(lead)) => lead.heartbeat_due = NOW,
            (Timer::Quorum, State::Leader(lead)) => lead.quorum_due = NOW,
            (Timer::Stall, _) => {
                self.durability.set_since(past);
            }
            (Timer::Reads, _) => {
                let patience_ns = give_up_ns(self.config.election_timeout_ns);
                self.reads.set_since(Mono(NOW.0 - patience_ns));
            }
            (Timer::Beat | Timer::Quorum, _) => {}
        }
    }

    /// Writes out all that decides what this member can still do, members renamed.
    pub fn explore_words(&self, rename: Rename<'_>, out: &mut Vec<u64>) {
        let name = |node: Option<NodeId>| node.map_or(0, |node| rename(node).0);
        out.extend([rename(self.config.id).0, self.term.0, name(self.vote), name(self.leader)]);
        out.extend([self.commit.0, self.released.0]);
        self.log.words(out);
        self.durability.words(out);
        self.reads.words(&name, out);
        out.extend(fault_words(self.fault));
        match &self.state {
            State::Follower => out.push(0),
            State::PreCandidate(ballot) => ballot_words(1, ballot, rename, out),
            State::Candidate(ballot) => ballot_words(2, ballot, rename, out),
            State::Leader(lead) => leader_words(lead, rename, out),
        }
    }
}

fn fault_words(fault: Option<Fault>) -> [u64; 3] {
    match fault {
        None => [0; 3],
        Some(Fault::SyncFailed) => [1, 0, 0],
        Some(Fault::Corrupt(range)) => [2, range.first.0, range.last.0],
        Some(Fault::DiskFull) => [3, 0, 0],
        Some(Fault::SlowDisk { stalled_for_ns }) => [4, stalled_for_ns, 0],
    }
}

fn ballot_words(kind: u64, ballot: &Ballot, rename: Rename<'_>, out: &mut Vec<u64>) {
    let mut votes: Vec<u64> =
        ballot.votes().map(|(node, granted)| rename(node).0 << 1 | u64::from(granted)).collect();
    votes.sort_unstable();
    out.extend([kind, votes.len() as u64]);
    out.append(&mut votes);
}

fn leader_words(lead: &Leadership, rename: Rename<'_>, out: &mut Vec<u64>) {
    let transfer = lead.transfer.map_or(0, |transfer| rename(transfer.to).0);
    out.extend([3, lead.term_start.0, lead.uncommitted_bytes, transfer]);
    let mut peers: Vec<&Progress> = lead.peers.iter().collect();
    peers.sort_unstable_by_key(|peer| rename(peer.node));
    for peer in peers {
        let state = match peer.state {
            ProgressState::Probe => 0,
            ProgressState::Replicate => 1,
            ProgressState::Snapshot => 2,
        };
        let flags = [peer.paused, peer.nudge, peer.recent_active];
        let flags = flags.iter().fold(state, |word, flag| word << 1 | u64::from(*flag));
        out.extend([rename(peer.node).0, flags, peer.match_index.0, peer.next_index.0]);
        out.extend([peer.commit_sent.0, peer.round_acked]);
        peer.inflights.words(out);
    }
}
