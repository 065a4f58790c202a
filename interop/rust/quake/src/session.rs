//! One client: it asks one member after another, and writes down what it asked, when, and what came of it.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use etcd_client::{Channel, Client};
use quorate_check::{
    Outcome,
    etcd::{Range, Step, StepReply, Txn},
    revision::{Reply, Request},
};
use tonic::transport::Endpoint;

use crate::{
    convert::{self, Fate},
    dice::Dice,
    history::{Clock, Counts, History, Timed},
};

/// How long a client waits for an answer.
pub const PATIENCE: Duration = Duration::from_millis(2500);

/// The largest reply that a client takes: the whole key space at the end is one.
const REPLY_BYTES_MAX: usize = 256 << 20;

/// After how many requests a client asks another member, on the average.
const MOVES_AFTER: u64 = 300;

/// What all clients share.
#[derive(Debug)]
pub struct World {
    /// Each member's client URL.
    pub endpoints: Vec<String>,
    /// The one clock of the history.
    pub clock: Clock,
    /// Running totals.
    pub counts: Counts,
    /// Set when the load has to end.
    pub over: AtomicBool,
    /// Set as long as nobody may ask for anything.
    pub quiet: AtomicBool,
}

/// One client and its history.
pub struct Session {
    /// Its number in the history.
    pub id: u64,
    /// Whom it asks at present.
    pub member: usize,
    /// What it draws from.
    pub dice: Dice,
    /// What it saw.
    pub history: History,
    /// What it shares with the others.
    pub world: Arc<World>,
    /// Whether it stays with its member whatever happens.
    pub stays: bool,
    clients: Vec<Client>,
    serial: u64,
}

/// How a read is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// By what a quorum knows.
    Linearizable,
    /// By what the member has.
    Serializable,
}

impl Session {
    /// A client that begins with `member`. Nothing is connected yet.
    ///
    /// # Errors
    /// An address that is none.
    pub async fn new(id: u64, member: usize, dice: Dice, world: Arc<World>) -> Result<Self> {
        let mut clients = Vec::new();
        for url in &world.endpoints {
            clients.push(connect(url).await?);
        }
        Ok(Self {
            id,
            member,
            dice,
            history: History::default(),
            world,
            stays: false,
            clients,
            serial: 0,
        })
    }

    /// Whether the load goes on; waits a moment, so that clients do not starve the members of the machine that they share.
    pub async fn goes_on(&mut self) -> bool {
        let pause = Duration::from_micros(self.dice.below(2500));
        tokio::time::sleep(pause).await;
        !self.world.over.load(Relaxed)
    }

    /// A text that nobody else writes.
    pub fn unique(&mut self) -> String {
        self.serial += 1;
        format!("{}.{}", self.id, self.serial)
    }

    /// The client of the member that is asked at present.
    pub fn client(&mut self) -> Client {
        if self.dice.once_in(MOVES_AFTER) {
            self.move_on();
        }
        self.clients[self.member].clone()
    }

    /// Asks another member from now on, unless it stays.
    pub fn move_on(&mut self) {
        if !self.stays {
            self.member = self.dice.place(self.clients.len());
        }
    }

