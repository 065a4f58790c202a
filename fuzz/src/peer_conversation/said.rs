//! What the third member says: every message there is, with numbers that are often those of what it has heard.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use quorate_net::wire::{self, Body};
use quorate_node::{Entry, PeerMessage, SnapshotProgress};
use quorate_raft::{
    AppendOutcome, EntryId, EntryKind, EntryMeta, GroupId, Index, Membership, Message, NodeId,
    ReadContext, SnapshotMeta, TERM_MAX, Term,
};

/// The only group there is.
const GROUP: GroupId = GroupId(0);
/// Where numbers end.
const ENDS: [u64; 2] = [u64::MAX, TERM_MAX];
/// The largest piece of content.
const CONTENT_BYTES_MAX: usize = 300 * 1024;
/// What it remembers of what it heard.
const HEARD_MAX: usize = 64;

/// A step of the conversation.
pub(crate) enum Said {
    /// Time passes.
    Nothing {
        milliseconds: u64,
    },
    Message {
        to: usize,
        message: PeerMessage,
    },
    Connection {
        with: usize,
        is_up: bool,
    },
}

/// What was heard, and the numbers in it.
#[derive(Default)]
pub(crate) struct Seen {
    heard: Vec<(usize, PeerMessage)>,
    numbers: Vec<u64>,
}

impl Seen {
    /// Notes what members said. Of more than there is room for, the newest are kept.
    pub(crate) fn take(&mut self, heard: Vec<(usize, PeerMessage)>) {
        for (from, message) in heard {
            self.numbers.extend(numbers(&message));
            self.heard.push((from, message));
        }
        let old = self.heard.len().saturating_sub(HEARD_MAX);
        self.heard.drain(..old);
        let old = self.numbers.len().saturating_sub(HEARD_MAX);
        self.numbers.drain(..old);
    }
}

fn numbers(message: &PeerMessage) -> Vec<u64> {
    match message {
        PeerMessage::Raft { message, .. } => {
            let term = message.term().0;
            let more = match message {
                Message::AppendEntries { prev, commit, round, entries, .. } => {
                    vec![prev.index.0, prev.index.0 + entries.len() as u64, commit.0, *round]
                }
                Message::Heartbeat { commit, round, .. } => vec![commit.0, *round],
                Message::RequestVote { last, .. } => vec![last.index.0, last.term.0],
                Message::InstallSnapshot { snapshot, .. } => vec![snapshot.last.index.0],
                Message::ReadIndex { context, .. } => vec![context.0],
                _ => Vec::new(),
            };
            [vec![term], more].concat()
        }
        PeerMessage::Forward { term, incarnation, number, .. } => {
            vec![term.0, *incarnation, *number]
        }
        PeerMessage::ForwardAck { incarnation, next, .. } => vec![*incarnation, *next],
        PeerMessage::ServiceRequest { id, .. } => vec![*id],
        PeerMessage::SnapshotChunk { transfer, number, .. } => vec![*transfer, *number],
        PeerMessage::ForwardRefused { .. }
        | PeerMessage::ServiceReply { .. }
        | PeerMessage::SnapshotAck { .. } => Vec::new(),
    }
}

/// The next step. A `liar` also leads, votes and acknowledges as it likes.
///
/// # Errors
/// There is no more input.
pub(crate) fn step(input: &mut Unstructured<'_>, seen: &mut Seen, liar: bool) -> Result<Said> {
    if input.is_empty() {
        return Err(arbitrary::Error::NotEnoughData);
    }
    let to = usize::from(input.arbitrary::<bool>()?);
    Ok(match input.int_in_range(0..=15)? {
        0..=2 => Said::Nothing { milliseconds: input.int_in_range(1..=600)? },
        3 => Said::Connection { with: to, is_up: input.arbitrary()? },
        4..=6 => match answer(input, seen)? {
            Some((to, message)) => Said::Message { to, message },
            None => Said::Nothing { milliseconds: 10 },
        },
        7 if liar => match raw(input)? {
            Some(message) => Said::Message { to, message },
            None => Said::Nothing { milliseconds: 10 },
        },
        8..=9 if liar => Said::Message { to, message: lie(input, seen)? },
        _ => Said::Message { to, message: message(input, seen)? },
    })
}

