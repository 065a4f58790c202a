//! A snapshot of the state as a stream: pieces of 32 KiB, then the SHA-256 of them all.
//!
//! The shape of the stream is etcd's, so its clients save and check it; what is inside is Quorate's own snapshot format.
//! etcd's clients take a file for one with a hash only if what is before the hash is a whole number of 512 byte blocks, as
//! a file of pages is. So zeros fill the last block; they are hashed, and a reader of the format ignores what follows its
//! end.
//!
//! The state is read on a thread that may wait for the disk, a few pieces ahead of the client.
//!
//! Sources: etcd `server/etcdserver/api/v3rpc/maintenance.go`; `hasChecksum` in `client/v3/snapshot/v3_snapshot.go`.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use quorate_proto::etcdserverpb::{ResponseHeader, SnapshotRequest, SnapshotResponse};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::Stream;

use crate::{
    backend::{Backend, ServerError, SnapshotStream},
    front::Front,
};

/// Bytes in each piece but the last. Source: etcd's `snapshotSendBufferSize`.
const PIECE_BYTES: usize = 32 * 1024;

/// The whole is filled up to a multiple of this.
const BLOCK_BYTES: u64 = 512;

/// How many pieces are read ahead of the client.
const PIECES_AHEAD_MAX: usize = 8;

type Item = Result<SnapshotResponse, ServerError>;

/// Opens a snapshot of the newest applied state.
///
/// # Errors
/// Those of [`Backend::snapshot`].
pub fn snapshot<B: Backend>(
    front: &Front<B>,
    _: SnapshotRequest,
) -> Result<SnapshotPieces, ServerError> {
    let source = front.backend.snapshot()?;
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD_MAX);
    let cutter = Cutter {
        header: front.header(),
        version: front.settings.minor_version(),
        remaining_bytes: source.size_bytes.next_multiple_of(BLOCK_BYTES),
        sent_bytes: 0,
        hash: Sha256::new(),
    };
    tokio::task::spawn_blocking(move || cutter.run(source, &sender));
    Ok(SnapshotPieces { pieces })
}

/// The pieces of a snapshot, as the client takes them.
#[derive(Debug)]
pub struct SnapshotPieces {
    pieces: mpsc::Receiver<Item>,
}

impl Stream for SnapshotPieces {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.pieces.poll_recv(cx)
    }
}

/// Cuts a snapshot into pieces and hashes it on the way.
struct Cutter {
    header: ResponseHeader,
    version: String,
    remaining_bytes: u64,
    sent_bytes: u64,
    hash: Sha256,
}

impl Cutter {
    /// Reads all of `source` into `sender`, until the client is gone. An error ends the stream without a hash, so that
    /// no client takes a part for the whole.
    fn run(mut self, source: SnapshotStream, sender: &mpsc::Sender<Item>) {
        let mut rest = BytesMut::new();
        for chunk in source.chunks {
            match chunk {
                Ok(chunk) => rest.extend_from_slice(&chunk),
                Err(error) => {
                    // A client that is gone needs no error.
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
            }
            while rest.len() >= PIECE_BYTES {
                let piece = self.piece(rest.split_to(PIECE_BYTES).freeze());
                if sender.blocking_send(Ok(piece)).is_err() {
                    return;
                }
            }
        }
        let last = self.last_piece(rest);
        let digest = Bytes::copy_from_slice(&self.hash.finalize_reset());
        let seal = SnapshotResponse { remaining_bytes: 0, blob: digest, ..last.clone() };
        let last = (!last.blob.is_empty()).then_some(last);
        for message in last.into_iter().chain([seal]) {
            if sender.blocking_send(Ok(message)).is_err() {
                return;
            }
        }
    }

    /// What is left, filled up to a whole block.
    fn last_piece(&mut self, mut rest: BytesMut) -> SnapshotResponse {
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
