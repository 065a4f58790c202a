//! Long work for clients: in slices, in turns, with an end when its client goes.
//!
//! A serving thread answers many clients. So whatever may take long is done a slice at a time on the thread that asked for
//! it, and before each slice it waits for its turn: slices are handed out to clients in turn, whatever they ask and however
//! often, and a few at a time, so that the threads look at their sockets in between and the log and the state machine
//! have a processor. There is no thread to be left behind: a client that goes drops its request, and with it the work.
//!
//! A place in the line is kept only by who is going to be asked again: a turn that was given to a stream whose client takes
//! nothing would be lost to all others. So a stream [leaves](Turns::leave) the line while its client is sent something.
//!
//! What the first slice ends is answered at once, without a turn. That is nearly everything.
//!
//! Left out: cutting the sorting of many keys into slices, and one large deletion, which the state machine does whole.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use quorate_kv::{Budget, LongCost, LongHash, LongRange, LongTxn, ReadError};
use quorate_proto::{
    etcdserverpb::{RangeResponse, TxnResponse},
    mvccpb::KeyValue,
};

use crate::{
    backend::{Backend, ServerError},
    fair::{Acquire, LineFull, Permit},
    front::Front,
};

/// An answer of this size waits for room, and is made when no other of its kind is.
const LARGE_BYTES: usize = 256 * 1024;

/// Work that is done in slices.
pub(crate) trait Slices {
    /// What it comes to.
    type Answer;

    /// Does one slice. Gives the answer when it is whole.
    fn advance(&mut self, budget: &mut Budget) -> Result<Option<Self::Answer>, ReadError>;

    /// Bytes of the answer that it holds already, roughly.
    fn held_bytes(&self) -> usize;
}

/// Where the pairs of a range go.
pub(crate) trait Pairs: Default {
    /// Takes all of `kvs`.
    fn take(&mut self, kvs: &mut Vec<KeyValue>);
}

impl Pairs for Vec<KeyValue> {
    fn take(&mut self, kvs: &mut Vec<KeyValue>) {
        self.append(kvs);
    }
}

/// A range whose pairs go to `P`.
pub(crate) struct RangeInto<P> {
    range: LongRange,
    pairs: P,
    slice: Vec<KeyValue>,
}

impl<P: Pairs> RangeInto<P> {
    pub(crate) fn new(range: LongRange) -> Self {
        Self { range, pairs: P::default(), slice: Vec::new() }
    }
}

impl<P: Pairs> Slices for RangeInto<P> {
    /// The answer but for its pairs, and those.
    type Answer = (RangeResponse, P);

    fn advance(&mut self, budget: &mut Budget) -> Result<Option<Self::Answer>, ReadError> {
        let end = self.range.advance(budget, &mut self.slice)?;
        self.pairs.take(&mut self.slice);
        Ok(end.map(|end| (end, std::mem::take(&mut self.pairs))))
    }

    fn held_bytes(&self) -> usize {
        self.range.held_bytes()
    }
}

impl Slices for LongTxn {
    type Answer = TxnResponse;

    fn advance(&mut self, budget: &mut Budget) -> Result<Option<TxnResponse>, ReadError> {
        self.advance(budget)
    }

    fn held_bytes(&self) -> usize {
        self.held_bytes()
    }
}

impl Slices for LongHash {
    type Answer = quorate_kv::HashKv;

    fn advance(&mut self, budget: &mut Budget) -> Result<Option<Self::Answer>, ReadError> {
        self.advance(budget)
    }

    fn held_bytes(&self) -> usize {
        0
    }
}

impl Slices for LongCost {
    type Answer = u64;

    fn advance(&mut self, budget: &mut Budget) -> Result<Option<u64>, ReadError> {
        self.advance(budget)
    }

    fn held_bytes(&self) -> usize {
        0
    }
}

/// An answer and, if it is large, its room among all the large ones. Who sends it gives the room back.
#[derive(Debug)]
pub(crate) struct Roomy<T> {
    pub(crate) answer: T,
    pub(crate) room: Option<Permit>,
}

impl<B: Backend> Front<B> {
    /// What a slice may do.
    pub(crate) fn slice(&self) -> Budget {
        Budget::new(self.settings.limits.slice_steps)
    }

    /// Does work that is usually short: its first slice at once, the others in turn. Of the long ones only some are open at
    /// a time, and of those with a large answer one, once there is room for it; one that is not waits without a state, and
    /// begins anew.
    pub(crate) async fn short_or_long<W: Slices>(
        &self,
        begin: impl Fn() -> Result<W, ReadError>,
    ) -> Result<Roomy<W::Answer>, ServerError> {
        let mut work = begin()?;
        if let Some(answer) = work.advance(&mut self.slice())? {
            return Ok(Roomy { answer, room: None });
        }
        let reads = &self.admission.long_reads;
        let open = if let Some(open) = reads.try_acquire(self.client, 1) {
            open
        } else {
            drop(work);
            let open = reads.acquire(self.client, 1)?.await;
            work = begin()?;
            open
        };
        while work.held_bytes() < LARGE_BYTES {
            if let Some(answer) = self.one_slice(&mut work).await? {
                return Ok(Roomy { answer, room: None });
            }
        }
        drop(open);
        self.large(work, begin).await
    }

