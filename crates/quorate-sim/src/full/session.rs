//! Clients: each asks one thing after another of the member it is connected to, and moves on when that is gone.

use std::sync::Arc;

use quorate_check::{
    Outcome, cycles,
    etcd::{Compare, KeyValue, Range, Step, StepReply, Txn},
    lease,
    revision::{self, Reply, Request},
};
use quorate_etcd::{Front, backend::ServerError};
use quorate_server::Handle;

use super::{
    call::{Alarm, Answer, Ask, Call, is_definite},
    history::{History, REGISTER_PREFIX},
    network::exponential,
    plan::{Load, MS, SECOND},
};
use crate::dice::Dice;

/// How long a client waits for an answer, at least and at most.
const PATIENCE_NS: (u64, u64) = (2 * SECOND, 9 * SECOND);
/// How many lists there are.
const LISTS: u64 = 2;

/// One client.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: u64,
    dice: Dice,
    load: Load,
    trade: Trade,
    /// How many members there are, and the one that it is connected to.
    members: usize,
    pub(super) member: usize,
    pub(super) call: Option<Call>,
    /// When it asks again.
    pub(super) next_at: u64,
    pub(super) alarm: Arc<Alarm>,
    /// The newest revision it has heard of.
    revision: i64,
    /// What it wrote last.
    written: u64,
    /// Answers to linearizable requests.
    pub(super) answers: u64,
}

/// What a client does.
#[derive(Debug)]
pub(super) enum Trade {
    /// Reads and writes keys.
    Keys,
    /// Appends to lists, in transactions that also read.
    Lists(Option<Append>),
    /// Holds one lease after the other.
    Leases(Tenancy),
}

/// A list transaction between its read and its write.
#[derive(Debug)]
pub(super) struct Append {
    invoke: u64,
    lists: Vec<Vec<u64>>,
    /// To which list, and what; `None` while the read is under way.
    adds: Option<(u64, u64)>,
}

/// What a client knows of its lease.
#[derive(Debug, Default)]
pub(super) struct Tenancy {
    /// How many it has had.
    count: i64,
    stage: Stage,
    /// When the grant was asked for.
    since: u64,
    ttl: i64,
    renewals: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Grant,
    Put,
    Renew,
    Revoke,
    /// Looks until the key is gone.
    Look,
}

impl Tenancy {
    fn lease(&self, client: u64) -> i64 {
        client.cast_signed() * 10_000 + self.count
    }
}

/// The key of a lease.
fn lease_key(lease: i64) -> String {
    format!("lease{lease}")
}

impl Session {
    pub(super) fn new(
        client: u64,
        members: usize,
        (dice, load): (Dice, Load),
        trade: Trade,
    ) -> Self {
        let alarm = Arc::default();
        let (member, next_at) = (usize::try_from(client).unwrap_or(0) % members.max(1), 0);
        let (revision, written, answers) = (1, 0, 0);
        let call = None;
        Self {
            client,
            dice,
            load,
            trade,
            members,
            member,
            call,
            next_at,
            alarm,
            revision,
            written,
            answers,
        }
    }

    /// Asks the next thing.
    pub(super) fn begin(&mut self, front: &Arc<Front<Handle>>, now: u64) {
        let ask = self.next_ask(now);
        let patience = self.dice.within(PATIENCE_NS.0, PATIENCE_NS.1);
        self.call = Some(Call::begin(front, ask, (now, now + patience)));
    }

