//! Members of one group with their disks, and the court that looks at every step. It has no clock and no network: whoever plays
//! with it says which member steps when, and carries what they send.
//!
//! Every sequence of calls is a legal run, as long as messages are delivered to whom they are sent: a member that is not woken is
//! paused, a message that is not delivered is lost, a write that is not synced is slow. So a run can be cut down call by call.

mod atlas;
mod conviction;
mod disk;
mod entry;
mod judge;
mod member;

use crate::mutants::driver as bugs;
use quorate_raft::{Config, Effects, Fault, Index, Io, Membership, Mono, NodeId, Reject, Verdict};

pub use atlas::Atlas;
pub(crate) use conviction::hold;
pub use conviction::{Conviction, Judge};
pub use disk::{Disk, Image, Part, Snapshot, Write};
pub use entry::{Entry, Shelf, size_of};
pub use judge::{Counts, Court};
pub use member::{Body, Input, Member, Parcel, Wire};

/// All members of one group.
#[derive(Debug)]
pub struct World {
    /// In order of their ids, which begin at 1.
    pub members: Vec<Member>,
    /// Who looks at them.
    pub court: Court,
    /// What was sent and not taken yet.
    pub outbox: Vec<Parcel>,
    /// Whether snapshots are announced before they are sent.
    pub announce: bool,
    /// Which disks may be ruined.
    pub atlas: Atlas,
    effects: Effects,
}

/// The id of the member at this seat.
pub fn id_of(seat: usize) -> NodeId {
    NodeId(seat as u64 + 1)
}

/// Where the member with this id sits.
pub fn seat_of(id: NodeId) -> usize {
    usize::try_from(id.0.wrapping_sub(1)).unwrap_or(usize::MAX)
}

impl World {
    /// Fresh members, none of which runs: `voters`, and behind them `learners`.
    pub fn new(config: &Config, voters: usize, learners: usize) -> Self {
        let voting: Vec<NodeId> = (0..voters).map(id_of).collect();
        let membership = Membership {
            learners: (voters..voters + learners).map(id_of).collect(),
            ..Membership::of_voters(voting.iter().copied())
        };
        let member =
            |seat| Member::new(Config { id: id_of(seat), ..config.clone() }, membership.clone());
        Self {
            members: (0..voters + learners).map(member).collect(),
            court: Court::new(voting),
            outbox: Vec::new(),
            announce: false,
            atlas: Atlas::of(voters),
            effects: Effects::default(),
        }
    }

    /// The member, if it runs.
    pub fn running(&self, seat: usize) -> Option<&Member> {
        self.members.get(seat).filter(|member| member.core.is_some())
    }

