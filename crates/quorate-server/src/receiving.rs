//! A snapshot on its way in: one at a time, from the leader of this term and nobody else.
//!
//! What a chunk may do is decided before anything is touched ([`Standing`](crate::shared::Standing) says who leads, the head
//! of the transfer under way says the rest):
//!
//! | Who sends | What happens |
//! |---|---|
//! | somebody of an earlier term, or who does not lead this one | refused: he is deposed, and shall stop |
//! | somebody of a term that is not known here yet, or whose leader is not known | nothing: he sends it again, and by then it may be |
//! | the leader, of the transfer under way | its next chunk is written |
//! | the leader, the first chunk of a later transfer | that one begins, the one under way is dropped |
//! | the leader, another chunk of a later transfer | the first one is asked for: this side has lost it, and the sender, who sends no other before that one is here, begins a new transfer |
//! | the leader, of an earlier transfer, or telling another end of the snapshot | refused |
//!
//! A snapshot's head says how many bytes of keys and values it holds ([`head`]), and what comes is bounded by that, whatever the
//! receiver's own quota: a state that its leader has is legal. When the last chunk is there, the file must be of the entry that
//! the chunks told: the node decides by that, and the log goes on behind it.

use bytes::Bytes;
use quorate_node::SnapshotProgress;
use quorate_raft::{EntryId, Mono, NodeId, SnapshotMeta, Term};
use quorate_storage::{
    StateDir,
    snapshot::{IncomingSnapshot, Progress, SnapshotHead},
};

use crate::{
    bugs::Bug,
    clock::nanoseconds,
    shared::Shared,
    snapshots::{GIVE_UP_AFTER, ReceivedChunk},
};

/// How many times what a snapshot holds its file may be: each pair is some bytes longer in it, and so is each chunk.
const FILE_PER_HELD_MAX: u64 = 4;
/// How large the file of a snapshot may be that holds nothing, or has not told yet what it holds.
const FILE_BYTES_LEAST: u64 = 8 << 20;

/// The head of a snapshot of the state after `applied`, of `held_bytes` of keys and values.
pub(crate) fn head(applied: EntryId, held_bytes: u64) -> SnapshotHead {
    let header = Bytes::copy_from_slice(&held_bytes.to_le_bytes());
    SnapshotHead { index: applied.index.0, term: applied.term.0, header }
}

/// How large the file of a snapshot may be, in bytes, by its head.
///
/// # Errors
/// It does not say what it holds.
fn file_bytes_max(head: Option<&SnapshotHead>) -> anyhow::Result<u64> {
    let Some(head) = head else { return Ok(FILE_BYTES_LEAST) };
    let held = <[u8; 8]>::try_from(head.header.as_ref());
    let held = held.map_err(|_| anyhow::anyhow!("its head does not say how much it holds"))?;
    let file = u64::from_le_bytes(held).saturating_mul(FILE_PER_HELD_MAX);
    Ok(file.saturating_add(FILE_BYTES_LEAST))
}

/// What is there of a snapshot.
#[derive(Debug, Default)]
pub(crate) enum Incoming {
    #[default]
    Nothing,
    /// Chunks arrive.
    Receiving { head: Head, file: IncomingSnapshot, heard_at: Mono },
    /// All is there; the node decides.
    Ready { snapshot: SnapshotMeta, file: IncomingSnapshot },
    /// The apply thread reads the file: another transfer would begin it anew.
    Installing,
}

/// Which transfer it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    from: NodeId,
    term: Term,
    transfer: u64,
    snapshot: SnapshotMeta,
}

impl Head {
    fn of(chunk: &ReceivedChunk) -> Self {
        let ReceivedChunk { from, term, transfer, .. } = *chunk;
        Self { from, term, transfer, snapshot: chunk.snapshot.clone() }
    }

    /// Whether this transfer was begun after `other`. A leader numbers its transfers upwards from anywhere.
    fn is_after(&self, other: &Self) -> bool {
        let is_later = self.transfer.wrapping_sub(other.transfer).cast_signed() > 0;
        self.term > other.term || (self.term == other.term && is_later)
    }
}

/// What to do with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// It belongs to what is under way.
    Take,
    /// It begins a transfer.
    Begin,
    /// It is answered, and nothing else.
    Answer(SnapshotProgress),
    /// Nothing.
    Ignore,
}

impl Incoming {
    /// Nothing comes in any more, and nothing of it stays on the disk.
    pub(crate) fn discard(&mut self) {
        let (Self::Receiving { file, .. } | Self::Ready { file, .. }) = std::mem::take(self) else {
            return;
        };
        if let Err(error) = file.discard() {
            tracing::warn!(%error, "a snapshot that nobody wants stays until the next one");
        }
    }

    /// Whether a sender has said nothing for so long that it has given up, or is gone.
    pub(crate) fn is_silent(&self, now: Mono) -> bool {
        let Self::Receiving { heard_at, .. } = self else { return false };
        now.since(*heard_at) >= nanoseconds(GIVE_UP_AFTER)
    }

