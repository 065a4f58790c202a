//! What only the leader can do: renewing a lease, telling how long it still has.
//!
//! A follower asks its leader over the peer connection. The leader first confirms that it still leads, as for a linearizable read:
//! a deposed one must not acknowledge a renewal that its successor knows nothing of.
//!
//! The Raft thread renews, in the moment in which leadership is confirmed; heartbeats wait meanwhile. So it renews only when
//! nobody else has the lessor, who may have it for seconds (a promotion looks at every lease): else a job waits for it
//! ([`Beside`](crate::beside::Beside)), and then leadership is confirmed anew. Whatever reads the state is done by that job, too.
//! The keys of a lease, of which there may be very many, are no matter of the leader's: whoever asks for them reads them from its
//! own state.
//!
//! Bodies are a byte that says what it is, then fixed little-endian numbers.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use quorate_kv::{Command, LeaseChange, Lessor, lessor::Renewal};
use quorate_node::{PeerMessage, Scope};
use quorate_proto::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest};
use quorate_raft::{NodeId, Term};

use crate::{
    beside::Beside,
    bugs::Bug,
    pending::Waiter,
    shared::Shared,
    slot::{Slot, WakeBatch},
};

/// Stands for the time to live of a lease that is not there. A real one is positive.
const NO_LEASE: i64 = 0;

/// A call of the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Start the time of these leases anew.
    Renew { ids: Arc<[i64]> },
    /// How long it still has.
    TimeToLive { id: i64 },
}

/// The leader's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Not the leader, or not for certain: ask again.
    TryAgain,
    /// Each lease has its full time to live again; `None`: there is no such lease.
    Renewed(Vec<Option<i64>>),
    /// What is known of its time; `None`: there is no such lease.
    TimeToLive(Option<TimeLeft>),
    /// The leader's state can't be read: its words for it.
    Failed(String),
}

/// What the leader knows of a lease's time, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeLeft {
    /// 0 when its time is over.
    pub(crate) remaining_ttl: i64,
    pub(crate) granted_ttl: i64,
}

/// How often a call waits for the lessor. Whoever asks does so again.
const WAITS_MAX: u32 = 4;

impl Call {
    /// Does it on this node if it leads, and hands the answer to `done`: now, or later on another thread.
    pub(crate) fn serve(self, shared: &Arc<Shared>, done: impl FnOnce(Answer) + Send + 'static) {
        self.serve_after(shared, 0, done);
    }

    /// The same, after so many waits for the lessor.
    fn serve_after(
        self,
        shared: &Arc<Shared>,
        waits: u32,
        done: impl FnOnce(Answer) + Send + 'static,
    ) {
        let server = Arc::clone(shared);
        let then = move |confirmed: Result<(), _>| match (confirmed, server.standing.leads()) {
            (Ok(()), Some(term)) => self.perform(&server, (term, waits), done),
            (Ok(()) | Err(_), _) => done(Answer::TryAgain),
        };
        shared.read(Waiter::Call(Box::new(then)));
    }

    /// Does it as the leader of `term`.
    fn perform(
        self,
        shared: &Arc<Shared>,
        (term, waits): (Term, u32),
        done: impl FnOnce(Answer) + Send + 'static,
    ) {
        match self {
            Self::Renew { ids } => match with_free_lessor(shared, term, &ids) {
                Some(renewed) => renew(shared, (term, 0), (ids, renewed), done),
                None if waits < WAITS_MAX => {
                    beside(shared, done, move |server, done| {
                        drop(server.lessor.lock());
                        Self::Renew { ids }.serve_after(server, waits + 1, done);
                    });
                }
                None => done(Answer::TryAgain),
            },
            Self::TimeToLive { id } => {
                beside(shared, done, move |server, done| done(time_to_live(server, term, id)));
            }
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Renew { ids } => {
                out.put_u8(1);
                ids.iter().for_each(|id| out.put_i64_le(*id));
            }
            Self::TimeToLive { id } => {
                out.put_u8(2);
                out.put_i64_le(*id);
            }
        }
        out.freeze()
    }