/// What an honest member would answer to something that was said.
fn answer(input: &mut Unstructured<'_>, seen: &mut Seen) -> Result<Option<(usize, PeerMessage)>> {
    if seen.heard.is_empty() {
        return Ok(None);
    }
    let place = input.choose_index(seen.heard.len())?;
    let (from, heard) = seen.heard.remove(place);
    let answer = match heard {
        PeerMessage::Raft { message, .. } => match message {
            Message::Heartbeat { term, round, .. } => raft(Message::HeartbeatReply { term, round }),
            Message::RequestVote { term, pre_vote: true, .. } => {
                raft(Message::Vote { term, pre_vote: true, granted: true })
            }
            Message::AppendEntries { term, prev, round, .. } => {
                let hint = EntryId { term: Term(0), index: Index(0) };
                let outcome = AppendOutcome::Rejected { prev: prev.index, hint };
                raft(Message::Appended { term, round, outcome })
            }
            _ => return Ok(None),
        },
        PeerMessage::Forward { term, incarnation, number, .. } => {
            let next = number + 1;
            PeerMessage::ForwardAck { group: GROUP, term, incarnation, next, gap: false }
        }
        PeerMessage::SnapshotChunk { transfer, number, .. } => {
            let progress = SnapshotProgress::Expect(number + 1);
            PeerMessage::SnapshotAck { group: GROUP, transfer, progress }
        }
        PeerMessage::ServiceRequest { id, body } => PeerMessage::ServiceReply { id, body },
        _ => return Ok(None),
    };
    Ok(Some((from, answer)))
}

fn raft(message: Message<Vec<Entry>>) -> PeerMessage {
    PeerMessage::Raft { group: GROUP, message }
}

/// Bytes that happen to be a message.
fn raw(input: &mut Unstructured<'_>) -> Result<Option<PeerMessage>> {
    let bytes = input.arbitrary::<Vec<u8>>()?;
    Ok(match wire::decode(&Bytes::from(bytes)) {
        Ok(Body::Message(message)) => Some(message),
        Ok(_) | Err(_) => None,
    })
}

/// What no vote, no acknowledgement and no claim to lead is in.
fn message(input: &mut Unstructured<'_>, seen: &Seen) -> Result<PeerMessage> {
    let mut number = || number(input, seen);
    let (term, round, group) = (Term(number()?), number()?, GROUP);
    let mut index = || number().map(Index);
    let last = EntryId { term: Term(index()?.0), index: index()? };
    Ok(match input.int_in_range(0..=11)? {
        0 => {
            let (pre_vote, transfer) = (input.arbitrary()?, input.arbitrary()?);
            raft(Message::RequestVote { term, pre_vote, last, transfer })
        }
        1 => raft(Message::Vote { term, pre_vote: input.arbitrary()?, granted: false }),
        2 => {
            let outcome = AppendOutcome::Rejected { prev: Index(round), hint: last };
            raft(Message::Appended { term, round, outcome })
        }
        3 => raft(Message::HeartbeatReply { term, round }),
        4 => raft(Message::ReadIndex { term, context: ReadContext(round) }),
        5 => raft(Message::TimeoutNow { term }),
        6 => {
            let proposals = list(input, content)?;
            PeerMessage::Forward {
                group,
                term,
                incarnation: round,
                number: last.index.0,
                proposals,
            }
        }
        7 => {
            let (next, gap) = (last.index.0, input.arbitrary()?);
            PeerMessage::ForwardAck { group, term, incarnation: round, next, gap }
        }
        8 => {
            let numbers = list(input, |input| self::number(input, seen))?;
            PeerMessage::ForwardRefused { group, term, incarnation: round, numbers }
        }
        9 => PeerMessage::ServiceRequest { id: round, body: service(input)? },
        10 => PeerMessage::ServiceReply { id: round, body: service(input)? },
        _ => {
            let progress = match input.int_in_range(0..=2)? {
                0 => SnapshotProgress::Expect(last.index.0),
                1 => SnapshotProgress::Done,
                _ => SnapshotProgress::Refused,
            };
            PeerMessage::SnapshotAck { group, transfer: round, progress }
        }
    })
}

