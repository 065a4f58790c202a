//! Time: when the core wants to be woken, and what it does then.
//!
//! There is one timer. A leader wakes for heartbeats, to count its quorum, to look at its own disk, and to give up a transfer;
//! everybody else to start an election; anybody to give up reads that nobody answered. A moment that has passed is due; being
//! woken early does nothing, and being woken late does once what was missed.
//!
//! Left out: quiescence. A group with several members always has a deadline; a lone voter without peers has none.

use crate::election::State;
use crate::machine::{Core, Turn};
use crate::{Mono, Notice, Verdict};

impl Core {
    /// When [`Event::Wake`](crate::Event::Wake) is due; `None` while only other events can change anything.
    pub fn next_deadline(&self) -> Option<Mono> {
        let timeout = self.config.election_timeout_ns;
        let follows = !matches!(self.state, State::Leader(_));
        let reads = self.reads.due(timeout, follows);
        let role = match &self.state {
            State::Leader(lead) => {
                let peers =
                    (!lead.peers.is_empty()).then_some(lead.heartbeat_due.min(lead.quorum_due));
                let transfer = lead.transfer.map(|transfer| transfer.due);
                [peers, transfer, self.stall_due()].into_iter().flatten().min()
            }
            State::Follower | State::PreCandidate(_) | State::Candidate(_) => {
                (self.may_campaign() || self.leader.is_some()).then_some(self.election_due())
            }
        };
        [role, reads].into_iter().flatten().min()
    }

    pub(crate) fn on_wake(&mut self, turn: &mut Turn<'_>) -> Verdict {
        if matches!(self.state, State::Leader(_)) {
            self.wake_leader(turn);
        } else if self.election_due() <= turn.now {
            self.wake_election(turn);
        }
        self.expire_reads(turn);
        Verdict::Ok
    }

    /// Waits another random time for a leader (5.2).
    pub(crate) fn arm(&mut self, now: Mono) {
        self.armed = now;
        self.wait_ns = self.random.timeout(self.config.election_timeout_ns);
        if self.config.bug(43) {
            self.wait_ns = self.config.election_timeout_ns;
        }
    }

    pub(crate) fn election_due(&self) -> Mono {
        self.armed.after(self.wait_ns)
    }

    /// When this member's disk has kept a write for too long; `None` if nothing is under way, or nobody could do better.
    pub(crate) fn stall_due(&self) -> Option<Mono> {
        let since = self.durability.oldest_since()?;
        (!self.quorum.is_lone(self.config.id))
            .then_some(since.after(self.config.election_timeout_ns))
    }

    /// Whether the disk hangs: such a member could not make a vote or an entry durable in time.
    pub(crate) fn is_stalled(&self, now: Mono) -> bool {
        self.stall_due().is_some_and(|due| due <= now)
    }

    fn wake_leader(&mut self, turn: &mut Turn<'_>) {
        if self.is_stalled(turn.now) {
            turn.notice(Notice::DiskStalled { term: self.term });
            self.hand_over(turn);
            return self.become_follower(self.term, None, turn);
        }
        if self.is_quorum_lost(turn.now) {
            turn.notice(Notice::QuorumLost { term: self.term });
            return self.become_follower(self.term, None, turn);
        }
        self.expire_transfer(turn.now);
        self.beat(turn);
    }

    /// No leader was heard of for long enough.
    fn wake_election(&mut self, turn: &mut Turn<'_>) {
        if self.may_campaign() && !self.is_stalled(turn.now) {
            return self.pre_campaign(turn);
        }
        self.become_follower(self.term, None, turn);
        self.arm(turn.now);
    }
}