    fn decide(&self, chunk: &ReceivedChunk, (term, leader): (Term, Option<NodeId>)) -> Decision {
        let refused = Decision::Answer(SnapshotProgress::Refused);
        if chunk.term < term {
            return refused;
        }
        match leader {
            _ if chunk.term > term => return Decision::Ignore,
            // Whoever leads the term: a silence made this side ask for an election, and may have ended.
            None => return Decision::Ignore,
            Some(leader) if leader != chunk.from => return refused,
            Some(_) => {}
        }
        let (new, first) = (Head::of(chunk), chunk.number == 0);
        match self {
            Self::Ready { .. } | Self::Installing => refused,
            Self::Receiving { head, .. } if *head == new => Decision::Take,
            Self::Receiving { head, .. } if !new.is_after(head) => refused,
            Self::Receiving { .. } | Self::Nothing if first => Decision::Begin,
            Self::Receiving { .. } | Self::Nothing => Decision::Answer(SnapshotProgress::Expect(0)),
        }
    }

    /// Takes a chunk, and says what to answer.
    ///
    /// # Errors
    /// The transfer can't go on, and is dropped.
    pub(crate) fn accept(
        &mut self,
        shared: &Shared,
        dir: &StateDir,
        chunk: &ReceivedChunk,
    ) -> anyhow::Result<Option<SnapshotProgress>> {
        let known = shared.standing.leadership();
        match self.decide(chunk, (known.term, known.leader)) {
            Decision::Ignore => return Ok(None),
            Decision::Answer(progress) => return Ok(Some(progress)),
            Decision::Take => {}
            Decision::Begin => {
                // The file of an unfinished transfer is begun anew.
                *self = Self::Nothing;
                let (head, file) = (Head::of(chunk), dir.receive()?);
                *self = Self::Receiving { head, file, heard_at: shared.clock.now() };
            }
        }
        if let Self::Receiving { heard_at, .. } = self {
            *heard_at = shared.clock.now();
        }
        let is_trusted = shared.makes(Bug::SnapshotUnchecked);
        let outcome = self.write(chunk).and_then(|progress| match self {
            Self::Ready { snapshot, file } if !is_trusted => {
                check_end(file, snapshot).map(|()| progress)
            }
            Self::Nothing | Self::Receiving { .. } | Self::Ready { .. } | Self::Installing => {
                Ok(progress)
            }
        });
        if outcome.is_err() {
            self.discard();
        }
        outcome.map(Some)
    }

    fn write(&mut self, chunk: &ReceivedChunk) -> anyhow::Result<SnapshotProgress> {
        let Self::Receiving { file, .. } = self else { return Ok(SnapshotProgress::Refused) };
        if chunk.number != file.next_sequence() {
            return Ok(SnapshotProgress::Expect(file.next_sequence()));
        }
        let progress = file.accept(&chunk.data)?;
        let (bytes, bytes_max) = (file.received_bytes(), file_bytes_max(file.head())?);
        anyhow::ensure!(
            bytes <= bytes_max,
            "chunk {} makes it {bytes} bytes, and by its head it has {bytes_max} at most",
            chunk.number
        );
        match progress {
            Progress::Wants(next) => Ok(SnapshotProgress::Expect(next)),
            Progress::Complete => {
                if let Self::Receiving { head, file, .. } = std::mem::take(self) {
                    *self = Self::Ready { snapshot: head.snapshot, file };
                }
                Ok(SnapshotProgress::Done)
            }
        }
    }
}