    /// Sees whether the answer is there, or too late.
    pub(super) fn poll(&mut self, now: u64, history: &mut History) {
        let Some(call) = &mut self.call else { return };
        let outcome = call.poll(&self.alarm);
        match outcome {
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
        self.member = self.dice.position(self.members);
        self.next_at = now + 50 * MS;
    }

    /// When it wants to be looked at.
    pub(super) fn due(&self, now: u64) -> u64 {
        match &self.call {
            Some(call) if call.watches_clock() => call.give_up_at.min(now + 50 * MS),
            Some(call) => call.give_up_at,
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
        self.next_at = now + exponential(&mut self.dice, self.load.pause_ns) + 1;
        if outcome.is_none() {
            // Perhaps this member is cut off.
            self.member = self.dice.position(self.members);
        }
        self.answers += u64::from(matches!(outcome, Some(Ok(_))) && call.ask.is_linearizable());
        let outcome = match outcome {
            Some(Ok(answer)) => Outcome::Ok(answer),
            Some(Err(error)) if is_definite(&error) => Outcome::Failed,
            Some(Err(_)) | None => Outcome::Unknown,
        };
        if let Ask::Keys(request, lease) = &call.ask {
            self.note_keys(now, (&call, request, *lease), &outcome, history);
        }
        match &mut self.trade {
            Trade::Keys => {}
            Trade::Lists(_) => self.go_on_with_lists(now, &outcome, history),
            Trade::Leases(_) => self.go_on_with_lease(now, &call, &outcome, history),
        }
    }

    /// Writes the request down.
    fn note_keys(
        &mut self,
        now: u64,
        (call, request, lease): (&Call, &Request, i64),
        outcome: &Outcome<Answer>,
        history: &mut History,
    ) {
        let outcome = match outcome {
            Outcome::Ok(Answer::Keys(reply)) => {
                self.revision = self.revision.max(reply.revision);
                Outcome::Ok(reply.clone())
            }
            Outcome::Ok(Answer::Lease(_) | Answer::Done) | Outcome::Unknown => Outcome::Unknown,
            Outcome::Failed => Outcome::Failed,
        };
        let (client, invoke, returned) = (self.client, call.invoke, Some(now));
        let request = request.clone();
        history.requests.push(revision::Operation { client, invoke, returned, request, outcome });
        if lease != 0 {
            // Its lease may delete the key at any time, once.
            let end = Txn {
                success: vec![Step::Delete(Range::one(&lease_key(lease)))],
                ..Txn::default()
            };
            let (request, outcome) = (Request::Txn(end), Outcome::Unknown);
            let returned = None;
            history.requests.push(revision::Operation {
                client,
                invoke,
                returned,
                request,
                outcome,
            });
        }
    }

    fn next_ask(&mut self, now: u64) -> Ask {
        match &self.trade {
            Trade::Keys => self.ask_for_keys(),
            Trade::Lists(_) => self.ask_for_lists(now),
            Trade::Leases(_) => self.ask_for_lease(now),
        }
    }

    fn value(&mut self) -> String {
        self.written += 1;
        format!("{}.{}", self.client, self.written)
    }

    fn ask_for_keys(&mut self) -> Ask {
        if self.load.compacts && self.dice.chance(30_000) {
            return Ask::Compact(self.revision - self.dice.below(10).cast_signed());
        }
        let is_register = self.dice.chance(500_000);
        let prefix = if is_register { REGISTER_PREFIX } else { "k" };
        let key = format!("{prefix}{}", self.dice.below(self.load.keys));
        let read = |range, at, serializable| Request::Read { range, at, serializable };
        let one = Range::one(&key);
        let request = match self.dice.below(100) {
            0..30 => read(one, None, false),
            30..38 => read(one, None, true),
            38..44 => read(Range::all(), None, self.dice.chance(300_000)),
            44..48 => {
                let back = self.dice.below(5).cast_signed();
                read(Range::all(), Some((self.revision - back).max(1)), self.dice.chance(500_000))
            }
            48..75 => Request::Txn(put(key, self.value())),
            75..83 => Request::Txn(Txn { success: vec![Step::Delete(one)], ..Txn::default() }),
            83..90 => self.compare_and_set(key),
            _ if is_register => Request::Txn(put(key, self.value())),
            _ => self.several(key),
        };
        Ask::Keys(request, 0)
    }

    fn compare_and_set(&mut self, key: String) -> Request {
        let expected = format!("{}.{}", self.client, self.written);
        let compare = vec![Compare::Value { key: key.clone(), value: expected }];
        Request::Txn(Txn { compare, ..put(key, self.value()) })
    }

    /// A transaction over several keys.
    fn several(&mut self, key: String) -> Request {
        let other = format!("k{}", self.load.keys);
        let compare = vec![Compare::ModRevision { key: key.clone(), revision: 0 }];
        let (first, second) = (self.value(), self.value());
        Request::Txn(Txn {
            compare,
            success: vec![
                Step::Put { key: key.clone(), value: first },
                Step::Put { key: other.clone(), value: second },
            ],
            failure: vec![
                Step::Get(Range { key: "k".into(), end: Some("l".into()) }),
                Step::Delete(Range::one(&key)),
                Step::Put { key: other, value: self.value() },
            ],
        })
    }

    fn ask_for_lists(&mut self, now: u64) -> Ask {
        let Trade::Lists(append) = &mut self.trade else { return Ask::Compact(0) };
        let all = Range { key: "list".into(), end: Some("lisu".into()) };
        match append {
            None => {
                *append = Some(Append { invoke: now, lists: Vec::new(), adds: None });
                Ask::Keys(Request::Read { range: all, at: None, serializable: false }, 0)
            }
            Some(append) => {
                let (list, element) = append.adds.unwrap_or_default();
                let number = usize::try_from(list).unwrap_or(0);
                let mut elements = append.lists.get(number).cloned().unwrap_or_default();
                elements.push(element);
                // Nothing that was read has changed since.
                let compare =
                    (0..).zip(&append.lists).map(|(list, read)| unchanged(list, join(read)));
                let compare = compare.collect();
                let value = join(&elements);
                Ask::Keys(Request::Txn(Txn { compare, ..put(list_key(list), value) }), 0)
            }
        }
    }

    fn go_on_with_lists(&mut self, now: u64, outcome: &Outcome<Answer>, history: &mut History) {
        let Trade::Lists(state) = &mut self.trade else { return };
        let Some(mut append) = state.take() else { return };
        let reply = match outcome {
            Outcome::Ok(Answer::Keys(reply)) => Some(reply),
            Outcome::Ok(_) | Outcome::Failed | Outcome::Unknown => None,
        };
        if append.adds.is_none() {
            if let Some(reply) = reply {
                append.lists = lists_of(reply);
                self.written += 1;
                let element = self.client * 1_000_000 + self.written;
                append.adds = Some((self.dice.below(LISTS), element));
                self.next_at = now + self.dice.below(20 * MS);
                *state = Some(append);
            }
            return;
        }
        let outcome = match (outcome, reply) {
            (Outcome::Ok(_), Some(reply)) if reply.succeeded => Outcome::Ok(append.steps(true)),
            (Outcome::Ok(_) | Outcome::Failed, _) => Outcome::Failed,
            (Outcome::Unknown, _) => Outcome::Unknown,
        };
        let (client, invoke, returned) = (self.client, append.invoke, Some(now));
        let request = append.steps(false);
        history.lists.push(cycles::Operation { client, invoke, returned, request, outcome });
    }

    fn ask_for_lease(&mut self, now: u64) -> Ask {
        let client = self.client;
        let ttl = self.dice.within(2, 4).cast_signed();
        let Trade::Leases(tenancy) = &mut self.trade else { return Ask::Compact(0) };
        let lease = tenancy.lease(client);
        match tenancy.stage {
            Stage::Grant => {
                tenancy.since = now;
                Ask::Grant(lease, ttl)
            }
            Stage::Put => Ask::Keys(Request::Txn(put(lease_key(lease), "held".into())), lease),
            Stage::Renew => Ask::Renew(lease),
            Stage::Revoke => Ask::Revoke(lease),
            Stage::Look => {
                let range = Range::one(&lease_key(lease));
                Ask::Keys(Request::Read { range, at: None, serializable: false }, 0)
            }
        }
    }

    fn go_on_with_lease(
        &mut self,
        now: u64,
        call: &Call,
        outcome: &Outcome<Answer>,
        history: &mut History,
    ) {
        let client = self.client;
        let Trade::Leases(tenancy) = &mut self.trade else { return };
        let lease = tenancy.lease(client);
        let stage = tenancy.stage;
        let granted = |ttl: i64| lease::Reply::Granted(ttl.cast_unsigned() * SECOND);
        let mut note = |invoke, request, outcome: Outcome<lease::Reply>| {
            let returned = Some(now);
            history.leases.push(lease::Operation { client, invoke, returned, request, outcome });
        };
        let renew = lease::Request::Renew { lease };
        let revoke = lease::Request::Revoke { lease };
        tenancy.stage = match (stage, outcome) {
            (Stage::Grant, Outcome::Ok(Answer::Lease(ttl))) => {
                tenancy.ttl = *ttl;
                tenancy.renewals = self.dice.below(5);
                Stage::Put
            }
            (Stage::Put, Outcome::Ok(_)) => {
                note(tenancy.since, renew, Outcome::Ok(granted(tenancy.ttl)));
                Stage::Renew
            }
            (Stage::Renew, Outcome::Ok(Answer::Lease(ttl))) if *ttl > 0 => {
                note(call.invoke, renew, Outcome::Ok(granted(*ttl)));
                Stage::Renew
            }
            (Stage::Renew, Outcome::Unknown) => {
                note(call.invoke, renew, Outcome::Unknown);
                Stage::Renew
            }
            (Stage::Renew, _) => Stage::Look,
            (Stage::Revoke, Outcome::Ok(_)) => {
                note(call.invoke, revoke, Outcome::Ok(lease::Reply::Revoked));
                Stage::Look
            }
            (Stage::Revoke, Outcome::Unknown) => {
                note(call.invoke, revoke, Outcome::Unknown);
                Stage::Look
            }
            (Stage::Revoke, Outcome::Failed) => Stage::Look,
            (Stage::Look, Outcome::Ok(Answer::Keys(reply))) => {
                let present =
                    matches!(reply.steps.first(), Some(StepReply::Got(pairs)) if !pairs.is_empty());
                let look = lease::Request::Look { lease };
                note(call.invoke, look, Outcome::Ok(lease::Reply::Present(present)));
                if present { Stage::Look } else { Stage::Grant }
            }
            (Stage::Look, _) => Stage::Look,
            // Whether there is such a lease or key is not known: begin with another one.
            (Stage::Grant | Stage::Put, _) => Stage::Grant,
        };
        if tenancy.stage == Stage::Renew && stage == Stage::Renew {
            tenancy.renewals = tenancy.renewals.saturating_sub(1);
        }
        if tenancy.stage == Stage::Renew && tenancy.renewals == 0 {
            tenancy.stage = if self.dice.chance(300_000) { Stage::Revoke } else { Stage::Look };
        }
        if tenancy.stage == Stage::Grant {
            tenancy.count += 1;
        }
        let pause = match tenancy.stage {
            Stage::Put => 0,
            Stage::Renew => tenancy.ttl.cast_unsigned() * SECOND / 3,
            Stage::Grant | Stage::Revoke | Stage::Look => 300 * MS,
        };
        self.next_at = now + pause + 1;
    }
}

impl Ask {
    fn is_linearizable(&self) -> bool {
        match self {
            Self::Keys(Request::Read { serializable, .. }, _) => !serializable,
            Self::Keys(Request::Txn(_), _)
            | Self::Compact(_)
            | Self::Grant(..)
            | Self::Renew(_)
            | Self::Revoke(_) => true,
        }
    }
}

impl Append {
    /// The transaction as the judge of lists takes it; with what was read, or without.
    fn steps(&self, answered: bool) -> Vec<cycles::Step> {
        let read = |list: u64| {
            let elements = self.lists.get(usize::try_from(list).unwrap_or(0));
            let elements = elements.cloned().unwrap_or_default();
            cycles::Step::Read { key: list_key(list), elements: answered.then_some(elements) }
        };
        let append =
            self.adds.map(|(list, element)| cycles::Step::Append { key: list_key(list), element });
        (0..LISTS).map(read).chain(append).collect()
    }
}

fn put(key: String, value: String) -> Txn {
    Txn { success: vec![Step::Put { key, value }], ..Txn::default() }
}

fn list_key(list: u64) -> String {
    format!("list{list}")
}

fn join(elements: &[u64]) -> String {
    let words: Vec<String> = elements.iter().map(u64::to_string).collect();
    words.join(",")
}

/// The condition that a list is as it was read.
fn unchanged(list: u64, value: String) -> Compare {
    let key = list_key(list);
    if value.is_empty() {
        Compare::ModRevision { key, revision: 0 }
    } else {
        Compare::Value { key, value }
    }
}

/// The lists in an answer to the read of all.
fn lists_of(reply: &Reply) -> Vec<Vec<u64>> {
    let Some(StepReply::Got(pairs)) = reply.steps.first() else { return Vec::new() };
    let list = |number: u64| {
        let found = pairs.iter().find(|pair: &&KeyValue| pair.key == list_key(number));
        let words = found.map_or("", |pair| pair.value.as_str()).split(',');
        words.filter_map(|word| word.parse().ok()).collect()
    };
    (0..LISTS).map(list).collect()
}
