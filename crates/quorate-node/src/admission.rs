//! What may stand in the log: only what every member can apply.
//!
//! An entry that can't be applied stops every member that meets it, at each of its starts again. So a leader looks at what it
//! is about to append, its own and what others forward, and a follower at what a leader sends: an envelope that it knows
//! around a command that can be read. What a command is, the [`CommandPort`] says; this crate knows only its version. A leader
//! appends nothing newer than what all members can apply ([`NodeEvent::CommandVersion`](crate::NodeEvent)).

use bytes::Bytes;

use crate::{ENVELOPE_BYTES, Entry, Envelope, Unreadable};
use quorate_raft::EntryKind;

/// How the state machine tells what it can apply.
#[derive(Clone, Copy, Debug)]
pub struct CommandPort {
    /// The newest version that this member's state machine can apply.
    pub newest: u8,
    /// The version that a state machine must know to apply the command; `None`: it is no command of any known version. Of a
    /// later version only the version itself is read.
    pub version_of: fn(&Bytes) -> Option<u8>,
}

impl Default for CommandPort {
    /// A state machine that applies whatever it is given.
    fn default() -> Self {
        Self { newest: 0, version_of: |_| Some(0) }
    }
}

impl CommandPort {
    /// The version that a member must know to apply this sealed command; `None`: nobody can.
    fn version_of_sealed(&self, payload: &Bytes) -> Option<u8> {
        Envelope::open(payload).ok()?;
        (self.version_of)(&payload.slice(ENVELOPE_BYTES..))
    }

    /// Whether every member can apply this sealed command, when all know commands up to `version_max`; if not, what it is.
    pub(crate) fn admit(&self, payload: &Bytes, version_max: u8) -> Result<(), Option<u8>> {
        match self.version_of_sealed(payload) {
            Some(version) if version <= version_max => Ok(()),
            other => Err(other),
        }
    }

    /// What of a leader's entries can't be applied here.
    pub(crate) fn unreadable(&self, entries: &[Entry]) -> Option<Unreadable> {
        let normal = entries.iter().filter(|entry| entry.meta.kind == EntryKind::Normal);
        let found = normal.filter_map(|entry| self.admit(&entry.payload, self.newest).err());
        tally(found)
    }
}

