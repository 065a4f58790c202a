//! What a transaction makes the state machine look at, told before it is proposed.
//!
//! A transaction that changes something is carried out whole, by every member, while everybody waits. Its comparisons and ranges
//! over many keys are what takes long in it, so the keys that they will look at are counted beforehand: over the newest
//! state, in slices, and no further than to a bound. The count is of the moment: what is decided by it is decided at the
//! door, and never when the transaction is carried out.
//!
//! Left out: deletions, which take their time and have to be.

use std::ops::ControlFlow;

use quorate_proto::etcdserverpb::{
    self as pb, RequestOp, compare::CompareTarget, request_op::Request,
};

use crate::{
    Budget, ReadError, Reader, Span,
    index::{Pause, Scan, Stretch},
};

/// What reading a pair costs beside passing its key.
const READ_KEYS: u64 = 8;

/// The count of a transaction's keys, slice by slice.
#[derive(Debug)]
pub struct LongCost {
    reader: Reader,
    spans: Vec<Counted>,
    scan: Option<Scan>,
    keys: u64,
    keys_max: u64,
}

/// Keys that are looked at.
#[derive(Debug)]
struct Counted {
    stretch: Stretch,
    /// What each of them counts, for all who look at them.
    each: u64,
}

impl LongCost {
    /// Goes on within `budget`. Gives the number of keys, once it is known or is more than the bound. A key whose value is read
    /// counts several times.
    ///
    /// # Errors
    /// [`ReadError::Store`] only.
    pub fn advance(&mut self, budget: &mut Budget) -> Result<Option<u64>, ReadError> {
        while let Some(span) = self.spans.last() {
            let revision = self.reader.revision();
            let scan = self.scan.get_or_insert_with(|| Scan::new(&span.stretch, revision));
            let (keys, keys_max) = (&mut self.keys, self.keys_max);
            let pause = scan.advance(&**self.reader.view(), budget, &mut |_, _| {
                *keys = keys.saturating_add(span.each);
                let enough = *keys > keys_max;
                Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            match pause {
                Pause::Spent => return Ok(None),
                Pause::Stopped => break,
                Pause::Ended => {
                    self.scan = None;
                    self.spans.pop();
                }
            }
        }
        Ok(Some(self.keys))
    }
}

impl Reader {
    /// Begins to count the keys that a transaction's comparisons and ranges will look at, up to `keys_max` of them. What names
    /// one key counts nothing.
    pub fn long_cost(self, request: &pb::TxnRequest, keys_max: u64) -> LongCost {
        let mut spans = Vec::new();
        gather(request, &mut spans);
        LongCost { reader: self, spans, scan: None, keys: 0, keys_max }
    }
}

/// Whether a transaction has anything that names many keys.
pub fn looks_at_many(request: &pb::TxnRequest) -> bool {
    let mut spans = Vec::new();
    gather(request, &mut spans);
    !spans.is_empty()
}

/// Both branches count: which one is taken is not known yet.
fn gather(request: &pb::TxnRequest, spans: &mut Vec<Counted>) {
    for compare in &request.compare {
        let by_value = compare.target == CompareTarget::Value as i32;
        let each = if by_value { READ_KEYS } else { 1 };
        add(spans, (&compare.key, &compare.range_end), each);
    }
    for RequestOp { request } in request.success.iter().chain(&request.failure) {
        match request {
            Some(Request::RequestRange(range)) => {
                let light = range.count_only || range.keys_only || range.limit > 0;
                let each = if light { 1 } else { READ_KEYS };
                add(spans, (&range.key, &range.range_end), each);
            }
            Some(Request::RequestTxn(nested)) => gather(nested, spans),
            Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) | None => {}
        }
    }
}

fn add(spans: &mut Vec<Counted>, (key, range_end): (&[u8], &[u8]), each: u64) {
    let span = Span::new(key, range_end);
    if span.single().is_some() {
        return;
    }
    let stretch = Stretch::new(span);
    // Many look at the same keys more often than not.
    match spans.last_mut().filter(|last| last.stretch == stretch) {
        Some(last) => last.each += each,
        None => spans.push(Counted { stretch, each }),
    }
}
