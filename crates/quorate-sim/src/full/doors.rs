//! Who talks to whom, as the handshake of real connections decides it, and members whose disk is lost.
//!
//! A member that starts on an empty disk draws another directory's number. Every other member must refuse it, and its process
//! must end; it is gone for the rest of the run. What the group loses that way, it does without: at most as many members as a
//! quorum can miss. A disk is lost only when all others have met its member, since who has not can't know better.

use std::collections::BTreeSet;

use quorate_node::{Admission, MemberCard, PeerMessage};
use quorate_storage::vfs::CrashStyle;

use super::{
    bugs,
    plan::MS,
    world::{Event, World},
};
use crate::world::{Conviction, Judge};

/// What a process says that may not go on because its directory is another one than its member's.
const REFUSED: &str = "has already been bootstrapped";

/// Who met whom, and whose disk is lost.
#[derive(Debug, Default)]
pub(super) struct Doors {
    /// Who has met whom, durably.
    met: BTreeSet<(usize, usize)>,
    /// Members whose disk was lost, with the promises on it.
    wiped: BTreeSet<usize>,
    /// Until then, snapshots are sent with others that tell a wrong end.
    pub(super) mislabels_until: u64,
}

impl Doors {
    /// Whether this member's disk was lost.
    pub(super) fn is_wiped(&self, member: usize) -> bool {
        self.wiped.contains(&member)
    }
}

impl World {
    /// Loses a disk, if the group can do without it.
    pub(super) fn wipe(&mut self, member: usize) {
        let spare = (self.members.len() - 1) / 2;
        let others = (0..self.members.len()).filter(|other| *other != member);
        let known = others
            .filter(|other| !self.doors.is_wiped(*other))
            .all(|other| self.doors.met.contains(&(other, member)));
        if self.doors.is_wiped(member) || self.doors.wiped.len() >= spare || !known {
            return;
        }
        if self.members.get(member).is_some_and(|one| one.running.is_some()) {
            self.crash(member);
        }
        self.doors.wiped.insert(member);
        let disk = bugs::disk(self.plan.mutant, self.dice.draw());
        self.excused.remove(&member);
        if let Some(one) = self.members.get_mut(member) {
            one.disk = disk;
        }
    }

    /// The card of a member that runs.
    pub(super) fn card(&self, member: usize) -> Option<MemberCard> {
        Some(self.members.get(member)?.running.as_ref()?.handle.card())
    }

    /// Whether `member` talks to `peer`, which says `card` of itself.
    pub(super) fn admits(&mut self, member: usize, peer: usize, card: MemberCard) -> Admission {
        let unavailable = Admission::Unavailable;
        let Some(id) = self.members.get(peer).map(|one| one.id) else { return unavailable };
        let Some(one) = self.members.get(member) else { return unavailable };
        let Some(running) = &one.running else { return unavailable };
        let admitted = running.handle.admits(id, card);
        if admitted == Admission::Admitted && !self.doors.is_wiped(peer) {
            self.doors.met.insert((member, peer));
        }
        admitted
    }

    /// Whether `member` talks to `peer` as it is now; a peer that doesn't run is not asked who it is.
    pub(super) fn would_dial(&mut self, member: usize, peer: usize) -> bool {
        let card = self.card(peer);
        card.is_none_or(|card| self.admits(member, peer, card) == Admission::Admitted)
    }

