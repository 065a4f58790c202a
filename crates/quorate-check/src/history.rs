//! What clients saw: one [`Operation`] for each request, with the time it was sent, the time it was answered, and how.
//!
//! A history is a slice of operations in any order; every judge sorts for itself. On disk it is JSON lines, one operation
//! a line, so that a history can be grown by appending and read by any program. The judges differ only in what a
//! request and a reply are, so both are type parameters here.
//!
//! Times are nanoseconds of one clock that all clients of the history share (they run in one process, or in one
//! simulated world). An operation that is invoked at the very instant at which another returns counts as concurrent with it:
//! a judge never convicts on a tie.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The longest line that [`read_lines`] takes, in bytes.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// How a request ended, as far as its client knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<R> {
    /// Answered, with this reply.
    Ok(R),
    /// Refused: it has had no effect and never will.
    Failed,
    /// A timeout, a lost connection, a client that died: it may take effect at any time after its invocation, or never.
    Unknown,
}

impl<R> Outcome<R> {
    /// The reply, if there was one.
    pub fn reply(&self) -> Option<&R> {
        match self {
            Self::Ok(reply) => Some(reply),
            Self::Failed | Self::Unknown => None,
        }
    }
}

/// One request of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation<Q, R> {
    /// Who asked. A client that goes on after an unknown outcome may keep its number.
    pub client: u64,
    /// When the request was sent, in nanoseconds.
    pub invoke: u64,
    /// When the client stopped waiting, in nanoseconds; `None` if it never did. Judges use it only of answered requests.
    #[serde(rename = "return", default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<u64>,
    /// What was asked.
    pub request: Q,
    /// How it ended.
    pub outcome: Outcome<R>,
}

impl<Q, R> Operation<Q, R> {
    /// The time after which the operation cannot take effect any more: its return if it was answered.
    pub fn deadline(&self) -> Option<u64> {
        self.outcome.reply().and(self.returned)
    }
}

/// Why a history cannot be judged at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A line is not an operation.
    #[error("line {line} is not an operation")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A line is longer than [`LINE_BYTES_MAX`].
    #[error("line {line} has {bytes} bytes, more than {LINE_BYTES_MAX}")]
    LineTooLong {
        /// Counted from 1.
        line: usize,
        /// Its length.
        bytes: usize,
    },
    /// An operation cannot be written as JSON.
    #[error("operation {operation} cannot be written")]
    Write {
        /// Counted from 0.
        operation: usize,
        /// What the writer said.
        #[source]
        source: serde_json::Error,
    },
    /// An answered operation returns before it is invoked, or has no return.
    #[error("operation {operation} is answered at no time after its invocation")]
    Time {
        /// Its place in the history, from 0.
        operation: usize,
    },
    /// A reply is of another kind than its request.
    #[error("operation {operation} has a reply that its request cannot have")]
    ReplyKind {
        /// Its place in the history, from 0.
        operation: usize,
    },
    /// The list of persisted revisions is not in rising order.
    #[error("persisted revision {revision} comes after a revision that is not lower")]
    PersistedOrder {
        /// The later one.
        revision: i64,
    },
}

/// Reads JSON lines; empty lines are skipped.
///
/// # Errors
/// The first line that is too long or is not a `T`.
pub fn read_lines<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, Error> {
    let lines = text.lines().zip(1..).filter(|(text, _)| !text.trim().is_empty());
    lines.map(|(text, line)| read_line(text, line)).collect()
}

fn read_line<T: DeserializeOwned>(text: &str, line: usize) -> Result<T, Error> {
    if text.len() > LINE_BYTES_MAX {
        return Err(Error::LineTooLong { line, bytes: text.len() });
    }
    serde_json::from_str(text).map_err(|source| Error::Line { line, source })
}

/// Writes one JSON line for each item.
///
/// # Errors
/// An item that JSON cannot hold, such as a map whose keys are not strings.
pub fn write_lines<T: Serialize>(items: &[T]) -> Result<String, Error> {
    let mut text = String::new();
    for (operation, item) in items.iter().enumerate() {
        let line = serde_json::to_string(item);
        text.push_str(&line.map_err(|source| Error::Write { operation, source })?);
        text.push('\n');
    }
    Ok(text)
}

/// Refuses histories whose answered operations do not return after they are invoked.
pub(crate) fn check_times<Q, R>(history: &[Operation<Q, R>]) -> Result<(), Error> {
    let bad = history.iter().position(|operation| {
        let answered = operation.outcome.reply().is_some();
        answered && operation.returned.is_none_or(|returned| returned < operation.invoke)
    });
    bad.map_or(Ok(()), |operation| Err(Error::Time { operation }))
}
