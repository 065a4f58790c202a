//! Transactions that write a key twice, and that only etcd lets pass.
//!
//! etcd's check has two holes: a delete without an end (`range_end` of one zero byte) counts as empty, and a put in one
//! nested transaction is not held against a delete in a later one beside it. etcd then writes the key twice in one
//! revision. Quorate refuses both, so they can't be compared and are not sent.
//!
//! Source of the first rule: etcd `server/etcdserver/api/v3rpc/key.go`, `checkIntervals`.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_proto::etcdserverpb::{RequestOp, TxnRequest, request_op::Request};

/// What a list of operations writes.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<(Bytes, Bytes)>,
}

/// A key is written twice.
struct Overlap;

/// Whether the transaction is refused for an overlap by Quorate, and not by etcd.
pub fn only_etcd_accepts(txn: &TxnRequest) -> bool {
    let refused = |check: fn(&[RequestOp]) -> Result<Writes, Overlap>| {
        check(&txn.success).is_err() || check(&txn.failure).is_err()
    };
    refused(strict) && !refused(as_etcd)
}

/// Every two operations that can run together.
fn strict(ops: &[RequestOp]) -> Result<Writes, Overlap> {
    let covers = |(key, end): &(Bytes, Bytes), put: &Bytes| match end.as_ref() {
        b"" => put == key,
        b"\0" => put >= key,
        _ => put >= key && put < end,
    };
    let meet = |puts: &BTreeSet<Bytes>, deletes: &[(Bytes, Bytes)]| {
        puts.iter().any(|put| deletes.iter().any(|delete| covers(delete, put)))
    };
    let mut all = Writes::default();
    for op in ops {
        let new = match &op.request {
            Some(Request::RequestPut(put)) => {
                Writes { puts: [put.key.clone()].into(), deletes: Vec::new() }
            }
            Some(Request::RequestDeleteRange(delete)) => Writes {
                puts: BTreeSet::new(),
                deletes: vec![(delete.key.clone(), delete.range_end.clone())],
            },
            Some(Request::RequestTxn(txn)) => {
                let mut either = strict(&txn.success)?;
                let other = strict(&txn.failure)?;
                either.puts.extend(other.puts);
                either.deletes.extend(other.deletes);
                either
            }
            Some(Request::RequestRange(_)) | None => continue,
        };
        if !all.puts.is_disjoint(&new.puts)
            || meet(&all.puts, &new.deletes)
            || meet(&new.puts, &all.deletes)
        {
            return Err(Overlap);
        }
        all.puts.extend(new.puts);
        all.deletes.extend(new.deletes);
    }
    Ok(all)
}

/// As etcd checks: this level's deletes, then nested transactions in order, then this level's puts.
fn as_etcd(ops: &[RequestOp]) -> Result<Writes, Overlap> {
    let mut all = Writes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            all.deletes.push((delete.key.clone(), delete.range_end.clone()));
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(txn)) = &op.request else { continue };
        let (success, failure) = (as_etcd(&txn.success)?, as_etcd(&txn.failure)?);
        for put in success.puts.iter().chain(failure.puts.difference(&success.puts)) {
            all.put(put)?;
        }
        if failure.puts.iter().any(|put| all.is_deleted(put)) {
            return Err(Overlap);
        }
        all.deletes.extend(success.deletes);
        all.deletes.extend(failure.deletes);
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}

impl Writes {
    fn is_deleted(&self, put: &Bytes) -> bool {
        self.deletes
            .iter()
            .any(|(key, end)| if end.is_empty() { put == key } else { put >= key && put < end })
    }

    fn put(&mut self, put: &Bytes) -> Result<(), Overlap> {
        if self.is_deleted(put) || !self.puts.insert(put.clone()) { Err(Overlap) } else { Ok(()) }
    }
}
