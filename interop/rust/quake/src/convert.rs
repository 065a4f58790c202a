//! Between the client's messages and the judges' words.

use std::{error::Error as _, io};

use anyhow::{Context, Result, bail};
use etcd_client::{
    Compare, CompareOp, DeleteOptions, Error, Event, EventType, GetOptions, KeyValue, PutOptions,
    Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use quorate_check::{
    etcd::{self, Range, Step, StepReply},
    revision::Reply,
    watch::Told,
};
use tonic::Code;

/// What is known of a request that had no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never left: nobody listens at the other end.
    NeverSent,
    /// The server refused it; it has no effect.
    Refused,
    /// It may take effect at any time, or never.
    Unknown,
}

/// What an error says of the request.
pub fn fate(error: &Error) -> Fate {
    let Error::GRpcStatus(status) = error else { return Fate::Unknown };
    let mut cause = status.source();
    while let Some(error) = cause {
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if error.downcast_ref::<io::Error>().is_some_and(refused) {
            return Fate::NeverSent;
        }
        cause = error.source();
    }
    match status.code() {
        Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::OutOfRange => {
            Fate::Refused
        }
        _ => Fate::Unknown,
    }
}

/// A value that begins so stands for a large one.
const BIG: &str = "big:";

/// How large, in bytes: nearly as much as a request may be.
const BIG_BYTES: usize = 1 << 20;

/// The name of a large value, of which the judges know no more.
pub fn big(name: &str) -> String {
    format!("{BIG}{name};")
}

/// What goes over the wire for a value.
pub fn inflate(value: &str) -> String {
    let mut whole = value.to_owned();
    if value.starts_with(BIG) {
        while whole.len() < BIG_BYTES {
            whole.push_str(value);
        }
    }
    whole
}

/// The value that came over the wire as this.
///
/// # Errors
/// A large one that nobody wrote so.
pub fn deflate(whole: &str) -> Result<String> {
    let Some(end) = whole.find(';').filter(|_| whole.starts_with(BIG)) else {
        return Ok(whole.to_owned());
    };
    let value = whole.get(..=end).unwrap_or_default();
    if inflate(value) != whole {
        bail!("{value} came as something else, {} bytes", whole.len());
    }
    Ok(value.to_owned())
}

/// The options of a get.
pub fn get_options(range: &Range) -> GetOptions {
    match range.end.as_deref() {
        None => GetOptions::new(),
        Some("\0") => GetOptions::new().with_all_keys(),
        Some(end) => GetOptions::new().with_range(end),
    }
}

/// The options of a deletion.
pub fn delete_options(range: &Range) -> DeleteOptions {
    match range.end.as_deref() {
        None => DeleteOptions::new(),
        Some("\0") => DeleteOptions::new().with_all_keys(),
        Some(end) => DeleteOptions::new().with_range(end),
    }
}

/// The options of a put.
pub fn put_options(lease: Option<i64>) -> Option<PutOptions> {
    lease.map(|lease| PutOptions::new().with_lease(lease))
}

/// A transaction; its puts belong to `lease`, if there is one.
pub fn transaction(txn: &etcd::Txn, lease: Option<i64>) -> Txn {
    let steps =
        |steps: &[Step]| steps.iter().map(|one| operation(one, lease)).collect::<Vec<TxnOp>>();
    let conditions: Vec<Compare> = txn.compare.iter().map(condition).collect();
    Txn::new().when(conditions).and_then(steps(&txn.success)).or_else(steps(&txn.failure))
}

fn condition(compare: &etcd::Compare) -> Compare {
    match compare {
        etcd::Compare::Value { key, value } => {
            Compare::value(key.as_str(), CompareOp::Equal, value.as_str())
        }
        etcd::Compare::ModRevision { key, revision } => {
            Compare::mod_revision(key.as_str(), CompareOp::Equal, *revision)
        }
    }
}

fn operation(step: &Step, lease: Option<i64>) -> TxnOp {
    match step {
        Step::Get(range) => TxnOp::get(range.key.as_str(), Some(get_options(range))),
        Step::Put { key, value } => TxnOp::put(key.as_str(), inflate(value), put_options(lease)),
        Step::Delete(range) => TxnOp::delete(range.key.as_str(), Some(delete_options(range))),
    }
}

/// A transaction's reply.
///
/// # Errors
/// It lacks what every reply has.
pub fn reply(response: &TxnResponse) -> Result<Reply> {
    let revision = response.header().context("a reply without a header")?.revision();
    let steps = response.op_responses().iter().map(step_reply).collect::<Result<_>>()?;
    Ok(Reply { revision, succeeded: response.succeeded(), steps })
}

fn step_reply(response: &TxnOpResponse) -> Result<StepReply> {
    Ok(match response {
        TxnOpResponse::Put(_) => StepReply::Put,
        TxnOpResponse::Get(got) => StepReply::Got(pairs(got.kvs())?),
        TxnOpResponse::Delete(gone) => StepReply::Deleted(u64::try_from(gone.deleted())?),
        TxnOpResponse::Txn(_) => bail!("a transaction inside a transaction was not asked for"),
    })
}

/// Pairs as the judges know them.
///
/// # Errors
/// A key or value that is not text: nobody wrote it.
pub fn pairs(pairs: &[KeyValue]) -> Result<Vec<etcd::KeyValue>> {
    pairs.iter().map(pair).collect()
}

fn pair(pair: &KeyValue) -> Result<etcd::KeyValue> {
    Ok(etcd::KeyValue {
        key: pair.key_str()?.to_owned(),
        value: deflate(pair.value_str()?)?,
        create_revision: pair.create_revision(),
        mod_revision: pair.mod_revision(),
        version: pair.version(),
    })
}

/// An event of a watch.
///
/// # Errors
/// It has no pair, or one that is not text.
pub fn told(event: &Event) -> Result<Told> {
    let pair_now = pair(event.kv().context("an event without a pair")?)?;
    let deleted = event.event_type() == EventType::Delete;
    let prev = event.prev_kv().map(pair).transpose()?;
    Ok(Told { event: etcd::Event { pair: pair_now, deleted }, prev })
}
