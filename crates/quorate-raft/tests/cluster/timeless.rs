//! A cluster outside time, for runs that an explorer of all states found.
//!
//! Such a run says which timer is due when, and nothing of how long anything took. So here no timer runs: after each step all
//! of a member's are put off, and one is due when the script says so. A member starts with the number of its starts as its
//! seed, and tokens count from the newest durable write on: so it says the same as the explorer's.
//!
//! A snapshot's sender hears how it went when the script says so.

use quorate_raft::{IoToken, NOW, NodeId, SnapshotMeta, Timer};

use super::member::{Input, Member, Outcome};
use super::{Cluster, Packet};

impl Cluster {
    /// Takes a cluster that has done nothing yet out of time. If it is not judged, cores with a bug can show what they do.
    pub(crate) fn stop_time(&mut self, is_judged: bool) {
        (self.now, self.is_timeless, self.is_judged) = (NOW, true, is_judged);
        for id in self.ids() {
            self.members.get_mut(&id).unwrap().starts = 0;
            self.restart(id);
        }
    }

    /// A timer of `id` is due. Silence wakes nobody.
    pub(crate) fn due(&mut self, id: NodeId, timer: Timer) -> Option<Outcome> {
        let core = self.members.get_mut(&id).unwrap().core.as_mut().unwrap();
        core.explore_due(timer);
        (timer != Timer::Silence).then(|| self.step(id, &Input::Wake))
    }

    /// The snapshot that `id` sent last to `to` was sent whole, or was not.
    pub(crate) fn snapshot_sent(&mut self, id: NodeId, to: NodeId, whole: bool) -> Outcome {
        let meta: Option<SnapshotMeta> = self.snapshots.remove(&(id, to)).filter(|_| whole);
        self.step(id, &Input::SnapshotSent { to, meta })
    }

    /// A message between these two, chosen by what it says.
    pub(crate) fn find(
        &self,
        (from, to): (NodeId, NodeId),
        says: impl Fn(&Packet) -> bool,
    ) -> Option<usize> {
        self.flying.iter().position(|packet| (packet.from, packet.to) == (from, to) && says(packet))
    }
}

impl Member {
    /// Puts off all timers, and lowers all tokens by the newest durable one.
    pub(crate) fn settle(&mut self) {
        let Some(core) = &mut self.core else { return };
        let shift = core.explore_settle();
        let lower = |token: &mut IoToken| token.0 = token.0.saturating_sub(shift);
        lower(&mut self.disk.done);
        self.disk.queue.iter_mut().for_each(|write| lower(&mut write.token));
        self.held.iter_mut().for_each(|(token, _, _)| lower(token));
    }
}
