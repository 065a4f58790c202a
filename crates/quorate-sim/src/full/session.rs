//! Clients: each asks one thing after another of the member it is connected to, and moves on when that is gone.

use std::sync::Arc;

use quorate_check::{
    Outcome,
    etcd::{Range, Step, Txn},
    revision::{self, Request},
};
use quorate_etcd::{Front, backend::ServerError};
use quorate_server::Handle;

use super::{
    call::{Alarm, Answer, Ask, Call, is_definite},
    history::History,
    network::exponential,
    plan::{MS, SECOND},
    trades::{Heard, Trade, Who, lease_key},
};

/// How long a client waits for an answer, at least and at most.
const PATIENCE_NS: (u64, u64) = (2 * SECOND, 9 * SECOND);
/// How often a call is looked at: every one waits for time as well.
const LOOK_NS: u64 = 50 * MS;

/// One client.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) who: Who,
    trade: Box<dyn Trade>,
    /// How many members there are, and the one that it is connected to.
    members: usize,
    pub(super) member: usize,
    pub(super) call: Option<Call>,
    /// When it asks again.
    pub(super) next_at: u64,
    /// The mean time between an answer and the next request.
    pause_ns: u64,
    pub(super) alarm: Arc<Alarm>,
    /// When a request was sent that did not end as it should, and how it ended: the latest.
    pub(super) failure: Option<(u64, String)>,
    /// How long the latest request waited that was refused for want of a leader, and which it was.
    pub(super) refusal: Option<(u64, String)>,
    /// Answers to linearizable requests.
    pub(super) answers: u64,
    /// The newest revision that the last answer showed, until a judge has looked.
    pub(super) told: Option<i64>,
}

impl Session {
    pub(super) fn new(who: Who, members: usize, pause_ns: u64, trade: Box<dyn Trade>) -> Self {
        let member = usize::try_from(who.client).unwrap_or(0) % members.max(1);
        Self {
            who,
            trade,
            members,
            member,
            call: None,
            next_at: 0,
            pause_ns,
            alarm: Arc::default(),
            failure: None,
            refusal: None,
            answers: 0,
            told: None,
        }
    }

    /// Asks the next thing.
    pub(super) fn begin(&mut self, front: &Arc<Front<Handle>>, now: u64) {
        let ask = self.trade.ask(&mut self.who, now);
        let patience = self.who.dice.within(PATIENCE_NS.0, PATIENCE_NS.1);
        self.call = Some(Call::begin(front, ask, (now, now + patience)));
    }

    /// Sees whether the answer is there, or too late.
    pub(super) fn poll(&mut self, now: u64, history: &mut History) {
        let Some(call) = &mut self.call else { return };
        match call.poll(&self.alarm) {
            Some(outcome) => self.finish(now, Some(outcome), history),
            None if now >= call.give_up_at => self.finish(now, None, history),
            None => {}
        }
    }

    /// The connection is lost, and with it the answer.
    pub(super) fn disconnect(&mut self, now: u64, history: &mut History) {
        if self.call.is_some() {
            self.finish(now, None, history);
        }
    }

    /// Looks for another member.
    pub(super) fn move_on(&mut self, now: u64) {
        self.member = self.who.dice.position(self.members);
        self.next_at = now + LOOK_NS;
    }

    /// When it wants to be looked at.
    pub(super) fn due(&self, now: u64) -> u64 {
        match &self.call {
            Some(call) => call.give_up_at.min(now + LOOK_NS),
            None => self.next_at,
        }
    }

    fn finish(
        &mut self,
        now: u64,
        outcome: Option<Result<Answer, ServerError>>,
        history: &mut History,
    ) {
        let Some(call) = self.call.take() else { return };
        self.note_failure(now, &call, outcome.as_ref());
        if outcome.is_none() {
            // Perhaps this member is cut off.
            self.member = self.who.dice.position(self.members);
        }
        if let Some(Err(ServerError::Internal(text))) = &outcome {
            history.fails(text);
        }
        self.answers += u64::from(matches!(outcome, Some(Ok(_))) && call.ask.is_linearizable());
        let outcome = match outcome {
            Some(Ok(answer)) => Outcome::Ok(answer),
            Some(Err(error)) if is_definite(&error) => Outcome::Failed,
            Some(Err(_)) | None => Outcome::Unknown,
        };
        if let Outcome::Ok(Answer::Keys(reply)) = &outcome {
            self.told = Some(reply.revision);
            history.shows(self.member, now, reply.revision);
        }
        let heard = Heard { now, call: &call, outcome: &outcome };
        if let Ask::Keys(request, lease) = &call.ask {
            note_keys(&mut self.who, request, *lease, &heard, history);
        }
        let next = self.trade.hear(&mut self.who, &heard, history);
        let usual = now + exponential(&mut self.who.dice, self.pause_ns) + 1;
        self.next_at = next.unwrap_or(usual);
    }
}

/// Writes a request for keys down.
fn note_keys(
    who: &mut Who,
    request: &Request,
    lease: i64,
    heard: &Heard<'_>,
    history: &mut History,
) {
    let outcome = match heard.outcome {
        Outcome::Ok(Answer::Keys(reply)) => {
            who.revision = who.revision.max(reply.revision);
            Outcome::Ok(reply.clone())
        }
        Outcome::Ok(Answer::Lease(_) | Answer::Left(_) | Answer::Done) | Outcome::Unknown => {
            Outcome::Unknown
        }
        Outcome::Failed => Outcome::Failed,
    };
    let (client, invoke, request) = (who.client, heard.call.invoke, request.clone());
    let returned = Some(heard.now);
    history.requests.push(revision::Operation { client, invoke, returned, request, outcome });
    if lease != 0 {
        // Its lease may delete the key at any time, once.
        let end = vec![Step::Delete(Range::one(&lease_key(lease)))];
        let request = Request::Txn(Txn { success: end, ..Txn::default() });
        let (returned, outcome) = (None, Outcome::Unknown);
        history.requests.push(revision::Operation { client, invoke, returned, request, outcome });
    }
}
