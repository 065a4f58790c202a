//! What goes wrong, and the end of it.

use std::{
    future::Future,
    path::PathBuf,
    pin::pin,
    task::{Context, Waker},
};

use bytes::{BufMut, Bytes, BytesMut};
use quorate_etcd::{backend::Backend, handle::kv};
use quorate_node::{Envelope, PeerMessage};
use quorate_proto::etcdserverpb::DeleteRangeRequest;
use quorate_raft::{EntryId, GroupId, Index, Message, NodeId, Role, TERM_MAX, Term};
use quorate_storage::{
    vfs::{CrashStyle, Faults, MemoryVfs},
    wal::forged_headers,
};

use super::{
    judge::Told,
    member::{Member, Running},
    network::exponential,
    plan::{MS, Mishap, SECOND},
    world::{Event, World},
};
use crate::{
    dice::Dice,
    world::{Conviction, Judge},
};

/// How many proposals a member is left with that is cut off, at most.
const STRANDED_MAX: u64 = 40;
/// How long a forged value is, in bytes.
const FORGED_BYTES: usize = 12 << 10;
/// About how many calls of the disk an install takes, with the log's record of it.
const INSTALL_CALLS: u64 = 140;

impl World {
    /// Something goes wrong, and the next mishap is planned. Each draws numbers of its own, so that one that is left out changes
    /// none of the others.
    pub(super) fn mishap(&mut self) {
        if self.healed_at.is_some() {
            return;
        }
        let number = self.mishaps;
        self.mishaps += 1;
        let own = Dice::fork(self.plan.seed, 0x0bad_0000 + number);
        let usual = std::mem::replace(&mut self.dice, own);
        let at = self.now + exponential(&mut self.dice, self.plan.mishap_every_ns) + MS;
        self.put(at, Event::Mishap);
        if !self.plan.skipped.contains(&number) {
            self.go_wrong();
        }
        self.dice = usual;
    }

    fn go_wrong(&mut self) {
        let member = self.victim();
        let lasts_ns = self.dice.within(100 * MS, 8 * SECOND);
        let until = self.now + lasts_ns;
        let number = self.dice.position(self.plan.mishaps.len());
        let Some(mishap) = self.plan.mishaps.get(number).copied() else { return };
        self.chronicle.fault(self.now, None, format!("{mishap:?} {member}"), Some(until));
        match mishap {
            Mishap::Crash => self.crash_if_up(member),
            Mishap::CrashAll => (0..self.members.len()).for_each(|member| self.crash_if_up(member)),
            Mishap::PowerOff => self.power_off(member),
            Mishap::Pause => {
                if let Some(one) = self.members.get_mut(member) {
                    one.paused_until = until;
                    (one.awake_since, one.unheard_since) = (until + SECOND, None);
                }
            }
            Mishap::Isolate => self.cut(until, |from, to| from == member || to == member),
            Mishap::Split => {
                let side = self.dice.draw();
                let of = |number: usize| side >> (number % 64) & 1;
                self.cut(until, |from, to| of(from) != of(to));
            }
            Mishap::OneWay => self.cut(until, |from, _| from == member),
            Mishap::Bridge => self.cut(until, |from, to| from != member && to != member),
            Mishap::SlowDisk => {
                let more_ns = self.dice.within(50 * MS, 2 * SECOND);
                if let Some(one) = self.members.get_mut(member) {
                    one.slow_disk = (until, more_ns);
                }
            }
            Mishap::ApplyHangs => {
                let running = self.members.get_mut(member).and_then(|one| one.running.as_mut());
                if let Some(running) = running {
                    running.hang(until);
                }
            }
            Mishap::DiskHangs => {
                if let Some(one) = self.members.get_mut(member) {
                    one.hung_until = until;
                }
            }
            Mishap::SyncFails => {
                let sync = self.dice.below(8);
                self.break_disk(member, Faults { fail_sync: Some(sync), ..Faults::default() });
            }
            Mishap::DiskFull => self.fill_disk(member),
            Mishap::BitFlip => {
                self.rotten.insert(member);
                self.crash_if_up(member);
            }
            Mishap::Wipe => self.wipe(member),
            Mishap::WildTerm => self.claim_a_wild_term(member),
            Mishap::BadProposal => self.forward_garbage(),
            Mishap::Mislabel => self.doors.mislabels_until = until,
            Mishap::Reset => self.reset(member),
            Mishap::Strand => {
                self.cut(until, |from, to| from == member || to == member);
                let count = self.dice.within(1, STRANDED_MAX);
                self.leave_proposals(member, count, b"stranded");
            }
            Mishap::Forge => {
                let segment = self.newest_segment(member);
                let lead = self.dice.position(8);
                self.leave_proposals(member, 1, &forged_headers(segment, (lead, FORGED_BYTES)));
            }
            Mishap::InstallCut => self.install_cut = true,
        }
    }

