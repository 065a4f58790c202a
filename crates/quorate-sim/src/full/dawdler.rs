//! Clients that ask for the whole state as a stream, and take their time: each piece when they like, as one does whose
//! terminal is stopped or whose disk is slow.
//!
//! The state that such a client is shown keeps the space of everything that was overwritten since. It may have it while there
//! is room; once the file of the state has grown past its bound, the member must not go on showing what is older.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use quorate_check::etcd::Range;
use quorate_etcd::{
    Front,
    backend::{Backend, ServerError},
    handle::{range_stream::range_stream, snapshot::snapshot},
};
use quorate_proto::etcdserverpb::SnapshotRequest;
use quorate_server::Handle;
use tokio_stream::{Stream, StreamExt};

use super::{
    call::Alarm,
    member::Member,
    plan::{MS, Plan, SECOND},
    wire,
};
use crate::{
    dice::Dice,
    world::{Conviction, Judge},
};

/// How many quotas the file of the state may take before old states are taken back. Told in `docs/limits.md`.
const FILE_QUOTAS_MAX: u64 = 2;
/// How soon after the file has grown past that: a few looks at the clock.
const TAKEN_BACK_NS: u64 = 2 * SECOND;
/// How long a client leaves a piece where it is, at most.
const DAWDLES_NS: u64 = 20 * SECOND;

type Pieces = Pin<Box<dyn Stream<Item = Result<(), ServerError>> + Send>>;
type Opening = Pin<Box<dyn Future<Output = Result<Pieces, ServerError>> + Send>>;

/// One client.
#[derive(Debug)]
pub(super) struct Dawdler {
    dice: Dice,
    members: usize,
    pub(super) member: usize,
    pub(super) alarm: Arc<Alarm>,
    stream: Option<Open>,
    /// When it asks for a stream, or for more of one.
    pub(super) next_at: u64,
    quota_bytes: u64,
}

/// A stream that it has asked for.
struct Open {
    stage: Stage,
    /// Whether it waits for something now.
    asks: bool,
    /// How large the file of the state was when it asked, in bytes.
    file_bytes: u64,
    /// Since when the file has been larger than that, and than it may be.
    outgrown_since: Option<u64>,
}

enum Stage {
    Opening(Opening),
    Taking(Pieces),
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("file_bytes", &self.file_bytes).finish_non_exhaustive()
    }
}

impl Dawdler {
    /// All of them.
    pub(super) fn all(plan: &Plan) -> Vec<Self> {
        let one = |number: usize| Self {
            dice: Dice::fork(plan.seed, 0xda_3d1e + number as u64),
            members: plan.members,
            member: number % plan.members.max(1),
            alarm: Arc::default(),
            stream: None,
            next_at: 0,
            quota_bytes: plan.quota_bytes,
        };
        (0..plan.load.dawdlers).map(one).collect()
    }

    /// Whether it waits for a stream, or for more of one.
    pub(super) fn asks(&self) -> bool {
        self.stream.as_ref().is_some_and(|open| open.asks)
    }

    /// It goes, and asks another member later.
    pub(super) fn disconnect(&mut self, now: u64) {
        self.stream = None;
        self.member = self.dice.position(self.members);
        self.next_at = now + self.dice.within(MS, 5 * SECOND);
    }

    /// Its turn: to ask for a stream, or for more.
    pub(super) fn begin(&mut self, front: &Arc<Front<Handle>>, handle: &Handle) {
        if let Some(open) = &mut self.stream {
            open.asks = true;
            return;
        }
        let stage = Stage::Opening(opening(Arc::clone(front), self.dice.chance(500_000)));
        let file_bytes = handle.status().file_bytes;
        self.stream = Some(Open { stage, asks: true, file_bytes, outgrown_since: None });
    }

    /// Notes whether the file has grown past its bound since.
    pub(super) fn look(&mut self, now: u64, member: &Member) {
        let (Some(open), Some(running)) = (&mut self.stream, &member.running) else { return };
        let bound_bytes = open.file_bytes.max(FILE_QUOTAS_MAX * self.quota_bytes);
        if running.handle.status().file_bytes <= bound_bytes {
            open.outgrown_since = None;
        } else {
            let since = *open.outgrown_since.get_or_insert(now);
            // Nobody looked while it stood still.
            open.outgrown_since = Some(since.max(member.awake_since));
        }
    }

    /// Takes the next piece, if it is there and asked for.
    ///
    /// # Errors
    /// It should not be there any more.
    pub(super) fn poll(&mut self, now: u64) -> Result<(), Conviction> {
        let waker = Waker::from(Arc::clone(&self.alarm));
        let mut cx = Context::from_waker(&waker);
        let Some(open) = self.stream.as_mut().filter(|open| open.asks) else { return Ok(()) };
        if let Stage::Opening(opening) = &mut open.stage {
            match opening.as_mut().poll(&mut cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(pieces)) => open.stage = Stage::Taking(pieces),
                Poll::Ready(Err(_)) => {
                    self.disconnect(now);
                    return Ok(());
                }
            }
        }
        let Stage::Taking(pieces) = &mut open.stage else { return Ok(()) };
        match pieces.as_mut().poll_next(&mut cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Some(Ok(()))) => open.asks = false,
            Poll::Ready(None | Some(Err(_))) => {
                self.disconnect(now);
                return Ok(());
            }
        }
        let late = open.outgrown_since.filter(|since| since + TAKEN_BACK_NS < now);
        self.next_at = now + self.dice.below(DAWDLES_NS);
        late.map_or(Ok(()), |since| {
            let (kept_ms, member) = ((now - since) / MS, self.member);
            let detail = format!("member {member} kept an old state for {kept_ms} ms too long");
            Err(Conviction::new(Judge::Conservation, detail))
        })
    }
}

/// Asks for the whole state.
fn opening(front: Arc<Front<Handle>>, is_snapshot: bool) -> Opening {
    Box::pin(async move {
        front.ready().await?;
        let pieces: Pieces = if is_snapshot {
            let pieces = snapshot(&front, SnapshotRequest {}).await?;
            Box::pin(pieces.map(|piece| piece.map(drop)))
        } else {
            let request = wire::range(&Range::all(), None, true);
            let pieces = range_stream(&front, request).await?;
            Box::pin(pieces.map(|piece| piece.map(drop)))
        };
        Ok(pieces)
    })
}
