//! What of the log and of the hard state is on disk, and which token will say so.
//!
//! One step issues at most one token. Tokens are done in order, so a token stands for everything issued before it too.
//!
//! Invariants
//! - tokens in `pending` rise and lie in `(done, issued]`.
//! - each pending write names the position up to which the log *as it is now* is durable once the write is. A truncation
//!   lowers those numbers, so that a late completion never speaks for entries that were replaced meanwhile (the ABA case in
//!   etcd raft's `async_storage_writes_append_aba_race`).

use std::collections::VecDeque;

use crate::{Index, IoToken, Mono};

#[derive(Clone, Copy, Debug)]
struct Pending {
    token: IoToken,
    upto: Index,
    since: Mono,
}

/// The ledger of writes.
#[derive(Clone, Debug)]
pub(crate) struct Durability {
    issued: IoToken,
    done: IoToken,
    durable: Index,
    hard_state: IoToken,
    staged: bool,
    pending: VecDeque<Pending>,
}

impl Durability {
    /// Everything up to `durable` is on disk and nothing is under way.
    pub(crate) fn new(durable: Index) -> Self {
        let none = IoToken(0);
        Self {
            issued: none,
            done: none,
            durable,
            hard_state: none,
            staged: false,
            pending: VecDeque::new(),
        }
    }

    /// The position up to which the log is durable.
    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// The token of this step's write; issued at the first call in a step.
    pub(crate) fn stage(&mut self, now: Mono) -> IoToken {
        if !self.staged {
            self.staged = true;
            self.issued = IoToken(self.issued.0 + 1);
            let upto = self.pending.back().map_or(self.durable, |pending| pending.upto);
            self.pending.push_back(Pending { token: self.issued, upto, since: now });
        }
        self.issued
    }

    /// This step's write has term or vote in it.
    pub(crate) fn stage_hard_state(&mut self, now: Mono) {
        self.hard_state = self.stage(now);
    }

    /// This step's write makes the log durable up to `upto`.
    pub(crate) fn stage_entries(&mut self, now: Mono, upto: Index) {
        self.stage(now);
        if let Some(pending) = self.pending.back_mut() {
            pending.upto = upto;
        }
    }

    /// The log from `first` on was replaced: what was or will be written there counts no more.
    pub(crate) fn forget_from(&mut self, first: Index) {
        let end = first.previous();
        self.durable = self.durable.min(end);
        for pending in &mut self.pending {
            pending.upto = pending.upto.min(end);
        }
    }

    /// The step is over: returns the token of its write, if it has one.
    pub(crate) fn take_staged(&mut self) -> Option<IoToken> {
        std::mem::take(&mut self.staged).then_some(self.issued)
    }

    /// Everything up to `token` is on disk. Says whether that is news; `None` if the token was never issued.
    pub(crate) fn complete(&mut self, token: IoToken) -> Option<bool> {
        if token > self.issued {
            return None;
        }
        if token <= self.done {
            return Some(false);
        }
        while let Some(pending) = self.pending.front().filter(|pending| pending.token <= token) {
            self.durable = self.durable.max(pending.upto);
            self.pending.pop_front();
        }
        self.done = token;
        Some(true)
    }

    /// What a message that speaks in the present term waits for.
    pub(crate) fn after_hard_state(&self) -> Option<IoToken> {
        (self.hard_state > self.done).then_some(self.hard_state)
    }

    /// What a message that says "my log is durable up to `index`" waits for.
    pub(crate) fn after_entry(&self, index: Index) -> Option<IoToken> {
        let entries = if index <= self.durable {
            None
        } else {
            self.pending.iter().find(|pending| pending.upto >= index).map(|pending| pending.token)
        };
        entries.max(self.after_hard_state())
    }

    /// Lowers all tokens by the newest done one, which is returned, and lets every write under way begin `now`.
    #[cfg(feature = "explore")]
    pub(crate) fn settle(&mut self, now: Mono) -> u64 {
        let shift = self.done.0;
        let lower = |token: IoToken| IoToken(token.0.saturating_sub(shift));
        self.issued = lower(self.issued);
        self.done = lower(self.done);
        self.hard_state = lower(self.hard_state);
        for pending in &mut self.pending {
            pending.token = lower(pending.token);
            pending.since = now;
        }
        shift
    }

    /// Lets every write under way have begun at `since`.
    #[cfg(feature = "explore")]
    pub(crate) fn set_since(&mut self, since: Mono) {
        for pending in &mut self.pending {
            pending.since = since;
        }
    }

