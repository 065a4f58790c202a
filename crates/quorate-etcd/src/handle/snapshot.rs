//! A snapshot of the state as a stream: pieces of 32 KiB, then the SHA-256 of them all.
//!
//! The shape of the stream is etcd's, so its clients save and check it; what is inside is Quorate's own snapshot format.
//! etcd's clients take a file for one with a hash only if what is before the hash is a whole number of 512 byte blocks, as
//! a file of pages is. So zeros fill the last block; they are hashed, and a reader of the format ignores what follows its
//! end.
//!
//! The state is read as the client takes it, on the thread that serves it and in turn with all other long work: a snapshot
//! that nobody takes costs one chunk, and one whose client goes ends.
//!
//! Sources: etcd `server/etcdserver/api/v3rpc/maintenance.go`; `hasChecksum` in `client/v3/snapshot/v3_snapshot.go`.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use quorate_proto::etcdserverpb::{ResponseHeader, SnapshotRequest, SnapshotResponse};
use sha2::{Digest, Sha256};
use tokio_stream::Stream;

use super::stall::StallGuard;
use crate::{
    backend::{Backend, ServerError, SnapshotStream},
    fair::Permit,
    front::Front,
    long_work::{Paced, Turns},
};

/// Bytes in each piece but the last. Source: etcd's `snapshotSendBufferSize`.
const PIECE_BYTES: usize = 32 * 1024;

/// The whole is filled up to a multiple of this.
const BLOCK_BYTES: u64 = 512;

type Item = Result<SnapshotResponse, ServerError>;

/// Opens a snapshot of the newest applied state.
///
/// # Errors
/// Those of [`Backend::snapshot`]; [`ServerError::TooManyRequests`] when too many wait.
pub async fn snapshot<B: Backend>(
    front: &Arc<Front<B>>,
    _: SnapshotRequest,
) -> Result<StallGuard<SnapshotPieces<B>>, ServerError> {
    let open = front.admission.snapshots.acquire(front.client, 1)?.await;
    let file_bytes = front.backend.status().file_bytes;
    let source = front.backend.snapshot()?;
    let cutter = Cutter {
        header: front.header(),
        version: front.settings.minor_version(),
        remaining_bytes: source.size_bytes.next_multiple_of(BLOCK_BYTES),
        sent_bytes: 0,
        hash: Sha256::new(),
        rest: BytesMut::new(),
        source: Some(source),
        ready: VecDeque::new(),
    };
    let stall_max = front.settings.limits.stall_max;
    let pieces =
        SnapshotPieces { front: Arc::clone(front), cutter, turns: Turns::default(), _open: open };
    Ok(StallGuard::with_view(pieces, stall_max, (front.backend.views(), file_bytes)))
}

/// The pieces of a snapshot, read as the client takes them.
#[derive(Debug)]
pub struct SnapshotPieces<B> {
    front: Arc<Front<B>>,
    cutter: Cutter,
    turns: Turns,
    _open: Permit,
}

impl<B> Paced for SnapshotPieces<B> {
    fn sending(&mut self) {
        self.turns.leave();
    }
}

impl<B: Backend> Stream for SnapshotPieces<B> {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.cutter.ready.pop_front() {
                return Poll::Ready(Some(piece));
            }
            if this.cutter.source.is_none() {
                return Poll::Ready(None);
            }
            let turn = ready!(this.turns.poll(&this.front, cx));
            this.cutter.read();
            this.turns.pass_on(turn);
        }
    }
}

/// Cuts a snapshot into pieces and hashes it on the way.
#[derive(Debug)]
struct Cutter {
    header: ResponseHeader,
    version: String,
    remaining_bytes: u64,
    sent_bytes: u64,
    hash: Sha256,
    /// Read, and less than a piece.
    rest: BytesMut,
    /// `None` when it was read to its end, or failed.
    source: Option<SnapshotStream>,
    /// Cut, and not yet taken.
    ready: VecDeque<Item>,
}

impl Cutter {
    /// Reads the next chunk of the source. An error ends the stream without a hash, so that no client takes a part for the
    /// whole.
    fn read(&mut self) {
        match self.source.as_mut().and_then(|source| source.chunks.next()) {
            Some(Ok(chunk)) => self.rest.extend_from_slice(&chunk),
            Some(Err(error)) => {
                self.source = None;
                self.ready.push_back(Err(error));
            }
            None => {
                self.source = None;
                self.seal();
            }
        }
        while self.rest.len() >= PIECE_BYTES {
            let piece = self.rest.split_to(PIECE_BYTES).freeze();
            let piece = self.piece(piece);
            self.ready.push_back(Ok(piece));
        }
    }

    /// The last piece, if it has anything, and the hash.
    fn seal(&mut self) {
        let last = self.last_piece();
        let digest = Bytes::copy_from_slice(&self.hash.finalize_reset());
        let seal = SnapshotResponse { remaining_bytes: 0, blob: digest, ..last.clone() };
        let last = (!last.blob.is_empty()).then_some(last);
        self.ready.extend(last.into_iter().chain([seal]).map(Ok));
    }

    /// What is left, filled up to a whole block.
    fn last_piece(&mut self) -> SnapshotResponse {
        let mut rest = std::mem::take(&mut self.rest);
        let total = self.sent_bytes + rest.len() as u64;
        let fill = total.next_multiple_of(BLOCK_BYTES) - total;
        rest.put_bytes(0, usize::try_from(fill).unwrap_or_default());
        self.piece(rest.freeze())
    }

    fn piece(&mut self, blob: Bytes) -> SnapshotResponse {
        self.hash.update(&blob);
        self.sent_bytes += blob.len() as u64;
        self.remaining_bytes = self.remaining_bytes.saturating_sub(blob.len() as u64);
        SnapshotResponse {
            header: Some(self.header),
            remaining_bytes: self.remaining_bytes,
            blob,
            version: self.version.clone(),
        }
    }
}