    fn decode(mut body: &[u8]) -> Option<Self> {
        match body.try_get_u8().ok()? {
            1 => {
                let (ids, rest) = body.as_chunks();
                let ids = ids.iter().map(|id| i64::from_le_bytes(*id)).collect();
                rest.is_empty().then_some(Self::Renew { ids })
            }
            2 => {
                let id = body.try_get_i64_le().ok()?;
                body.is_empty().then_some(Self::TimeToLive { id })
            }
            _ => None,
        }
    }
}

impl Answer {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::TryAgain => out.put_u8(0),
            Self::Renewed(ttls) => {
                out.put_u8(1);
                for ttl in ttls {
                    out.put_i64_le(ttl.unwrap_or(NO_LEASE));
                }
            }
            Self::TimeToLive(None) => out.put_u8(3),
            Self::Failed(words) => {
                out.put_u8(5);
                out.put_slice(words.as_bytes());
            }
            Self::TimeToLive(Some(left)) => {
                out.put_u8(4);
                out.put_i64_le(left.remaining_ttl);
                out.put_i64_le(left.granted_ttl);
            }
        }
        out.freeze()
    }

    fn decode(mut body: Bytes) -> Option<Self> {
        match body.try_get_u8().ok()? {
            0 => Some(Self::TryAgain),
            1 => {
                let (ttls, rest) = body.as_chunks();
                let ttl =
                    |raw: &[u8; 8]| Some(i64::from_le_bytes(*raw)).filter(|ttl| *ttl != NO_LEASE);
                let ttls = ttls.iter().map(ttl).collect();
                rest.is_empty().then_some(Self::Renewed(ttls))
            }
            3 => Some(Self::TimeToLive(None)),
            4 => {
                let remaining_ttl = body.try_get_i64_le().ok()?;
                let granted_ttl = body.try_get_i64_le().ok()?;
                let left = TimeLeft { remaining_ttl, granted_ttl };
                body.is_empty().then_some(Self::TimeToLive(Some(left)))
            }
            5 => Some(Self::Failed(String::from_utf8_lossy(&body).into_owned())),
            _ => None,
        }
    }
}

/// Does what may have to wait for the lessor or the disk, if there is room for it.
fn beside<D: FnOnce(Answer) + Send + 'static>(
    shared: &Arc<Shared>,
    done: D,
    act: impl FnOnce(&Arc<Shared>, D) + Send + 'static,
) {
    let server = Arc::clone(shared);
    let act = move |has_room| if has_room { act(&server, done) } else { done(Answer::TryAgain) };
    Beside::put(shared, Box::new(act));
}

/// Does something with the lessor if it keeps time for the leadership of `term`. Another one's clock knows nothing of what
/// was renewed elsewhere in between.
fn for_term<T>(
    shared: &Shared,
    term: Term,
    lessor: &mut Lessor,
    act: impl FnOnce(&mut Lessor) -> T,
) -> Option<T> {
    let is_current = lessor.primary_term() == Some(term.0);
    (is_current || shared.makes(Bug::LessorOfAnyTerm)).then(|| act(lessor))
}

/// What became of a renewal, as [`renew_all`] tells it.
type Renewed = Option<(Vec<Option<i64>>, Vec<LeaseCheckpoint>)>;

/// Renews unless somebody has the lessor: `None`.
fn with_free_lessor(shared: &Shared, term: Term, ids: &[i64]) -> Option<Renewed> {
    let mut lessor = shared.lessor.try_lock()?;
    Some(for_term(shared, term, &mut lessor, |lessor| renew_all(shared, lessor, ids)).flatten())
}

/// How often checkpoints are taken back for one call. The next ones are named an interval later at the earliest.
const RESETS_MAX: u32 = 4;