    /// Writes out the ledger.
    #[cfg(feature = "explore")]
    pub(crate) fn words(&self, out: &mut Vec<u64>) {
        out.extend([self.issued.0, self.done.0, self.durable.0, self.hard_state.0]);
        out.push(self.pending.len() as u64);
        out.extend(self.pending.iter().flat_map(|pending| [pending.token.0, pending.upto.0]));
    }

    /// Writes out the ledger, between two steps.
    #[cfg(feature = "record")]
    pub(crate) fn image(&self, out: &mut impl crate::record::Sink) {
        out.put_all([self.issued.0, self.done.0, self.durable.0, self.hard_state.0]);
        out.put(self.pending.len() as u64);
        for pending in &self.pending {
            out.put_all([pending.token.0, pending.upto.0, pending.since.0]);
        }
    }

    /// The ledger that was written out.
    #[cfg(feature = "record")]
    pub(crate) fn from_image(
        reader: &mut crate::record::Reader<'_>,
    ) -> Result<Self, crate::record::RecordError> {
        let issued = IoToken(reader.up_to("token", 1 << 62)?);
        let (done, durable, hard_state) = (reader.token()?, reader.index()?, reader.token()?);
        let count = reader.count("number of writes")?;
        let pending = reader.list(count, |reader| {
            let (token, upto) = (reader.token()?, reader.index()?);
            Ok(Pending { token, upto, since: reader.moment()? })
        })?;
        Ok(Self { issued, done, durable, hard_state, staged: false, pending })
    }

    /// Since when the oldest write has been under way.
    pub(crate) fn oldest_since(&self) -> Option<Mono> {
        self.pending.front().map(|pending| pending.since)
    }

    /// Whether the fields agree with each other and with a log that ends at `last`.
    pub(crate) fn is_consistent(&self, last: Index) -> bool {
        let tokens = self.pending.iter().map(|pending| pending.token);
        let rises = tokens.clone().zip(tokens.clone().skip(1)).all(|(one, next)| one < next);
        let bounded = tokens.clone().all(|token| token > self.done && token <= self.issued);
        let within =
            self.durable <= last && self.pending.iter().all(|pending| pending.upto <= last);
        rises && bounded && within && self.hard_state <= self.issued
    }

    /// Whether every entry up to `last` is durable or on its way.
    pub(crate) fn covers(&self, last: Index) -> bool {
        self.durable >= last || self.pending.iter().any(|pending| pending.upto >= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Mono = Mono(0);

    fn write(ledger: &mut Durability, upto: u64) -> IoToken {
        ledger.stage_entries(NOW, Index(upto));
        ledger.take_staged().unwrap()
    }

    /// Term A writes 5, term B replaces it, term A' replaces that: the first completion must not speak for the third entry.
    #[test]
    fn late_completion_does_not_speak_for_replaced_entries() {
        let mut ledger = Durability::new(Index(4));
        let first = write(&mut ledger, 5);
        ledger.forget_from(Index(5));
        let second = write(&mut ledger, 5);
        ledger.forget_from(Index(5));
        let third = write(&mut ledger, 5);
        assert_eq!(ledger.complete(first), Some(true));
        assert_eq!(ledger.durable(), Index(4));
        assert_eq!(ledger.after_entry(Index(5)), Some(third));
        assert_eq!(ledger.complete(second), Some(true));
        assert_eq!(ledger.durable(), Index(4));
        assert_eq!(ledger.complete(third), Some(true));
        assert_eq!(ledger.durable(), Index(5));
    }

    #[test]
    fn a_token_stands_for_all_earlier_ones() {
        let mut ledger = Durability::new(Index(0));
        let first = write(&mut ledger, 3);
        let second = write(&mut ledger, 7);
        assert_eq!(ledger.after_entry(Index(2)), Some(first));
        assert_eq!(ledger.after_entry(Index(4)), Some(second));
        assert_eq!(ledger.complete(second), Some(true));
        assert_eq!(ledger.complete(first), Some(false));
        assert_eq!(ledger.durable(), Index(7));
        assert_eq!(ledger.oldest_since(), None);
    }

    #[test]
    fn a_token_never_issued_changes_nothing() {
        let mut ledger = Durability::new(Index(0));
        assert_eq!(ledger.complete(IoToken(1)), None);
        let token = write(&mut ledger, 1);
        assert_eq!(ledger.complete(IoToken(token.0 + 1)), None);
        assert_eq!(ledger.durable(), Index(0));
    }

    #[test]
    fn one_step_has_one_token() {
        let mut ledger = Durability::new(Index(0));
        ledger.stage_hard_state(NOW);
        ledger.stage_entries(NOW, Index(1));
        let token = ledger.take_staged();
        assert_eq!(token, Some(IoToken(1)));
        assert_eq!(ledger.after_hard_state(), token);
        assert_eq!(ledger.take_staged(), None);
    }
}
