//! Three members of crate `raft` 0.7.

use std::collections::VecDeque;

use raft::{
    Config, RawNode, StateRole,
    eraftpb::{Entry, Message},
    storage::MemStorage,
};
use slog::{Discard, Logger, o};

const COMPACT_EVERY: u64 = 65_536;

/// Three members, of which the first leads.
pub struct Trio {
    nodes: Vec<RawNode<MemStorage>>,
    queue: VecDeque<Message>,
    applied: u64,
    compacted: u64,
    touched: u64,
    messages: u64,
}

impl Trio {
    /// Elects member 1.
    pub fn new(batch_append: bool) -> Self {
        let logger = Logger::root(Discard, o!());
        let node = |id| {
            let config = Config {
                id,
                election_tick: 10,
                heartbeat_tick: 1,
                pre_vote: true,
                check_quorum: true,
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 256,
                batch_append,
                ..Config::default()
            };
            let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
            RawNode::new(&config, storage, &logger).expect("a valid configuration")
        };
        let nodes = (1..=3).map(node).collect();
        let mut trio = Self {
            nodes,
            queue: VecDeque::new(),
            applied: 0,
            compacted: 0,
            touched: 0,
            messages: 0,
        };
        trio.nodes[0].campaign().expect("campaign");
        trio.settle();
        assert_eq!(trio.nodes[0].raft.state, StateRole::Leader);
        trio
    }

    fn settle(&mut self) {
        loop {
            for at in 0..self.nodes.len() {
                while self.nodes[at].has_ready() {
                    self.handle(at);
                }
            }
            if self.queue.is_empty() {
                return;
            }
            for message in std::mem::take(&mut self.queue) {
                self.messages += 1;
                let to = message.to as usize - 1;
                self.nodes[to].step(message).expect("step");
            }
        }
    }

    fn handle(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let mut ready = node.ready();
        self.queue.extend(ready.take_messages());
        let mut applied = apply(&mut self.touched, ready.take_committed_entries());
        let store = node.mut_store();
        if !ready.entries().is_empty() {
            store.wl().append(ready.entries()).expect("append");
        }
        if let Some(hard_state) = ready.hs() {
            store.wl().set_hardstate(hard_state.clone());
        }
        self.queue.extend(ready.take_persisted_messages());
        let mut light = node.advance(ready);
        if let Some(commit) = light.commit_index() {
            node.mut_store().wl().mut_hard_state().set_commit(commit);
        }
        self.queue.extend(light.take_messages());
        applied += apply(&mut self.touched, light.take_committed_entries());
        node.advance_apply();
        if at == 0 {
            self.applied += applied;
        }
    }

    fn compact(&mut self) {
        if self.applied < self.compacted + COMPACT_EVERY {
            return;
        }
        self.compacted = self.applied;
        for node in &mut self.nodes {
            let applied = node.raft.raft_log.applied;
            node.mut_store().wl().compact(applied).expect("compact");
        }
    }
}

fn apply(touched: &mut u64, entries: Vec<Entry>) -> u64 {
    for entry in &entries {
        *touched += entry.data.first().copied().map_or(0, u64::from);
    }
    entries.iter().filter(|entry| !entry.data.is_empty()).count() as u64
}

impl super::Cluster for Trio {
    fn round(&mut self, count: usize) -> u64 {
        let before = self.applied;
        for _ in 0..count {
            self.nodes[0].propose(vec![], vec![7; 16]).expect("propose");
        }
        self.settle();
        self.compact();
        self.applied - before
    }

    fn messages(&self) -> u64 {
        self.messages
    }
}