    /// What a running member shows.
    pub fn view(&self, seat: usize) -> Option<quorate_raft::View<'_>> {
        self.members.get(seat)?.core.as_ref().map(quorate_raft::Core::view)
    }

    /// Starts a member that is down.
    ///
    /// # Errors
    /// It can't start from what its disk holds.
    pub fn start(&mut self, seat: usize, now: Mono, seed: u64) -> Result<(), Conviction> {
        let Some(member) = self.members.get_mut(seat) else { return Ok(()) };
        if member.core.is_some() || member.is_gone || member.disk.is_full {
            return Ok(());
        }
        if member.disk.damage.is_some() && member.bug != bugs::TORN_FOR_DAMAGED {
            // It reads all of its disk, and says where it is damaged.
            member.is_gone = true;
            return Ok(());
        }
        let id = member.id();
        let started = member.start(now, seed);
        self.court.check_disk(seat, &member.disk.image)?;
        started.map_err(|error| Conviction::new(Judge::Recovery, format!("node {id}: {error}")))?;
        self.court.after_step(&self.members, seat)
    }

    /// Power is lost at a member; the `kept` oldest of its pending writes made it to the disk.
    ///
    /// # Errors
    /// One of those writes breaks a promise.
    pub fn crash(&mut self, seat: usize, kept: usize) -> Result<(), Conviction> {
        let Some(member) = self.members.get_mut(seat) else { return Ok(()) };
        if member.core.is_none() {
            return Ok(());
        }
        self.stop(seat, kept)?;
        let Some(member) = self.members.get_mut(seat) else { return Ok(()) };
        let lying = member.bug == bugs::LYING_SYNC;
        if member.disk.power_off() && !lying {
            self.lost(seat);
        }
        Ok(())
    }

    /// A process is killed; the system still writes all that it was given.
    ///
    /// # Errors
    /// One of those writes breaks a promise.
    pub fn kill(&mut self, seat: usize) -> Result<(), Conviction> {
        if self.running(seat).is_some() { self.stop(seat, usize::MAX) } else { Ok(()) }
    }

    fn stop(&mut self, seat: usize, kept: usize) -> Result<(), Conviction> {
        let Some(member) = self.members.get_mut(seat) else { return Ok(()) };
        member.sync(kept, &self.court)?;
        self.court.wrote(seat, &member.disk.image);
        member.stop();
        let (id, image) = (member.id(), &member.disk.image);
        self.court.crashed(id);
        self.court.forget_term_behind(id, image.hard_state.term);
        self.court.forget_entries_behind(id, image.log.last().index);
        Ok(())
    }

    /// A member's disk does not hold any more what was acknowledged. It is gone, unless the atlas lets it come back.
    fn lost(&mut self, seat: usize) {
        let may_return = self.atlas.lose(seat);
        let Some(member) = self.members.get_mut(seat) else { return };
        if may_return || member.bug == bugs::REJOIN_WIPED {
            self.court.wrote(seat, &member.disk.image);
        } else {
            member.is_gone = true;
        }
    }

    /// The drive of a member begins to report syncs of what it holds only in its cache.
    pub fn lie(&mut self, seat: usize) {
        if self.atlas.may_lose(seat)
            && let Some(member) = self.members.get_mut(seat)
        {
            member.disk.lie();
        }
    }

    /// A part of a member's disk is damaged: a bit flipped, or a write went to the wrong place.
    pub fn damage(&mut self, seat: usize, part: Part) {
        if self.atlas.may_stop(seat)
            && let Some(member) = self.members.get_mut(seat)
        {
            member.disk.damage = Some(part);
        }
    }

    /// A member's disk is empty, and its process dead.
    ///
    /// # Errors
    /// A write that was under way breaks a promise.
    pub fn wipe(&mut self, seat: usize) -> Result<(), Conviction> {
        if !self.atlas.may_lose(seat) {
            return Ok(());
        }
        self.crash(seat, 0)?;
        let Some(member) = self.members.get_mut(seat) else { return Ok(()) };
        member.disk.wipe();
        self.lost(seat);
        Ok(())
    }

    /// The `count` oldest pending writes of a member become durable, and it hears of it.
    ///
    /// # Errors
    /// A property is broken.
    pub fn sync(
        &mut self,
        seat: usize,
        count: usize,
        now: Mono,
    ) -> Result<Option<Verdict>, Conviction> {
        let Some(member) = self.members.get_mut(seat) else { return Ok(None) };
        let newest = member.sync(count, &self.court)?;
        self.court.wrote(seat, &member.disk.image);
        match newest {
            Some(token) => self.step(seat, now, Input::Synced(token)),
            None => Ok(None),
        }
    }

    /// A client proposes `count` payloads at a member.
    ///
    /// # Errors
    /// A property is broken.
    pub fn propose(
        &mut self,
        seat: usize,
        count: u64,
        now: Mono,
    ) -> Result<Option<Verdict>, Conviction> {
        if self.running(seat).is_none() {
            return Ok(None);
        }
        let first = self.court.propose(count);
        self.step(seat, now, Input::Propose { first, count })
    }

    /// A client reads at a member.
    ///
    /// # Errors
    /// A property is broken.
    pub fn read(
        &mut self,
        seat: usize,
        context: u64,
        now: Mono,
    ) -> Result<Option<Verdict>, Conviction> {
        if self.running(seat).is_none() {
            return Ok(None);
        }
        self.court.read(id_of(seat), context);
        self.step(seat, now, Input::Read(context))
    }

    /// The state is saved, and the log dropped but for its `kept` newest applied entries.
    ///
    /// # Errors
    /// A property is broken.
    pub fn compact(
        &mut self,
        seat: usize,
        kept: u64,
        now: Mono,
    ) -> Result<Option<Verdict>, Conviction> {
        let Some(upto) = self.compactable(seat, kept) else { return Ok(None) };
        self.step(seat, now, Input::Compact(upto))
    }

    /// How far a member may drop its log and keep its `kept` newest applied entries; `None` if there is nothing to drop.
    pub fn compactable(&self, seat: usize, kept: u64) -> Option<Index> {
        let view = self.view(seat)?;
        let upto = Index(view.released.min(view.durable).0.saturating_sub(kept));
        // What a snapshot brought is in the state machine only when it is durable.
        let installing = |write: &Write| write.install.is_some();
        let waits = self.members.get(seat)?.disk.queue.iter().any(installing);
        (upto > view.base.index && !waits).then_some(upto)
    }

    /// Gives one event to a member, does what its core wants, and looks at what has become of it. `None`: it does not run.
    ///
    /// # Errors
    /// A property is broken.
    pub fn step(
        &mut self,
        seat: usize,
        now: Mono,
        mut input: Input,
    ) -> Result<Option<Verdict>, Conviction> {
        let mut effects = std::mem::take(&mut self.effects);
        effects.clear();
        let outcome = self.step_with(seat, now, &mut input, &mut effects);
        self.effects = effects;
        outcome
    }

    fn step_with(
        &mut self,
        seat: usize,
        now: Mono,
        input: &mut Input,
        effects: &mut Effects,
    ) -> Result<Option<Verdict>, Conviction> {
        let Some(member) = self.members.get_mut(seat) else { return Ok(None) };
        let Some(verdict) = member.give(now, input, effects) else { return Ok(None) };
        check_verdict(member, input, verdict)?;
        if let Some(units) = member.doom {
            self.die_within(seat, input, effects, units)?;
            return Ok(Some(verdict));
        }
        if let Input::Synced(_) = input {
            member.let_go(&mut self.outbox)?;
        }
        if member.disk.is_full && !effects.io.is_empty() {
            // The write is refused, and the process ends before it says anything of it.
            self.kill(seat)?;
            return Ok(Some(verdict));
        }
        for io in &effects.io {
            if let Some(range) = member.begin_write(io, input, &mut self.court)? {
                self.court.appended(member, range)?;
            }
        }
        for send in effects.send.drain(..) {
            member.send(send, &mut self.outbox)?;
        }
        if member.disk.damage == Some(Part::Snapshot) && !effects.snapshots.is_empty() {
            // It reads the state that it is to send, and finds the damage.
            self.kill(seat)?;
            return Ok(Some(verdict));
        }
        for peer in &effects.snapshots {
            member.send_snapshot(*peer, self.announce, &mut self.outbox);
        }
        if let (Input::Compact(upto), Verdict::Ok) = (&*input, verdict) {
            member.compact(*upto);
            self.court.wrote(seat, &member.disk.image);
        }
        self.court.after_step(&self.members, seat)?;
        self.finish(seat, effects)?;
        Ok(Some(verdict))
    }

    /// Applies and answers, now that the court knows what is committed.
    fn finish(&mut self, seat: usize, effects: &Effects) -> Result<(), Conviction> {
        let Some(member) = self.members.get_mut(seat) else { return Ok(()) };
        if let Some(range) = effects.commit {
            member.apply(range, &self.court)?;
        }
        let id = member.id();
        for grant in &effects.reads {
            self.court.granted(id, *grant)?;
        }
        for context in &effects.reads_dropped {
            self.court.dropped(id, context.0)?;
        }
        judge::remember(member);
        Ok(())
    }

    /// The process dies after `units` of the effects of this step were carried out.
    fn die_within(
        &mut self,
        seat: usize,
        input: &Input,
        effects: &mut Effects,
        units: u32,
    ) -> Result<(), Conviction> {
        let Some(member) = self.members.get_mut(seat) else { return Ok(()) };
        let mut left = usize::try_from(units).unwrap_or(usize::MAX);
        let writes: Vec<Io> = effects.io.drain(..effects.io.len().min(left)).collect();
        left -= writes.len();
        for io in &writes {
            if let Some(range) = member.begin_write(io, input, &mut self.court)? {
                self.court.appended(member, range)?;
            }
        }
        for send in effects.send.drain(..).take(left) {
            member.send(send, &mut self.outbox)?;
        }
        self.crash(seat, usize::MAX * usize::from(units % 2 == 1))
    }
}

/// Honest peers never contradict the protocol, and a driver that keeps its contract is never refused.
fn check_verdict(member: &Member, input: &Input, verdict: Verdict) -> Result<(), Conviction> {
    let arrived = matches!(input, Input::Arrival { .. });
    let malformed =
        matches!(verdict, Verdict::Rejected(Reject::Malformed(_) | Reject::Conflict { .. }));
    let unknown = matches!(verdict, Verdict::Rejected(Reject::UnknownPeer(_)));
    let refused = malformed || (unknown && arrived);
    hold(!refused, Judge::Contract, || {
        format!("node {} refuses {input:?}: {verdict:?}", member.id())
    })
}

/// The disk faults that a running member can hear of.
pub fn fault_of(number: u64) -> Fault {
    match number % 3 {
        0 => Fault::DiskFull,
        1 => Fault::SlowDisk { stalled_for_ns: 1 },
        _ => Fault::Corrupt(quorate_raft::EntryRange { first: Index(1), last: Index(1) }),
    }
}

#[cfg(test)]
mod tests;