/// Counts what was refused; `None`: nothing was.
pub(crate) fn tally(found: impl Iterator<Item = Option<u8>>) -> Option<Unreadable> {
    let add = |sum: Option<Unreadable>, version: Option<u8>| {
        let before = sum.unwrap_or(Unreadable { count: 0, version: None });
        Some(Unreadable { count: before.count + 1, version: before.version.max(version) })
    };
    found.fold(None, add)
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use quorate_raft::{
        Config, EntryId, EntryMeta, GroupId, Index, Membership, Message, Mono, NodeId, Role, Term,
    };

    use super::*;
    use crate::{
        GroupLog, GroupStart, MemoryLogStore, Node, NodeConfig, NodeEffects, NodeEvent, NodeIo,
        PeerMessage,
    };

    const GROUP: GroupId = GroupId(0);
    const TWO: NodeId = NodeId(2);

    /// One of three members, and what it wanted last.
    struct Member {
        node: Node,
        log: MemoryLogStore,
        out: NodeEffects,
        now: Mono,
    }

    /// A command is its version; 0 is none.
    fn config() -> NodeConfig {
        let raft = Config { id: NodeId(1), ..Config::default() };
        let version_of = |command: &Bytes| command.first().copied().filter(|version| *version > 0);
        NodeConfig { commands: CommandPort { newest: 3, version_of }, ..NodeConfig::new(raft, 5) }
    }

    impl Member {
        fn new() -> Self {
            let start = GroupStart {
                group: GROUP,
                log: GroupLog::default(),
                applied: EntryId::default(),
                installed: None,
                first_membership: Membership::of_voters([1, 2, 3].map(NodeId)),
            };
            let node = Node::recover(config(), [start], Mono(0), 1).unwrap();
            let (log, out) = (MemoryLogStore::default(), NodeEffects::default());
            let mut member = Self { node, log, out, now: Mono(0) };
            member.give(NodeEvent::CommandVersion { version: 2 });
            member
        }

        fn give(&mut self, event: NodeEvent) {
            self.out.clear();
            self.node.step(self.now, event, &mut self.log, &mut self.out);
            self.node.finish(self.now, &mut self.log, &mut self.out);
        }

        fn hear(&mut self, message: PeerMessage) {
            self.give(NodeEvent::Peer { from: TWO, message });
        }

        fn raft(&mut self, message: Message<Vec<Entry>>) {
            self.hear(PeerMessage::Raft { group: GROUP, message });
        }

        fn lead(&mut self) -> Term {
            self.now = self.node.next_deadline().unwrap();
            self.give(NodeEvent::Wake);
            self.raft(Message::Vote { term: Term(1), pre_vote: true, granted: true });
            for (group, token) in self.out.tokens() {
                self.give(NodeEvent::IoDone { group, token });
            }
            self.raft(Message::Vote { term: Term(1), pre_vote: false, granted: true });
            let view = self.node.view(GROUP).unwrap();
            assert_eq!(view.role, Role::Leader);
            view.term
        }

        /// The content of what it wants to make durable.
        fn written(&self) -> Vec<Bytes> {
            let entries = self.out.io.iter().flat_map(|io| match io {
                NodeIo::Save { entries, .. } => entries.clone(),
                NodeIo::Install { .. } | NodeIo::Compacted { .. } => Vec::new(),
            });
            entries.map(|entry| entry.payload).collect()
        }
    }

    fn sealed(version: u8) -> Bytes {
        let mut out = BytesMut::new();
        Envelope::begin(TWO, 7, &mut out);
        out.put_u8(version);
        out.freeze()
    }

    /// One malformed proposal once ended the cluster: every member met it at each of its starts.
    #[test]
    fn a_leader_appends_only_what_all_can_apply_and_says_what_it_refused() {
        let mut leader = Member::new();
        let term = leader.lead();
        let garbage = Bytes::from_static(&[9; 40]);
        let proposals = vec![garbage, sealed(2), sealed(3), sealed(0), Bytes::new(), sealed(1)];
        let (group, incarnation, number) = (GROUP, 9, 0);
        leader.hear(PeerMessage::Forward { group, term, incarnation, number, proposals });
        assert_eq!(leader.written(), [sealed(2), sealed(1)]);
        let numbers = vec![0, 2, 3, 4];
        let refused = PeerMessage::ForwardRefused { group, term, incarnation, numbers };
        let ack = PeerMessage::ForwardAck { group, term, incarnation, next: 6, gap: false };
        assert_eq!(leader.out.send[..2], [(TWO, refused), (TWO, ack)]);
        assert_eq!(leader.out.unreadable, [(TWO, Unreadable { count: 4, version: Some(3) })]);
    }

    #[test]
    fn a_follower_takes_from_a_leader_only_what_it_can_apply() {
        let mut follower = Member::new();
        let mut append = |payload: Bytes| {
            let bytes = u32::try_from(payload.len()).unwrap();
            let meta = EntryMeta { term: Term(1), kind: EntryKind::Normal, bytes };
            let entries = vec![Entry { meta, payload }];
            let (term, prev, commit, round) = (Term(1), EntryId::default(), Index(1), 0);
            follower.raft(Message::AppendEntries { term, prev, entries, commit, round });
            (follower.written(), follower.out.unreadable.clone())
        };
        let refusal = |version| vec![(TWO, Unreadable { count: 1, version })];
        assert_eq!(append(Bytes::new()), (vec![], refusal(None)));
        assert_eq!(append(sealed(4)), (vec![], refusal(Some(4))));
        // Of its own version, though not all members know it: that is for the leader to see to.
        assert_eq!(append(sealed(3)), (vec![sealed(3)], vec![]));
    }
}