    /// Anybody, or whoever leads.
    fn victim(&mut self) -> usize {
        let anybody = self.dice.position(self.members.len());
        let leads = |member: &Member| {
            let view = member.running.as_ref()?.raft.view()?;
            (view.role == Role::Leader).then_some(member.number)
        };
        let leader = self.members.iter().find_map(leads);
        leader.filter(|_| self.dice.chance(400_000)).unwrap_or(anybody)
    }

    fn crash_if_up(&mut self, member: usize) {
        if self.members.get(member).is_some_and(|one| one.running.is_some()) {
            self.crash(member);
        }
    }

    /// The power goes at one of the next calls of the disk, also of one that is about to start again.
    fn power_off(&mut self, member: usize) {
        let call = self.dice.below(60);
        let faults = Faults { power_off_at_call: Some(call), ..Faults::default() };
        self.break_disk(member, faults);
    }

    /// The number of the newest segment of this member's log.
    fn newest_segment(&self, member: usize) -> u64 {
        let files = self.members.get(member).map(|one| one.disk.files()).unwrap_or_default();
        let number = |(path, _): &(PathBuf, u64)| {
            let name = path.file_name()?.to_str()?.strip_suffix(".wal")?;
            u64::from_str_radix(name, 16).ok()
        };
        files.iter().filter_map(number).max().unwrap_or(1)
    }

    /// Removes a key that is not there. Nobody waits for the answers, and nothing is changed: no history has to know of them.
    fn leave_proposals(&mut self, member: usize, count: u64, key: &[u8]) {
        let Some(one) = self.members.get(member) else { return };
        let Some(running) = &one.running else { return };
        one.tell_time(self.now);
        for _ in 0..count {
            let request = DeleteRangeRequest { key: key.to_vec().into(), ..Default::default() };
            let answer = kv::delete_range(&running.front, request);
            let _ = pin!(answer).poll(&mut Context::from_waker(Waker::noop()));
        }
        self.plan_rounds(member);
    }

    /// The power goes at one of the next calls of the disk when an install is under way and one was to be cut short.
    pub(super) fn maybe_cut_install(&mut self, member: usize, installs: bool) {
        if installs && std::mem::take(&mut self.install_cut) {
            let call = self.dice.below(INSTALL_CALLS);
            let faults = Faults { power_off_at_call: Some(call), ..Faults::default() };
            self.break_disk(member, faults);
        }
    }

    fn break_disk(&mut self, member: usize, faults: Faults) {
        if let Some(one) = self.members.get(member) {
            one.disk.set_faults(faults);
            self.excused.insert(member);
        }
    }

    fn fill_disk(&mut self, member: usize) {
        let Some(one) = self.members.get(member) else { return };
        let used: u64 = one.disk.files().iter().map(|(_, size_bytes)| size_bytes).sum();
        let capacity_bytes = Some(used + self.dice.below(64 << 10));
        self.break_disk(member, Faults { capacity_bytes, ..Faults::default() });
    }

    fn cut(&mut self, until: u64, cuts: impl Fn(usize, usize) -> bool) {
        for from in 0..self.members.len() {
            for to in (0..self.members.len()).filter(|to| *to != from) {
                if cuts(from, to) {
                    self.network.cut(from, to, until);
                }
            }
        }
    }

    /// A broken process, or one of a later version, forwards what nobody can apply.
    fn forward_garbage(&mut self) {
        let leads = |member: &Member| {
            let view = member.running.as_ref()?.raft.view()?;
            (view.role == Role::Leader).then_some((member.number, view.term))
        };
        let Some((to, term)) = self.members.iter().find_map(leads) else { return };
        let from = (to + 1) % self.members.len();
        let Some(card) = self.card(from) else { return };
        let mut later = BytesMut::new();
        Envelope::begin(NodeId(1), self.dice.draw(), &mut later);
        later.put_u8(200);
        let mut proposals = vec![Bytes::from_static(&[9; 20]), later.freeze(), Bytes::new()];
        proposals.truncate(1 + self.dice.position(3));
        let (group, incarnation, number) = (GroupId(0), self.dice.draw(), 0);
        let message = PeerMessage::Forward { group, term, incarnation, number, proposals };
        self.put(self.now, Event::Arrival { from, to, card, message });
    }

    /// A broken process speaks for another member, and claims one of the last terms that there are.
    fn claim_a_wild_term(&mut self, to: usize) {
        let from = self.dice.position(self.members.len());
        let Some(card) = self.card(from).filter(|_| from != to) else { return };
        let term = Term(TERM_MAX - self.dice.below(3));
        let message = match self.dice.below(3) {
            0 => Message::HeartbeatReply { term, round: 0 },
            1 => Message::Vote { term, pre_vote: false, granted: false },
            _ => {
                let last = EntryId { term: Term(term.0 - 1), index: Index(1 << 40) };
                Message::RequestVote { term, pre_vote: false, last, transfer: true }
            }
        };
        let message = PeerMessage::Raft { group: GroupId(0), message };
        self.put(self.now, Event::Arrival { from, to, card, message });
    }

