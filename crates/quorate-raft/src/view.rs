//! What a member shows of itself: for status, metrics, tests and the driver's decisions. Reading it changes nothing.

use crate::election::State;
use crate::machine::Core;
use crate::progress::{Progress, ProgressState};
use crate::{EntryId, Fault, Index, Membership, NodeId, Role, Term};

/// One member at one moment.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Which member it is.
    pub id: NodeId,
    /// The part it plays.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// Who leads that term, as far as it knows; itself, if it does.
    pub leader: Option<NodeId>,
    /// How far it knows the log to be committed.
    pub commit: Index,
    /// How far it has given out commits. Never ahead of `commit`.
    pub released: Index,
    /// The end of its log.
    pub last: EntryId,
    /// The entry just before its log.
    pub base: EntryId,
    /// How far its log is durable.
    pub durable: Index,
    /// The members of the group.
    pub membership: &'a Membership,
    /// Its disk fault, if it has one.
    pub fault: Option<Fault>,
    /// Whom it hands leadership to, if it does.
    pub transferee: Option<NodeId>,
    peers: &'a [Progress],
}

/// What a leader knows of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Which peer.
    pub node: NodeId,
    /// How the leader talks to it.
    pub state: ProgressState,
    /// How far its log is known to be durable and equal to the leader's.
    pub match_index: Index,
    /// The next position to send.
    pub next_index: Index,
    /// Whether it was heard from since the last quorum check.
    pub recent_active: bool,
}

impl<'a> View<'a> {
    /// What a leader knows of its peers, in order of their ids; nothing, if the member does not lead.
    pub fn peers(&self) -> impl ExactSizeIterator<Item = PeerView> + use<'a> {
        self.peers.iter().map(|peer| PeerView {
            node: peer.node,
            state: peer.state,
            match_index: peer.match_index,
            next_index: peer.next_index,
            recent_active: peer.recent_active,
        })
    }
}

impl Core {
    /// The first entry of each term in the log, in order. With [`View::base`] and [`View::last`] it tells the term of every entry.
    pub fn log_terms(&self) -> impl DoubleEndedIterator<Item = EntryId> + ExactSizeIterator {
        self.log.terms()
    }

    /// How much content the entries behind `from` up to `upto` have, in bytes. Takes time in proportion to their number.
    pub fn log_bytes(&self, from: Index, upto: Index) -> u64 {
        self.log.bytes_between(from, upto)
    }

    /// What this member knows now.
    pub fn view(&self) -> View<'_> {
        let lead = match &self.state {
            State::Leader(lead) => Some(lead),
            State::Follower | State::PreCandidate(_) | State::Candidate(_) => None,
        };
        View {
            id: self.config.id,
            role: self.state.role(),
            term: self.term,
            vote: self.vote,
            leader: self.leader,
            commit: self.commit,
            released: self.released,
            last: self.log.last(),
            base: self.log.base(),
            durable: self.durability.durable(),
            membership: &self.membership,
            fault: self.fault,
            transferee: lead.and_then(|lead| lead.transfer).map(|transfer| transfer.to),
            peers: lead.map_or(&[], |lead| &lead.peers),
        }
    }
}
