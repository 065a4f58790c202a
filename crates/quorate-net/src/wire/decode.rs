//! Reading bodies: every input is a body or an error.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};
use quorate_node::{Entry, PeerMessage, SnapshotProgress};
use quorate_raft::{
    AppendOutcome, EntryId, EntryKind, EntryMeta, GroupId, Index, Membership, Message, NodeId,
    ReadContext, SnapshotMeta, Term,
};

use super::{Body, encode as kinds};

/// Why bytes are not a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// They end too early.
    #[error("the frame ends inside of {0}")]
    Truncated(&'static str),
    /// They go on after the end.
    #[error("{0} bytes follow after the end of the message")]
    Trailing(usize),
    /// A value that stands for nothing.
    #[error("{field} is {value}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: u8,
    },
    /// A count or length of more than the frame holds.
    #[error("{count} {field} can't be in the {left_bytes} bytes that are left")]
    Count {
        /// Of what.
        field: &'static str,
        /// How many are announced.
        count: u32,
        /// What is left of the frame.
        left_bytes: usize,
    },
}

/// Reads one body. Payloads in it are slices of `frame`.
///
/// # Errors
/// Everything that [`encode`](super::encode()) does not write is an error.
pub fn decode(frame: &Bytes) -> Result<Body, DecodeError> {
    let mut fields = Fields(frame.clone());
    let body = match fields.u8("kind")? {
        kinds::PING => Body::Ping(fields.u64("ping")?),
        kinds::PONG => Body::Pong(fields.u64("pong")?),
        kinds::RAFT => {
            let group = GroupId(fields.u64("group")?);
            Body::Message(PeerMessage::Raft { group, message: fields.raft()? })
        }
        kinds::FORWARD => Body::Message(fields.forward()?),
        kinds::FORWARD_ACK => Body::Message(fields.forward_ack()?),
        kinds::FORWARD_REFUSED => Body::Message(fields.forward_refused()?),
        kinds::SERVICE_REQUEST => {
            let id = fields.u64("id")?;
            Body::Message(PeerMessage::ServiceRequest { id, body: fields.bytes("body")? })
        }
        kinds::SERVICE_REPLY => {
            let id = fields.u64("id")?;
            Body::Message(PeerMessage::ServiceReply { id, body: fields.bytes("body")? })
        }
        kinds::SNAPSHOT_CHUNK => Body::Message(fields.snapshot_chunk()?),
        kinds::SNAPSHOT_ACK => Body::Message(fields.snapshot_ack()?),
        value => return Err(DecodeError::Value { field: "kind", value }),
    };
    match fields.0.len() {
        0 => Ok(body),
        left => Err(DecodeError::Trailing(left)),
    }
}

/// What is left of a frame.
struct Fields(Bytes);

/// Messages.
impl Fields {
    fn raft(&mut self) -> Result<Message<Vec<Entry>>, DecodeError> {
        let kind = self.u8("message kind")?;
        let term = self.term()?;
        Ok(match kind {
            kinds::REQUEST_VOTE => {
                let (pre_vote, last) = (self.flag("pre_vote")?, self.entry_id()?);
                Message::RequestVote { term, pre_vote, last, transfer: self.flag("transfer")? }
            }
            kinds::VOTE => {
                let pre_vote = self.flag("pre_vote")?;
                Message::Vote { term, pre_vote, granted: self.flag("granted")? }
            }
            kinds::APPEND_ENTRIES => {
                let prev = self.entry_id()?;
                let (commit, round) = (self.index("commit")?, self.u64("round")?);
                Message::AppendEntries { term, prev, entries: self.entries()?, commit, round }
            }
            kinds::APPENDED => {
                let round = self.u64("round")?;
                Message::Appended { term, round, outcome: self.append_outcome()? }
            }
            kinds::HEARTBEAT => {
                let commit = self.index("commit")?;
                Message::Heartbeat { term, commit, round: self.u64("round")? }
            }
            kinds::HEARTBEAT_REPLY => Message::HeartbeatReply { term, round: self.u64("round")? },
            kinds::INSTALL_SNAPSHOT => {
                Message::InstallSnapshot { term, snapshot: self.snapshot_meta()? }
            }
            kinds::READ_INDEX => Message::ReadIndex { term, context: self.read_context()? },
            kinds::READ_INDEX_REPLY => {
                let context = self.read_context()?;
                Message::ReadIndexReply { term, context, index: self.optional_index()? }
            }
            kinds::TIMEOUT_NOW => Message::TimeoutNow { term },
            value => return Err(DecodeError::Value { field: "message kind", value }),
        })
    }

    fn append_outcome(&mut self) -> Result<AppendOutcome, DecodeError> {
        match self.u8("append outcome")? {
            kinds::MATCHED => Ok(AppendOutcome::Matched(self.index("matched")?)),
            kinds::REJECTED => {
                let prev = self.index("rejected")?;
                Ok(AppendOutcome::Rejected { prev, hint: self.entry_id()? })
            }
            value => Err(DecodeError::Value { field: "append outcome", value }),
        }
    }

    fn forward(&mut self) -> Result<PeerMessage, DecodeError> {
        let (group, term) = (GroupId(self.u64("group")?), self.term()?);
        let (incarnation, number) = (self.u64("incarnation")?, self.u64("number")?);
        let proposals = self.list("proposals", 4, |fields| fields.bytes("proposal"))?;
        Ok(PeerMessage::Forward { group, term, incarnation, number, proposals })
    }

