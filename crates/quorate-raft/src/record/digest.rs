//! What a step gave out, as words that are never read back: for telling whether another run of the same step does the same.

use super::event::put_words;
use super::{Sink, put_hard_state, put_snapshot};
use crate::{
    Append, Core, Effects, EntryRange, Io, Message, Notice, Origin, Reject, Role, Send, Verdict,
};

impl Core {
    /// Writes out what a step just gave: its verdict, its effects (those of earlier steps must be gone from `effects`), and
    /// where it left this member.
    pub fn digest(&self, verdict: Verdict, effects: &Effects, out: &mut impl Sink) {
        put_verdict(verdict, out);
        for io in &effects.io {
            put_io(io, out);
        }
        for send in &effects.send {
            put_send(send, out);
        }
        if let Some(range) = effects.commit {
            put_range(range, out);
        }
        for grant in &effects.reads {
            out.put_all([grant.context.0, grant.index.0]);
        }
        for context in &effects.reads_dropped {
            out.put(context.0);
        }
        for node in &effects.snapshots {
            out.put(node.0);
        }
        for notice in &effects.notices {
            put_notice(*notice, out);
        }
        let (end, durable) = (self.log.last(), self.durability.durable());
        out.put_all([role_word(self.state.role()), self.term.0, self.commit.0, self.released.0]);
        out.put_all([end.term.0, end.index.0, durable.0, self.log.base().index.0]);
        out.put_all([self.vote, self.leader].map(|node| node.map_or(0, |node| node.0)));
    }
}

fn role_word(role: Role) -> u64 {
    match role {
        Role::Follower => 0,
        Role::PreCandidate => 1,
        Role::Candidate => 2,
        Role::Leader => 3,
    }
}

fn put_range(range: EntryRange, out: &mut impl Sink) {
    out.put_all([range.first.0, range.last.0]);
}

fn put_verdict(verdict: Verdict, out: &mut impl Sink) {
    match verdict {
        Verdict::Ok => out.put(0),
        Verdict::Stale => out.put(1),
        Verdict::Proposed { range, term } => out.put_all([2, range.first.0, range.last.0, term.0]),
        Verdict::Rejected(reject) => out.put(match reject {
            Reject::NotLeader { .. } => 3,
            Reject::WindowFull => 4,
            Reject::Transferring => 5,
            Reject::UnknownPeer(_) => 6,
            Reject::Malformed(_) | Reject::Conflict { .. } => 7,
            Reject::Faulted => 8,
        }),
    }
}

fn put_io(io: &Io, out: &mut impl Sink) {
    match io {
        Io::Save { token, hard_state, append } => {
            out.put_all([10, token.0]);
            if let Some(state) = hard_state {
                put_hard_state(*state, out);
            }
            if let Some(append) = append {
                put_append(*append, out);
            }
        }
        Io::Install { token, hard_state, snapshot } => {
            out.put_all([11, token.0]);
            put_hard_state(*hard_state, out);
            put_snapshot(snapshot, out);
        }
    }
}

fn put_append(append: Append, out: &mut impl Sink) {
    put_range(append.range, out);
    match append.origin {
        Origin::Noop { term } => out.put_all([12, term.0]),
        Origin::Proposed { term } => out.put_all([13, term.0]),
        Origin::Received { skip } => out.put_all([14, skip as u64]),
    }
}

fn put_send(send: &Send, out: &mut impl Sink) {
    out.put_all([send.to.0, send.after.map_or(0, |token| token.0)]);
    put_words(&send.message, out);
    if let Message::AppendEntries { entries, .. } = &send.message {
        put_range(*entries, out);
    }
}

fn put_notice(notice: Notice, out: &mut impl Sink) {
    match notice {
        Notice::RoleChanged { role, term, leader } => {
            out.put_all([20, role_word(role), term.0, leader.map_or(0, |node| node.0)]);
        }
        Notice::LogTruncated { first } => out.put_all([21, first.0]),
        Notice::QuorumLost { term } => out.put_all([22, term.0]),
        Notice::DiskStalled { term } => out.put_all([23, term.0]),
        Notice::Faulted => out.put(24),
        Notice::TermJump { from, claimed, term } => out.put_all([25, from.0, claimed.0, term.0]),
    }
}