/// Votes, acknowledgements and claims to lead.
fn lie(input: &mut Unstructured<'_>, seen: &Seen) -> Result<PeerMessage> {
    let mut number = || number(input, seen);
    let (term, round, commit) = (Term(number()?), number()?, Index(number()?));
    let prev = EntryId { term: Term(number()?), index: Index(number()?) };
    Ok(match input.int_in_range(0..=6)? {
        0 => raft(Message::Vote { term, pre_vote: input.arbitrary()?, granted: true }),
        1 => {
            let outcome = AppendOutcome::Matched(commit);
            raft(Message::Appended { term, round, outcome })
        }
        2 => {
            let entries = list(input, |input| entry(input, term))?;
            raft(Message::AppendEntries { term, prev, entries, commit, round })
        }
        3 => raft(Message::Heartbeat { term, commit, round }),
        4 => raft(Message::InstallSnapshot { term, snapshot: snapshot(input, prev)? }),
        5 => {
            let index = input.arbitrary::<bool>()?.then_some(commit);
            raft(Message::ReadIndexReply { term, context: ReadContext(round), index })
        }
        _ => PeerMessage::SnapshotChunk {
            group: GROUP,
            term,
            transfer: round,
            snapshot: snapshot(input, prev)?,
            number: commit.0,
            last: input.arbitrary()?,
            data: content(input)?,
        },
    })
}

/// One that is of use at some place: of what was heard, about it, small, or at an end.
fn number(input: &mut Unstructured<'_>, seen: &Seen) -> Result<u64> {
    let heard = |input: &mut Unstructured<'_>| match seen.numbers.len() {
        0 => Ok(0),
        count => Ok(seen.numbers[input.choose_index(count)?]),
    };
    Ok(match input.int_in_range(0..=9)? {
        0..=3 => heard(input)?,
        4 => heard(input)?.wrapping_add(1),
        5 => heard(input)?.wrapping_add(input.int_in_range(0..=1 << 20)?),
        6 => heard(input)?.wrapping_sub(input.int_in_range(1..=3)?),
        7 => ENDS[input.choose_index(ENDS.len())?] - input.int_in_range(0..=2)?,
        8 => input.arbitrary()?,
        _ => input.int_in_range(0..=40)?,
    })
}

fn list<T>(
    input: &mut Unstructured<'_>,
    mut one: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    (0..input.int_in_range(0..=8)?).map(|_| one(input)).collect()
}

/// Bytes: a few that mean something, or many that don't.
fn content(input: &mut Unstructured<'_>) -> Result<Bytes> {
    if input.ratio(1, 8)? {
        return Ok(vec![input.arbitrary()?; input.int_in_range(0..=CONTENT_BYTES_MAX)?].into());
    }
    let mut bytes = Vec::new();
    for _ in 0..input.int_in_range(0..=40)? {
        bytes.push(input.arbitrary()?);
    }
    // The envelope's version, more often than by chance.
    if let (true, Some(first)) = (input.arbitrary()?, bytes.first_mut()) {
        *first = 1;
    }
    Ok(bytes.into())
}

/// A call of a service, or its answer: its kind is a small number.
fn service(input: &mut Unstructured<'_>) -> Result<Bytes> {
    let kind = input.int_in_range(0..=5u8)?;
    Ok([&[kind], &*content(input)?].concat().into())
}

fn entry(input: &mut Unstructured<'_>, term: Term) -> Result<Entry> {
    let kind = *input.choose(&[EntryKind::Normal, EntryKind::Noop, EntryKind::Membership])?;
    let payload = content(input)?;
    let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    Ok(Entry { meta: EntryMeta { term, kind, bytes }, payload })
}

fn snapshot(input: &mut Unstructured<'_>, last: EntryId) -> Result<SnapshotMeta> {
    let mut members =
        || Ok(list(input, |input| input.arbitrary().map(NodeId))?.into_iter().collect());
    let membership =
        Membership { voters: members()?, voters_outgoing: members()?, learners: members()? };
    Ok(SnapshotMeta { last, membership })
}