    /// A message reaches its receiver, if the sender is one to be listened to.
    pub(super) fn arrive(
        &mut self,
        (from, to): (usize, usize),
        card: MemberCard,
        message: PeerMessage,
    ) -> Result<(), Conviction> {
        let Some(one) = self.members.get(to) else { return Ok(()) };
        let is_chunk = matches!(message, PeerMessage::SnapshotChunk { .. });
        let until = if is_chunk { one.paused_until.max(one.hung_until) } else { one.paused_until };
        if until > self.now {
            self.put(until, Event::Arrival { from, to, card, message });
            return Ok(());
        }
        if self.card(to).is_some() {
            match self.admits(to, from, card) {
                Admission::Admitted => {}
                Admission::OtherDirectory => {
                    self.put(self.now + MS, Event::Refused { member: from, card, by: to });
                    return self.settle(to);
                }
                Admission::Unavailable => return self.settle(to),
            }
        }
        let Some(sender) = self.members.get(from).map(|one| one.id) else { return Ok(()) };
        let now = self.now;
        let Some(one) = self.members.get_mut(to) else { return Ok(()) };
        let Some(running) = &one.running else { return Ok(()) };
        one.tell_time(now);
        let is_raft = matches!(message, PeerMessage::Raft { .. });
        let calls = one.disk.counts();
        running.handle.take_peer_message(sender, message);
        if is_raft {
            one.unheard_since.get_or_insert(now);
        }
        if !is_chunk {
            self.look_at_calls(to, calls, "whoever reads what the urgent lane brings")?;
        }
        self.settle(to)
    }

    /// What a leader that mislabels its snapshots sends before this message.
    pub(super) fn mislabelled(&self, message: &PeerMessage) -> Option<PeerMessage> {
        let mut wrong = message.clone();
        let PeerMessage::SnapshotChunk { transfer, snapshot, .. } = &mut wrong else { return None };
        // An earlier one, so that the true one begins anew behind it.
        *transfer = transfer.wrapping_sub(1);
        snapshot.last.index.0 += 1;
        (self.doors.mislabels_until > self.now).then_some(wrong)
    }

    /// A member hears that `by` knows it from another directory, if it is still the process that was refused.
    pub(super) fn refused(
        &mut self,
        member: usize,
        card: MemberCard,
        by: usize,
    ) -> Result<(), Conviction> {
        let Some(id) = self.members.get(by).map(|one| one.id) else { return Ok(()) };
        if self.card(member) != Some(card) {
            return Ok(());
        }
        let until = self.members.get(member).map_or(0, |one| one.paused_until);
        if until > self.now {
            self.put(until + MS, Event::Refused { member, card, by });
            return Ok(());
        }
        if let Some(running) = self.members.get(member).and_then(|one| one.running.as_ref()) {
            running.handle.is_known_from_elsewhere(id);
        }
        self.settle(member)
    }

    /// A process ended because of its directory. Only one whose disk was lost may; it does not come back.
    pub(super) fn ends_for_its_directory(
        &mut self,
        member: usize,
        error: &anyhow::Error,
    ) -> Result<bool, Conviction> {
        if !error.to_string().contains(REFUSED) {
            return Ok(false);
        }
        if !self.doors.is_wiped(member) {
            let detail = format!("member {member} has its own disk and is refused: {error:#}");
            return Err(Conviction::new(Judge::Contract, detail));
        }
        self.chronicle.fault(self.now, Some(member), format!("ends: {error:#}"), None);
        if let Some(one) = self.members.get(member) {
            one.disk.crash(CrashStyle::KeepAll, 0);
        }
        self.lose_process(member);
        Ok(true)
    }

    /// What is not yet as it must be: who lost its disk has ended, and everybody else knows everybody's directory by the log.
    pub(super) fn unknown_directory(&self) -> Option<String> {
        let lost = |number: &usize| self.doors.is_wiped(*number) && self.card(*number).is_some();
        let numbers = 0..self.members.len();
        if let Some(number) = numbers.clone().find(lost) {
            return Some(format!("member {number} has lost its disk and still runs"));
        }
        numbers.filter(|number| !self.doors.is_wiped(*number)).find_map(|number| {
            let known = self.members.get(number)?.reader()?.member_directories().ok()?.len();
            let all = self.members.len();
            (known < all)
                .then(|| format!("member {number} knows {known} directories of {all} by the log"))
        })
    }
}