    /// The connections of a member break, both ways, and come back.
    fn reset(&mut self, member: usize) {
        self.forget_arrivals(member);
        for other in (0..self.members.len()).filter(|other| *other != member) {
            for (at, peer) in [(other, member), (member, other)] {
                let down = self.now + self.dice.below(MS);
                self.put(down, Event::Connection { at, peer, up: false });
                let up = down + self.dice.within(MS, 100 * MS);
                self.put(up, Event::Connection { at, peer, up: true });
            }
        }
    }

    /// A bit flips in a file of a member that is about to start. On a copy of its disk a server must refuse to start, or show
    /// the same state. Then the member starts from the disk as it was: an operator would have it repaired from the others,
    /// which takes membership changes.
    pub(super) fn try_a_flipped_bit(&mut self, number: usize) -> Result<(), Conviction> {
        let now = self.now;
        let Some(member) = self.members.get_mut(number) else { return Ok(()) };
        // A lost machine may lose the marks that tell damage to the very last batch from a torn one: docs/formats/wal.md.
        let told = if member.power_was_lost { Told::default() } else { self.witness.told(number) };
        let good = member.disk.crashed_copy(CrashStyle::KeepAll, 0);
        let bad = member.disk.crashed_copy(CrashStyle::KeepAll, 0);
        let files: Vec<_> =
            bad.files().into_iter().filter(|(_, size_bytes)| *size_bytes > 0).collect();
        let Some((path, size_bytes)) = self.dice.pick(&files).cloned() else { return Ok(()) };
        let (offset, bit) = (self.dice.below(size_bytes), self.dice.below(8));
        bad.flip(&path, offset, 1 << bit);
        let Ok(truth) = member.start_on(&good, now) else { return Ok(()) };
        let Ok(shown) = member.start_on(&bad, now) else { return Ok(()) };
        let place = format!("{} at {offset}, bit {bit}", path.display());
        compare(&truth, &shown, told).map_err(|what| {
            let detail = format!("member {number} starts with a flipped bit ({place}): {what}");
            Conviction::new(Judge::Corruption, detail)
        })?;
        let off = |disk: &MemoryVfs| disk.crash(CrashStyle::KeepAll, 0);
        off(&good);
        off(&bad);
        Ok(())
    }

    /// The safety phase ends: everything is mended, and from now on nothing goes wrong.
    pub(super) fn heal(&mut self) {
        self.healed_at = Some(self.now);
        self.chronicle.fault(self.now, None, "heals".into(), None);
        self.network.heal();
        self.rotten.clear();
        self.install_cut = false;
        for member in 0..self.members.len() {
            let Some(one) = self.members.get_mut(member) else { continue };
            one.paused_until = 0;
            one.slow_disk = (0, 0);
            one.hung_until = 0;
            let is_up = one.running.is_some();
            if self.excused.contains(&member) {
                // A disk that failed once can't be trusted by who knows it: its process ends.
                if is_up {
                    self.crash(member);
                } else if let Some(one) = self.members.get(member) {
                    one.disk.set_faults(Faults::default());
                    self.excused.remove(&member);
                }
            }
        }
    }
}

/// What a server with a flipped bit shows that it must not.
fn compare(truth: &Running, shown: &Running, told: Told) -> Result<(), String> {
    let (right, wrong) = (truth.handle.reader(), shown.handle.reader());
    if right.applied() != wrong.applied() {
        return Err(format!("applied {:?} instead of {:?}", wrong.applied(), right.applied()));
    }
    // A flipped bit that is found when it is read is an error, and no wrong answer.
    if let (Ok(right), Ok(wrong)) = (right.hash_kv(0), wrong.hash_kv(0))
        && right != wrong
    {
        return Err(format!("the state is {wrong:?} instead of {right:?}"));
    }
    let (Some(right), Some(wrong)) = (truth.raft.view(), shown.raft.view()) else { return Ok(()) };
    if wrong.last.index.0 < told.durable.min(right.last.index.0) {
        return Err(format!("its log ends at {} instead of {}", wrong.last, right.last));
    }
    // Of a step in which the process died, nothing was told: its record may go.
    let is_back = wrong.term.0 < told.term.min(right.term.0);
    let forgets = wrong.term.0 == told.term && told.vote.is_some() && wrong.vote != told.vote;
    if is_back || forgets {
        return Err(format!(
            "term and vote are {:?} instead of {:?}",
            (wrong.term, wrong.vote),
            (right.term, right.vote)
        ));
    }
    Ok(())
}
