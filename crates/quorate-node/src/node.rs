//! The node: routes events to its groups and gathers what they want done.

use std::collections::BTreeMap;

use quorate_flight::Recorder;
use quorate_raft::{
    Broken, Core, EntryId, GroupId, Index, Mono, RecoverError, Recovered, SnapshotMeta, View,
};

use crate::cache::EntryCache;
use crate::group::{Group, Round};
use crate::{GroupStart, LogStore, NodeConfig, NodeEffects, NodeEvent, PeerMessage};

/// Drives the groups of one node. Neither clock nor disk nor network: time, log and messages are arguments.
///
/// A round is any number of [`Node::step`]s and one [`Node::finish`]; then the runtime carries out the effects. Everything
/// that was queued while the disk was busy becomes one batch that way.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    groups: BTreeMap<GroupId, Group>,
}

impl Node {
    /// A node of the groups that its disk gave back.
    ///
    /// `seed` drives all random choices; it should differ between nodes and between starts.
    ///
    /// # Errors
    /// Which group can't start, and which invariant its disk broke.
    pub fn recover(
        config: NodeConfig,
        groups: impl IntoIterator<Item = GroupStart>,
        now: Mono,
        seed: u64,
    ) -> Result<Self, (GroupId, RecoverError)> {
        let groups = groups.into_iter().map(|start| {
            let id = start.group;
            let group = recover_group(&config, start, now, seed ^ id.0.rotate_left(32));
            group.map(|group| (id, group)).map_err(|error| (id, error))
        });
        let groups = groups.collect::<Result<_, _>>()?;
        Ok(Self { config, groups })
    }

    /// Takes in one event. `log` is read when a peer or the state machine needs entries that are no longer in memory.
    pub fn step(
        &mut self,
        now: Mono,
        event: NodeEvent,
        log: &mut dyn LogStore,
        out: &mut NodeEffects,
    ) {
        let mut round = Round { now, config: &self.config, log, out };
        match event_group(&event) {
            Some(group) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.step(event, &mut round);
                }
            }
            None => {
                for group in self.groups.values_mut() {
                    group.step(event.clone(), &mut round);
                }
            }
        }
    }

    /// Ends a round: what was queued becomes batches. Call it before carrying out the effects.
    pub fn finish(&mut self, now: Mono, log: &mut dyn LogStore, out: &mut NodeEffects) {
        let mut round = Round { now, config: &self.config, log, out };
        for group in self.groups.values_mut() {
            group.finish(&mut round);
        }
    }

    /// When [`NodeEvent::Wake`] is due at the latest; a moment in the past means at once.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.groups.values().filter_map(|group| group.next_deadline(&self.config)).min()
    }

    /// What the core of `group` shows of itself.
    pub fn view(&self, group: GroupId) -> Option<View<'_>> {
        self.groups.get(&group).map(|group| group.core.view())
    }

    /// What tells this run of the process from others.
    pub fn incarnation(&self) -> u64 {
        self.config.incarnation
    }

    /// The first entry of each term in the log of `group`, in order.
    pub fn log_terms(&self, group: GroupId) -> impl DoubleEndedIterator<Item = EntryId> {
        let group = self.groups.get(&group);
        group.map(|group| group.core.log_terms()).into_iter().flatten()
    }

    /// Checks the invariants of the core of `group` as it is now, and with a flight recorder those since its last check as well. Takes
    /// time in proportion to the log. Between rounds only.
    ///
    /// # Errors
    /// Which one does not hold: a defect of the core. The node must stop.
    pub fn check(&mut self, group: GroupId) -> Result<(), Broken> {
        let Some(group) = self.groups.get_mut(&group) else { return Ok(()) };
        match &mut group.recorder {
            Some(recorder) => recorder.check(&group.core),
            None => group.core.check(),
        }
    }

    /// The flight recording of `group`: what its core was told of late, as a file for `quorate-sim replay`. `None` if there is no
    /// such group, or no recorder. May be called at any time, also from a panic in the middle of a step.
    pub fn recording(&self, group: GroupId) -> Option<Vec<u8>> {
        let recorder = self.groups.get(&group)?.recorder.as_ref()?;
        Some(recorder.recording(group))
    }

    /// How far the log of `group` is committed, as far as this node gave it out, and applied.
    pub fn progress(&self, group: GroupId) -> Option<Progress> {
        self.groups.get(&group).map(|group| Progress {
            committed: group.committed,
            handed: group.handed,
            applied: group.applied,
            proposals: group.proposals.len(),
            reads: group.reads.len(),
        })
    }
}

/// How far a group is on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last entry that is committed and durable here.
    pub committed: Index,
    /// The last entry that the state machine was given; it gets more as it applies.
    pub handed: Index,
    /// The last entry that the state machine has applied.
    pub applied: Index,
    /// Proposals of this node without an answer.
    pub proposals: usize,
    /// Reads of this node without an answer.
    pub reads: usize,
}

fn recover_group(
    config: &NodeConfig,
    start: GroupStart,
    now: Mono,
    seed: u64,
) -> Result<Group, RecoverError> {
    let GroupStart { group, log, applied, first_membership, .. } = start;
    let next = log.last_index().next();
    let base = log.base.unwrap_or_else(|| SnapshotMeta {
        membership: first_membership,
        ..SnapshotMeta::default()
    });
    let cache = EntryCache::new(next);
    let recovered = Recovered { hard_state: log.hard_state, base, entries: log.entries, applied };
    let core = Core::recover(config.raft.clone(), recovered, now, seed)?;
    let flight_bytes_max = config.flight_bytes_max;
    let recorder = (flight_bytes_max > 0).then(|| Recorder::new(flight_bytes_max));
    Ok(Group::new(group, core, cache, recorder, applied.index))
}

/// The group an event is for; `None`: all of them.
fn event_group(event: &NodeEvent) -> Option<GroupId> {
    match event {
        NodeEvent::Wake
        | NodeEvent::PeerUp { .. }
        | NodeEvent::PeerDown { .. }
        | NodeEvent::CommandVersion { .. } => None,
        NodeEvent::Peer { message, .. } => match message {
            PeerMessage::Raft { group, .. }
            | PeerMessage::Forward { group, .. }
            | PeerMessage::ForwardAck { group, .. }
            | PeerMessage::ForwardRefused { group, .. }
            | PeerMessage::SnapshotChunk { group, .. }
            | PeerMessage::SnapshotAck { group, .. } => Some(*group),
            PeerMessage::ServiceRequest { .. } | PeerMessage::ServiceReply { .. } => None,
        },
        NodeEvent::Propose { group, .. }
        | NodeEvent::Read { group, .. }
        | NodeEvent::Applied { group, .. }
        | NodeEvent::Checkpointed { group, .. }
        | NodeEvent::IoDone { group, .. }
        | NodeEvent::Fault { group, .. }
        | NodeEvent::Repaired { group }
        | NodeEvent::SnapshotSent { group, .. }
        | NodeEvent::SnapshotReceived { group, .. }
        | NodeEvent::TransferLeader { group, .. } => Some(*group),
    }
}