    fn forward_ack(&mut self) -> Result<PeerMessage, DecodeError> {
        let (group, term) = (GroupId(self.u64("group")?), self.term()?);
        let (incarnation, next) = (self.u64("incarnation")?, self.u64("next")?);
        Ok(PeerMessage::ForwardAck { group, term, incarnation, next, gap: self.flag("gap")? })
    }

    fn forward_refused(&mut self) -> Result<PeerMessage, DecodeError> {
        let (group, term) = (GroupId(self.u64("group")?), self.term()?);
        let incarnation = self.u64("incarnation")?;
        let numbers = self.list("numbers", 8, |fields| fields.u64("number"))?;
        Ok(PeerMessage::ForwardRefused { group, term, incarnation, numbers })
    }

    fn snapshot_chunk(&mut self) -> Result<PeerMessage, DecodeError> {
        let (group, term) = (GroupId(self.u64("group")?), self.term()?);
        let (transfer, snapshot) = (self.u64("transfer")?, self.snapshot_meta()?);
        let (number, last) = (self.u64("number")?, self.flag("last")?);
        let data = self.bytes("data")?;
        Ok(PeerMessage::SnapshotChunk { group, term, transfer, snapshot, number, last, data })
    }

    fn snapshot_ack(&mut self) -> Result<PeerMessage, DecodeError> {
        let (group, transfer) = (GroupId(self.u64("group")?), self.u64("transfer")?);
        let progress = match self.u8("progress")? {
            kinds::EXPECT => SnapshotProgress::Expect(self.u64("expected")?),
            kinds::DONE => SnapshotProgress::Done,
            kinds::REFUSED => SnapshotProgress::Refused,
            value => return Err(DecodeError::Value { field: "progress", value }),
        };
        Ok(PeerMessage::SnapshotAck { group, transfer, progress })
    }
}

/// Their parts.
impl Fields {
    fn entries(&mut self) -> Result<Vec<Entry>, DecodeError> {
        self.list("entries", kinds::ENTRY_BYTES, Self::entry)
    }

    fn entry(&mut self) -> Result<Entry, DecodeError> {
        let term = self.term()?;
        let kind = match self.u8("entry kind")? {
            kinds::NORMAL => EntryKind::Normal,
            kinds::NOOP => EntryKind::Noop,
            kinds::MEMBERSHIP => EntryKind::Membership,
            value => return Err(DecodeError::Value { field: "entry kind", value }),
        };
        let payload = self.bytes("payload")?;
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        Ok(Entry { meta: EntryMeta { term, kind, bytes }, payload })
    }

    fn snapshot_meta(&mut self) -> Result<SnapshotMeta, DecodeError> {
        let last = self.entry_id()?;
        let (voters, voters_outgoing) = (self.members()?, self.members()?);
        let membership = Membership { voters, voters_outgoing, learners: self.members()? };
        Ok(SnapshotMeta { last, membership })
    }

    fn members(&mut self) -> Result<BTreeSet<NodeId>, DecodeError> {
        let members = self.list("members", 8, |fields| fields.u64("member").map(NodeId))?;
        Ok(members.into_iter().collect())
    }

    fn optional_index(&mut self) -> Result<Option<Index>, DecodeError> {
        let there = self.flag("granted")?;
        let index = self.index("index")?;
        Ok(there.then_some(index))
    }

    fn entry_id(&mut self) -> Result<EntryId, DecodeError> {
        Ok(EntryId { term: self.term()?, index: self.index("index")? })
    }

    fn term(&mut self) -> Result<Term, DecodeError> {
        self.u64("term").map(Term)
    }

    fn index(&mut self, field: &'static str) -> Result<Index, DecodeError> {
        self.u64(field).map(Index)
    }

    fn read_context(&mut self) -> Result<ReadContext, DecodeError> {
        self.u64("context").map(ReadContext)
    }
}

/// Plain values.
impl Fields {
    /// A list whose items take at least `item_bytes_min` each, so that a count alone can't make us allocate.
    fn list<T>(
        &mut self,
        field: &'static str,
        item_bytes_min: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(field, item_bytes_min)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn bytes(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let length = self.count(field, 1)?;
        Ok(self.0.split_to(length))
    }

    /// A count of things that take at least `bytes_min` each, checked against what is left.
    fn count(&mut self, field: &'static str, bytes_min: usize) -> Result<usize, DecodeError> {
        let announced = u32::from_le_bytes(self.chunk(field)?);
        let count = usize::try_from(announced).ok();
        let left_bytes = self.0.len();
        count
            .filter(|count| count.checked_mul(bytes_min).is_some_and(|bytes| bytes <= left_bytes))
            .ok_or(DecodeError::Count { field, count: announced, left_bytes })
    }

    fn flag(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::Value { field, value }),
        }
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.chunk(field).map(|[byte]| byte)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.chunk(field).map(u64::from_le_bytes)
    }

    fn chunk<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let chunk = *self.0.first_chunk::<N>().ok_or(DecodeError::Truncated(field))?;
        self.0.advance(N);
        Ok(chunk)
    }
}