/// The file holds the state after the entry that its sender named.
fn check_end(file: &IncomingSnapshot, told: &SnapshotMeta) -> anyhow::Result<()> {
    let found = file.head().map(|head| (head.term, head.index));
    let expected = (told.last.term.0, told.last.index.0);
    anyhow::ensure!(
        found == Some(expected),
        "it was told to be of {}, and holds {found:?} (term, index)",
        told.last
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_engine::{Batch, Durability, Engine, MemoryEngine, Table};
    use quorate_raft::Index;
    use quorate_storage::{snapshot::SnapshotWriter, vfs::MemoryVfs};
    use std::{path::Path, sync::Arc};

    use super::*;

    fn chunk(from: u64, term: u64, transfer: u64, number: u64) -> ReceivedChunk {
        let snapshot = SnapshotMeta {
            last: EntryId { term: Term(2), index: Index(9) },
            ..SnapshotMeta::default()
        };
        let (from, term, data) = (NodeId(from), Term(term), Bytes::new());
        ReceivedChunk { from, term, transfer, snapshot, number, data }
    }

    fn receiving(begun: &ReceivedChunk) -> Incoming {
        let vfs = Arc::new(MemoryVfs::new());
        let file = IncomingSnapshot::create(vfs, Path::new("incoming")).unwrap();
        Incoming::Receiving { head: Head::of(begun), file, heard_at: Mono(0) }
    }

    /// Node 1 leads term 5.
    fn decide(incoming: &Incoming, chunk: &ReceivedChunk) -> Decision {
        incoming.decide(chunk, (Term(5), Some(NodeId(1))))
    }

    #[test]
    fn only_the_leader_of_this_term_is_listened_to() {
        let refused = Decision::Answer(SnapshotProgress::Refused);
        for incoming in [Incoming::Nothing, receiving(&chunk(1, 5, 7, 0))] {
            assert_eq!(decide(&incoming, &chunk(2, 5, 8, 0)), refused);
            assert_eq!(decide(&incoming, &chunk(1, 4, 8, 0)), refused);
            assert_eq!(decide(&incoming, &chunk(2, 6, 8, 0)), Decision::Ignore);
            assert_eq!(decide(&incoming, &chunk(1, 5, 8, 0)), Decision::Begin);
            let expect = Decision::Answer(SnapshotProgress::Expect(0));
            assert_eq!(decide(&incoming, &chunk(1, 5, 8, 1)), expect);
        }
    }

    /// It was refused once, which ended a transfer that had nearly arrived.
    #[test]
    fn a_chunk_waits_while_the_leader_of_its_term_is_not_known() {
        let incoming = receiving(&chunk(1, 5, 7, 0));
        for (term, number) in [(5, 0), (5, 3), (6, 3)] {
            let decided = incoming.decide(&chunk(1, term, 7, number), (Term(5), None));
            assert_eq!(decided, Decision::Ignore);
        }
        let deposed = incoming.decide(&chunk(1, 4, 7, 3), (Term(5), None));
        assert_eq!(deposed, Decision::Answer(SnapshotProgress::Refused));
        assert_eq!(decide(&incoming, &chunk(1, 5, 7, 3)), Decision::Take, "known again");
    }

    #[test]
    fn a_transfer_under_way_ends_only_for_a_later_one() {
        let refused = Decision::Answer(SnapshotProgress::Refused);
        let incoming = receiving(&chunk(1, 5, u64::MAX, 0));
        assert_eq!(decide(&incoming, &chunk(1, 5, u64::MAX, 3)), Decision::Take);
        assert_eq!(decide(&incoming, &chunk(1, 5, u64::MAX - 1, 0)), refused);
        assert_eq!(decide(&incoming, &chunk(1, 5, 0, 0)), Decision::Begin, "numbers wrap");
        let of_an_earlier_term = receiving(&chunk(2, 4, 99, 0));
        assert_eq!(decide(&of_an_earlier_term, &chunk(1, 5, 1, 0)), Decision::Begin);
    }

    #[test]
    fn chunks_of_one_transfer_tell_one_end() {
        let incoming = receiving(&chunk(1, 5, 7, 0));
        let mut other = chunk(1, 5, 7, 1);
        other.snapshot.last.index = Index(10);
        assert_eq!(decide(&incoming, &other), Decision::Answer(SnapshotProgress::Refused));
    }

    /// What becomes of a snapshot with pairs of 4,000 bytes, in chunks of 10,000, whose head tells that it holds `told`.
    fn receive(pairs: u32, told: Bytes) -> anyhow::Result<SnapshotProgress> {
        let mut engine = MemoryEngine::new();
        let mut batch = Batch::new();
        for number in 0..pairs {
            batch.put(KEYS, number.to_be_bytes().to_vec(), vec![7; 3_996]);
        }
        engine.commit(batch, Durability::Relaxed)?;
        let head = SnapshotHead { header: told, ..head(EntryId::default(), 0) };
        let mut writer = SnapshotWriter::new(engine.view()?, vec![KEYS], head, (10_000, 7));
        let mut incoming = receiving(&chunk(1, 5, 7, 0));
        let mut progress = SnapshotProgress::Expect(0);
        while let Some(next) = writer.next_chunk()? {
            let data = next.bytes;
            progress = incoming.write(&ReceivedChunk {
                number: next.sequence,
                data,
                ..chunk(1, 5, 7, 0)
            })?;
        }
        Ok(progress)
    }

    const KEYS: Table = Table("keys");

    /// A receiver with another quota once refused it for ever, and it was sent for ever.
    #[test]
    fn a_snapshot_is_as_large_as_its_head_says_whatever_the_quota() {
        let told = |bytes: u64| head(EntryId::default(), bytes).header;
        assert_eq!(receive(3_000, told(4_000 * 3_000)).unwrap(), SnapshotProgress::Done);
        let error = receive(3_000, told(400)).unwrap_err().to_string();
        assert!(error.contains("by its head it has 8390208 at most"), "{error}");
        let error = receive(10, Bytes::new()).unwrap_err().to_string();
        assert!(error.contains("does not say how much it holds"), "{error}");
    }
}