/// Leadership of `term` is confirmed, and the leases were renewed, but for those that were checkpointed: they are first given
/// back their whole time, through the log, and then all are renewed once more, by the apply side. That an entry of this term
/// was committed confirms the leadership anew, unless it was lost since, of which the lessor may not have heard yet.
fn renew(
    shared: &Arc<Shared>,
    (term, resets): (Term, u32),
    (ids, renewed): (Arc<[i64]>, Renewed),
    done: impl FnOnce(Answer) + Send + 'static,
) {
    let Some((ttls, checkpointed)) = renewed else { return done(Answer::TryAgain) };
    if checkpointed.is_empty() {
        let renewed = ttls.iter().filter(|ttl| ttl.is_some()).count();
        shared.metrics.leases_renewed.add(renewed as u64);
        return done(Answer::Renewed(ttls));
    }
    let command = Command::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints: checkpointed });
    let server = Arc::clone(shared);
    let then = move |outcome: Result<_, _>| match outcome {
        Ok(_) if resets < RESETS_MAX && server.standing.leads() == Some(term) => {
            let mut lessor = server.lessor.lock();
            let act = |lessor: &mut Lessor| renew_all(&server, lessor, &ids);
            let renewed = for_term(&server, term, &mut lessor, act).flatten();
            drop(lessor);
            renew(&server, (term, resets + 1), (ids, renewed), done);
        }
        Ok(_) | Err(_) => done(Answer::TryAgain),
    };
    shared.propose(&command, Scope::LeaderOf(term), Some(Waiter::Call(Box::new(then))));
}

/// Renews what can be renewed: the times to live, and the checkpoints that must be taken back before. `None` if this node
/// keeps no time.
fn renew_all(shared: &Shared, lessor: &mut Lessor, ids: &[i64]) -> Renewed {
    let mut ttls = Vec::with_capacity(ids.len());
    let mut checkpointed = Vec::new();
    let now = shared.clock.now().0;
    for id in ids {
        if shared.makes(Bug::CheckpointNotTakenBack) {
            lessor.apply(now, &LeaseChange::Checkpointed { id: *id, remaining_ttl: 0 });
        }
        let renewal = if shared.makes(Bug::RenewalsShort) && !ttls.is_empty() {
            unrenewed(shared, *id)
        } else {
            lessor.renew(now, *id)
        };
        match renewal {
            Renewal::Renewed { ttl } => ttls.push(Some(ttl)),
            Renewal::Expiring | Renewal::Unknown => ttls.push(None),
            Renewal::NotPrimary => return None,
            Renewal::ResetCheckpointFirst => {
                checkpointed.push(LeaseCheckpoint { id: *id, remaining_ttl: 0 });
            }
        }
    }
    Some((ttls, checkpointed))
}

/// What would be told of a lease if it had been renewed.
fn unrenewed(shared: &Shared, id: i64) -> Renewal {
    let granted = shared.reader.load().lease(id).ok().flatten();
    granted.map_or(Renewal::Unknown, |lease| Renewal::Renewed { ttl: lease.ttl })
}

fn time_to_live(shared: &Shared, term: Term, id: i64) -> Answer {
    // A state that can't be read is no lease that isn't there.
    let granted_ttl = match shared.reader.load().lease(id) {
        Ok(Some(record)) => record.ttl,
        Ok(None) => return Answer::TimeToLive(None),
        Err(error) => return Answer::Failed(error.to_string()),
    };
    let now = shared.clock.now().0;
    let mut lessor = shared.lessor.lock();
    let remaining = for_term(shared, term, &mut lessor, |lessor| lessor.remaining(now, id));
    drop(lessor);
    let Some(remaining_ttl) = remaining.flatten() else { return Answer::TryAgain };
    Answer::TimeToLive(Some(TimeLeft { remaining_ttl, granted_ttl }))
}

/// Calls of other nodes that are under way.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Arc<Slot<Answer>>>>,
}

