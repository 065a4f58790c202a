//! No key may be written twice in one transaction.
//!
//! Puts must not meet puts or deletes in lists that can run together, at any depth. The two branches of a transaction
//! never run together, so they are free of each other; deletes may overlap deletes (etcd point 21).
//!
//! Stricter than etcd in one corner: etcd 3.7.2 lets a put stand beside a delete without an end (`range_end` of one zero
//! byte) that covers its key, and writes the key twice in one revision. Here that is an overlap like any other.
//!
//! Source: etcd `server/etcdserver/api/v3rpc/key.go`, `checkIntervals`.

use std::{collections::BTreeSet, ops::Bound};

use quorate_proto::etcdserverpb::{self as pb, request_op::Request};

use crate::{RequestError, span::Span};

/// What one list of operations writes.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<Span<'a>>,
}

pub(super) fn check(request: &pb::TxnRequest) -> Result<(), RequestError> {
    collect(&request.success)?;
    collect(&request.failure)?;
    Ok(())
}

fn collect(ops: &[pb::RequestOp]) -> Result<Writes<'_>, RequestError> {
    let mut writes = Writes::default();
    for op in ops {
        match &op.request {
            Some(Request::RequestPut(put)) => {
                writes
                    .join(Writes { puts: BTreeSet::from([&put.key[..]]), deletes: Vec::new() })?;
            }
            Some(Request::RequestDeleteRange(delete)) => {
                let span = Span::new(&delete.key, &delete.range_end);
                writes.join(Writes { puts: BTreeSet::new(), deletes: vec![span] })?;
            }
            Some(Request::RequestTxn(txn)) => {
                let mut either = collect(&txn.success)?;
                let failure = collect(&txn.failure)?;
                either.puts.extend(failure.puts);
                either.deletes.extend(failure.deletes);
                writes.join(either)?;
            }
            Some(Request::RequestRange(_)) | None => {}
        }
    }
    Ok(writes)
}

impl Writes<'_> {
    /// Adds what runs together with the writes so far.
    fn join(&mut self, other: Self) -> Result<(), RequestError> {
        let meet = |puts: &BTreeSet<&[u8]>, deletes: &[Span<'_>]| {
            deletes.iter().any(|span| span_meets(span, puts))
        };
        if !self.puts.is_disjoint(&other.puts)
            || meet(&self.puts, &other.deletes)
            || meet(&other.puts, &self.deletes)
        {
            return Err(RequestError::DuplicateKey);
        }
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
        Ok(())
    }
}

fn span_meets(span: &Span<'_>, puts: &BTreeSet<&[u8]>) -> bool {
    let from: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(span.start()), Bound::Unbounded);
    puts.range::<[u8], _>(from).next().is_some_and(|key| span.contains(key))
}