    /// Sends one request, waits, and counts it. `None` if it could not even be sent.
    pub async fn ask<T>(
        &mut self,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Option<Timed<T>> {
        while self.world.quiet.load(Relaxed) && !self.stays {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let invoke = self.world.clock.now();
        let answer = tokio::time::timeout(PATIENCE, request).await;
        let returned = self.world.clock.now();
        let fate = match &answer {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(convert::fate(error)),
            Err(_) => Some(Fate::Unknown),
        };
        let outcome = match (answer, fate) {
            (Ok(Ok(reply)), _) => Outcome::Ok(reply),
            (_, Some(Fate::Refused)) => Outcome::Failed,
            _ => Outcome::Unknown,
        };
        if fate.is_some_and(|fate| fate != Fate::Refused) {
            self.move_on();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (fate != Some(Fate::NeverSent)).then_some(Timed { invoke, returned, outcome })
    }

    /// Carries a transaction out, as the plain put or delete that it is if it is one; its puts belong to `lease`.
    pub async fn transact(&mut self, txn: &Txn, lease: Option<i64>) -> Timed<Reply> {
        let client = self.client();
        let timed = match plain(txn) {
            Some(step) => self.ask(plain_request(client, step.clone(), lease)).await,
            None => self.ask(transaction_request(client, txn.clone(), lease)).await,
        };
        let Some(timed) = timed else { return self.never_sent() };
        let timed = self.believe(timed);
        self.world.counts.count(&timed.outcome);
        let operation = timed.clone().operation(self.id, Request::Txn(txn.clone()));
        self.history.keys.push(operation);
        timed
    }

    /// Reads a range.
    pub async fn read(&mut self, range: &Range, freshness: Freshness) -> Timed<Reply> {
        let client = self.client();
        let serializable = freshness == Freshness::Serializable;
        let Some(timed) = self.ask(read_request(client, range.clone(), serializable)).await else {
            return self.never_sent();
        };
        let mut timed = self.believe(timed);
        if timed.outcome == Outcome::Unknown {
            timed.outcome = Outcome::Failed;
        }
        self.world.counts.count(&timed.outcome);
        let request = Request::Read { range: range.clone(), at: None, serializable };
        self.history.keys.push(timed.clone().operation(self.id, request));
        timed
    }

    /// The pairs of a range, if they were told.
    pub async fn pairs(
        &mut self,
        range: &Range,
        freshness: Freshness,
    ) -> Option<Vec<quorate_check::etcd::KeyValue>> {
        match self.read(range, freshness).await.outcome {
            Outcome::Ok(Reply { mut steps, .. }) => match steps.pop() {
                Some(StepReply::Got(pairs)) => Some(pairs),
                _ => None,
            },
            Outcome::Failed | Outcome::Unknown => None,
        }
    }

    /// How many pairs a range has, if it was told; linearizable.
    pub async fn count(&mut self, range: &Range) -> Option<u64> {
        let client = self.client();
        let timed = self.ask(count_request(client, range.clone())).await?;
        timed.outcome.reply().copied()
    }

    /// A reply that makes no sense is a breach, and nothing is known of its request.
    fn believe(&mut self, timed: Timed<Result<Reply>>) -> Timed<Reply> {
        let Timed { invoke, returned, outcome } = timed;
        let outcome = match outcome {
            Outcome::Ok(Ok(reply)) => Outcome::Ok(reply),
            Outcome::Ok(Err(error)) => {
                self.history.complaints.push(format!("a reply makes no sense: {error:#}"));
                Outcome::Unknown
            }
            Outcome::Failed => Outcome::Failed,
            Outcome::Unknown => Outcome::Unknown,
        };
        Timed { invoke, returned, outcome }
    }

    fn never_sent(&self) -> Timed<Reply> {
        let now = self.world.clock.now();
        Timed { invoke: now, returned: now, outcome: Outcome::Failed }
    }
}

/// A client of one member, which connects when it is first asked, and again whenever it has to.
///
/// # Errors
/// An address that is none.
pub async fn connect(url: &str) -> Result<Client> {
    let endpoint = Endpoint::from_shared(url.to_owned()).context("a client URL")?;
    let endpoint = endpoint.connect_timeout(PATIENCE).tcp_nodelay(true);
    Ok(Client::from_channel(Channel::Tonic(endpoint.connect_lazy()), None).await?)
}

async fn count_request(client: Client, range: Range) -> Result<u64, etcd_client::Error> {
    let options = convert::get_options(&range).with_count_only();
    let response = client.kv_client().get(range.key, Some(options)).await?;
    Ok(u64::try_from(response.count()).unwrap_or(0))
}

fn plain(txn: &Txn) -> Option<&Step> {
    match (txn.compare.as_slice(), txn.success.as_slice()) {
        ([], [step @ (Step::Put { .. } | Step::Delete(_))]) => Some(step),
        _ => None,
    }
}

type Answer = Result<Result<Reply>, etcd_client::Error>;

async fn plain_request(mut client: Client, step: Step, lease: Option<i64>) -> Answer {
    let of = |revision: Option<i64>, step| {
        let revision = revision.context("a reply without a header")?;
        Ok(Reply { revision, succeeded: true, steps: vec![step] })
    };
    match step {
        Step::Put { key, value } => {
            let response =
                client.put(key, convert::inflate(&value), convert::put_options(lease)).await?;
            Ok(of(response.header().map(|header| header.revision()), StepReply::Put))
        }
        Step::Delete(range) => {
            let options = convert::delete_options(&range);
            let response = client.delete(range.key, Some(options)).await?;
            let count = u64::try_from(response.deleted()).unwrap_or(u64::MAX);
            let revision = response.header().map(|header| header.revision());
            Ok(of(revision, StepReply::Deleted(count)))
        }
        Step::Get(range) => read_request(client, range, false).await,
    }
}

async fn transaction_request(mut client: Client, txn: Txn, lease: Option<i64>) -> Answer {
    let response = client.txn(convert::transaction(&txn, lease)).await?;
    Ok(convert::reply(&response))
}

async fn read_request(client: Client, range: Range, serializable: bool) -> Answer {
    let mut options = convert::get_options(&range);
    if serializable {
        options = options.with_serializable();
    }
    let mut keys = client.kv_client().max_decoding_message_size(REPLY_BYTES_MAX);
    let response = keys.get(range.key, Some(options)).await?;
    let revision = response.header().map(|header| header.revision());
    Ok(revision.context("a reply without a header").and_then(|revision| {
        let steps = vec![StepReply::Got(convert::pairs(response.kvs())?)];
        Ok(Reply { revision, succeeded: true, steps })
    }))
}