    /// Makes a large answer.
    async fn large<W: Slices>(
        &self,
        mut work: W,
        begin: impl Fn() -> Result<W, ReadError>,
    ) -> Result<Roomy<W::Answer>, ServerError> {
        let (makers, rooms) = (&self.admission.large_answers, &self.admission.answer_bytes);
        let least = LARGE_BYTES as u64;
        let made = makers.try_acquire(self.client, 1);
        let at_once = made.and_then(|maker| Some((maker, rooms.try_acquire(self.client, least)?)));
        let (_maker, mut room) = if let Some(both) = at_once {
            both
        } else {
            drop(work);
            let maker = makers.acquire(self.client, 1)?.await;
            let room = rooms.acquire(self.client, least)?.await;
            work = begin()?;
            (maker, room)
        };
        loop {
            if let Some(answer) = self.one_slice(&mut work).await? {
                room.set_weight(work.held_bytes() as u64);
                return Ok(Roomy { answer, room: Some(room) });
            }
            room.set_weight((work.held_bytes() as u64).max(least));
        }
    }

    /// Does work that was let in, each slice in turn.
    pub(crate) async fn in_turn<W: Slices>(&self, work: &mut W) -> Result<W::Answer, ServerError> {
        loop {
            if let Some(answer) = self.one_slice(work).await? {
                return Ok(answer);
            }
        }
    }

    /// Waits for a turn, does a slice, and gives way.
    async fn one_slice<W: Slices>(&self, work: &mut W) -> Result<Option<W::Answer>, ServerError> {
        let turn = self.admission.slices.acquire(self.client, 1)?.await;
        let answer = work.advance(&mut self.slice())?;
        if answer.is_none()
            && let Some(turn) = pass_on(turn)
        {
            tokio::task::yield_now().await;
            drop(turn);
        }
        Ok(answer)
    }
}

/// Gives a turn to the next, once this thread has looked at its sockets. Without a runtime it comes back: the caller is to
/// give way by itself.
fn pass_on(turn: Permit) -> Option<Permit> {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return Some(turn) };
    runtime.spawn(async move {
        tokio::task::yield_now().await;
        drop(turn);
    });
    None
}

/// A stream that is asked only as its client takes what it gave.
pub(crate) trait Paced {
    /// Something of it is being sent. Until its client took that, this stream is not asked, whomever it woke: it must not
    /// keep what others wait for.
    fn sending(&mut self) {}
}

/// A stream's way to its turns.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    asked: Option<Acquire>,
    /// Without a runtime: give way before the next.
    rests: bool,
}

impl Turns {
    /// Waits for a turn. It is to be passed on after the slice.
    pub(crate) fn poll<B: Backend>(
        &mut self,
        front: &Front<B>,
        cx: &mut Context<'_>,
    ) -> Poll<Turn> {
        if std::mem::take(&mut self.rests) {
            give_way(cx);
            return Poll::Pending;
        }
        let asked = self
            .asked
            .take()
            .map_or_else(|| front.admission.slices.acquire(front.client, 1), Ok::<_, LineFull>);
        // That line has no end.
        let Ok(mut asked) = asked else { return Poll::Pending };
        match Pin::new(&mut asked).poll(cx) {
            Poll::Ready(permit) => Poll::Ready(Turn(permit)),
            Poll::Pending => {
                self.asked = Some(asked);
                Poll::Pending
            }
        }
    }

    /// Leaves the line, and gives a turn back that came meanwhile: whoever is asked no more would keep it for ever.
    pub(crate) fn leave(&mut self) {
        self.asked = None;
    }

    /// The slice is done.
    pub(crate) fn pass_on(&mut self, turn: Turn) {
        // Nobody may ask this stream again, so it must not hold a turn.
        self.rests = pass_on(turn.0).is_some();
    }
}

/// Asks for another poll, once this thread has looked at its sockets.
pub(crate) fn give_way(cx: &mut Context<'_>) {
    // Its first poll leaves the waker where the runtime finds it after that look.
    let _ = std::pin::pin!(tokio::task::yield_now()).poll(cx);
}

/// A stream's turn.
#[derive(Debug)]
pub(crate) struct Turn(Permit);

impl From<LineFull> for ServerError {
    fn from(_: LineFull) -> Self {
        Self::TooManyRequests
    }
}