impl Calls {
    /// Asks `to`; the answer comes to `slot`, if it comes. `asked` notes it, so that it is forgotten with the others.
    pub(crate) fn ask(
        &self,
        shared: &Shared,
        (to, call): (NodeId, &Call),
        slot: &Arc<Slot<Answer>>,
        asked: &mut Asked<'_>,
    ) {
        let id = self.next.fetch_add(1, Relaxed);
        self.waiting.lock().insert(id, Arc::clone(slot));
        asked.ids.push(id);
        let message = PeerMessage::ServiceRequest { id, body: call.encode() };
        if !shared.send(to, message) {
            self.answer(id, Answer::TryAgain);
        }
    }

    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    fn answer(&self, id: u64, answer: Answer) {
        let waiting = self.waiting.lock().remove(&id);
        if let Some(slot) = waiting {
            slot.fill(answer, &mut WakeBatch::default());
        }
    }
}

/// The numbers under which a call was made, again and again, until one is answered. Forgotten when dropped, also when the client
/// goes away.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    shared: &'a Shared,
    ids: Vec<u64>,
}

impl<'a> Asked<'a> {
    /// None yet.
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared, ids: Vec::new() }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.shared.makes(Bug::CallsKept) {
            return;
        }
        let mut waiting = self.shared.calls.waiting.lock();
        for id in &self.ids {
            waiting.remove(id);
        }
    }
}

/// Another node calls.
pub(crate) fn take_request(shared: &Arc<Shared>, from: NodeId, id: u64, body: &[u8]) {
    let Some(call) = Call::decode(body) else {
        tracing::warn!(from = from.0, id, "a call that is not known");
        return;
    };
    let server = Arc::clone(shared);
    call.serve(shared, move |answer| {
        // Lost is like late: the caller asks again.
        server.send(from, PeerMessage::ServiceReply { id, body: answer.encode() });
    });
}

/// Another node answers.
pub(crate) fn take_reply(shared: &Shared, id: u64, body: Bytes) {
    shared.calls.answer(id, Answer::decode(body).unwrap_or(Answer::TryAgain));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ServerConfig, testing};

    #[test]
    fn calls_survive_the_wire() {
        let calls = [
            Call::Renew { ids: [-7, 8].into() },
            Call::Renew { ids: [].into() },
            Call::TimeToLive { id: 9 },
        ];
        for call in calls {
            assert_eq!(Call::decode(&call.encode()), Some(call));
        }
        assert_eq!(Call::decode(&[]), None);
        assert_eq!(Call::decode(&[9; 9]), None);
        assert_eq!(Call::decode(&[2; 10]), None);
        assert_eq!(Call::decode(&[1; 10]), None);
    }

    /// The slot of an answer once stayed behind when the client did not wait for it.
    #[test]
    fn a_call_is_forgotten_with_its_client() {
        let (vfs, now) = (Arc::default(), Arc::default());
        let server = testing::started(&vfs, &now, ServerConfig::default());
        let (shared, slot) = (&*server.handle.0, Slot::here());
        shared.calls.waiting.lock().insert(3, slot);
        let asked = Asked { shared, ids: vec![3] };
        assert_eq!(shared.calls.len(), 1);
        drop(asked);
        assert_eq!(shared.calls.len(), 0);
    }

    #[test]
    fn answers_survive_the_wire() {
        let left = TimeLeft { remaining_ttl: 3, granted_ttl: 5 };
        let answers = [
            Answer::TryAgain,
            Answer::Renewed(vec![None, Some(60)]),
            Answer::Renewed(Vec::new()),
            Answer::TimeToLive(None),
            Answer::TimeToLive(Some(left)),
            Answer::Failed("state: corrupt".into()),
        ];
        for answer in answers {
            assert_eq!(Answer::decode(answer.encode()), Some(answer));
        }
        let mut long = Answer::TimeToLive(Some(left)).encode().to_vec();
        long.push(1);
        assert_eq!(Answer::decode(long.into()), None);
        assert_eq!(Answer::decode(Bytes::new()), None);
    }
}
