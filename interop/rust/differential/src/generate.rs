//! Makes up requests: mostly sensible ones, and some of every kind that etcd refuses.

use bytes::Bytes;
use quorate_proto::etcdserverpb as pb;

use crate::{call::Call, dice::Dice, overlap};

/// Distinct numbers in keys. Few, so that most keys exist, are written often and fall into many ranges.
const KEYS: usize = 36;

/// Lease ids in use.
const LEASES: i64 = 24;

/// A time to live that outlasts the test.
const LONG_TTL: i64 = 100_000;

/// Makes requests that fit what the servers hold by now.
#[derive(Debug)]
pub struct Generator {
    pub dice: Dice,
    /// The newest revision seen.
    pub revision: i64,
    /// The newest compacted revision asked for.
    pub compacted: i64,
    /// A lease with a short time to live that must go before it runs out.
    short_lease: Option<i64>,
}

impl Generator {
    /// A generator that makes the same requests for the same seed and answers.
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed), revision: 1, compacted: 0, short_lease: None }
    }

    /// The next request.
    pub fn call(&mut self) -> Call {
        if let Some(id) = self.short_lease.take() {
            return Call::LeaseRevoke(pb::LeaseRevokeRequest { id });
        }
        match self.dice.weighted(&[2400, 400, 2600, 700, 2400, 30, 300, 160, 160, 80, 40, 10, 40]) {
            0 => Call::Range(self.range()),
            1 => Call::RangeStream(self.range_for_stream()),
            2 => Call::Put(self.put()),
            3 => Call::DeleteRange(self.delete_range()),
            4 => Call::Txn(self.comparable_txn()),
            5 => Call::Compact(self.compaction()),
            6 => Call::LeaseGrant(self.lease_grant()),
            7 => Call::LeaseRevoke(pb::LeaseRevokeRequest { id: self.lease() }),
            8 => Call::LeaseTimeToLive(pb::LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.dice.percent(70),
            }),
            9 => Call::LeaseKeepAlive(pb::LeaseKeepAliveRequest { id: self.lease() }),
            10 => Call::LeaseLeases,
            11 => Call::Alarms,
            _ => Call::HashKv(if self.dice.percent(30) { 0 } else { self.some_revision() }),
        }
    }

    /// A key, with bytes of all kinds; at times none.
    pub fn key(&mut self) -> Bytes {
        let number = self.dice.below(KEYS);
        let text = match number % 6 {
            0 => format!("a/{number:02}"),
            1 | 2 => format!("b/{number:02}"),
            3 => format!("b/{number:02}/x"),
            4 => return [b"c\0", &[number as u8][..]].concat().into(),
            _ => return [b"\xff\xff", &[number as u8][..]].concat().into(),
        };
        if self.dice.percent(1) { Bytes::new() } else { text.into() }
    }

    /// Bounds of a range: a key, a prefix, an interval (the wrong way round at times), open, everything.
    pub fn bounds(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        match self.dice.weighted(&[45, 25, 15, 6, 6, 3]) {
            0 => (key, Bytes::new()),
            1 => {
                let prefix = self.dice.one(&[&b"a/"[..], b"b/", b"b/1", b"c\0", b"\xff"]);
                (Bytes::from_static(prefix), successor(prefix))
            }
            2 => (key, self.key()),
            3 => (key, Bytes::from_static(b"\0")),
            4 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            _ => (Bytes::new(), Bytes::from_static(b"\0")),
        }
    }

    /// A revision: current, old, compacted, future, negative.
    pub fn some_revision(&mut self) -> i64 {
        match self.dice.weighted(&[40, 20, 8, 8, 3, 3, 2]) {
            0 => self.dice.between(self.compacted.max(1), self.revision),
            1 => self.dice.between((self.revision - 30).max(1), self.revision),
            2 => self.revision,
            3 => self.dice.between((self.compacted - 2).max(1), self.compacted + 2),
            4 => self.revision + self.dice.between(1, 4),
            5 => 1,
            _ => -self.dice.between(1, 5),
        }
    }

    fn value(&mut self) -> Bytes {
        match self.dice.weighted(&[10, 80, 10]) {
            0 => Bytes::new(),
            1 => format!("v{}", self.dice.below(50)).into(),
            _ => vec![b'x'; self.dice.below(300)].into(),
        }
    }

    fn lease(&mut self) -> i64 {
        self.dice.between(1, LEASES)
    }

    fn range(&mut self) -> pb::RangeRequest {
        let (key, range_end) = self.bounds();
        let mut bound =
            |likelihood| if self.dice.percent(likelihood) { self.some_revision() } else { 0 };
        let revision = bound(35);
        let [min_mod_revision, max_mod_revision, min_create_revision, max_create_revision] =
            [bound(8), bound(8), bound(8), bound(8)];
        pb::RangeRequest {
            key,
            range_end,
            limit: if self.dice.percent(30) { self.dice.between(-1, 8) } else { 0 },
            revision,
            sort_order: if self.dice.percent(35) { self.dice.between(0, 2) as i32 } else { 0 },
            sort_target: if self.dice.percent(35) { self.dice.between(0, 4) as i32 } else { 0 },
            serializable: self.dice.percent(15),
            keys_only: self.dice.percent(12),
            count_only: self.dice.percent(10),
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        }
    }

    /// A range that is usually one that can be streamed, and at times one that both refuse to stream. A sort target
    /// without an order is not sent: etcd goes on behind the pair that comes last in that order, and so repeats pairs or
    /// leaves them out.
    fn range_for_stream(&mut self) -> pb::RangeRequest {
        let range = self.range();
        if self.dice.percent(10) {
            let sort_target = if range.sort_order == 0 { 0 } else { range.sort_target };
            return pb::RangeRequest { sort_target, ..range };
        }
        pb::RangeRequest {
            sort_order: 0,
            sort_target: 0,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
            ..range
        }
    }

    fn put(&mut self) -> pb::PutRequest {
        let ignore_value = self.dice.percent(8);
        let ignore_lease = self.dice.percent(8);
        pb::PutRequest {
            key: self.key(),
            value: if ignore_value && self.dice.percent(85) { Bytes::new() } else { self.value() },
            lease: if ignore_lease && self.dice.percent(85) || self.dice.percent(75) {
                0
            } else {
                self.lease()
            },
            prev_kv: self.dice.percent(30),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete_range(&mut self) -> pb::DeleteRangeRequest {
        let (key, range_end) =
            if self.dice.percent(70) { (self.key(), Bytes::new()) } else { self.bounds() };
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.dice.percent(40) }
    }

    /// A transaction that both servers accept or both refuse.
    fn comparable_txn(&mut self) -> pb::TxnRequest {
        loop {
            let txn = self.txn(2);
            if !overlap::only_etcd_accepts(&txn) {
                return txn;
            }
        }
    }

    fn txn(&mut self, depth: usize) -> pb::TxnRequest {
        let compares = self.dice.weighted(&[20, 40, 25, 15]);
        if self.dice.percent(1) {
            return self.long_txn();
        }
        pb::TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: self.ops(depth),
            failure: self.ops(depth),
        }
    }

    /// Around the limit of operations.
    fn long_txn(&mut self) -> pb::TxnRequest {
        let count = self.dice.between(126, 130);
        let key = |at: i64| Bytes::from(format!("long/{at}"));
        let put =
            |at| pb::PutRequest { key: key(at), value: "long".into(), ..pb::PutRequest::default() };
        let puts = (0..count).map(|at| op(pb::request_op::Request::RequestPut(put(at)))).collect();
        let range_end = successor(b"long/");
        let delete = pb::DeleteRangeRequest {
            key: "long/".into(),
            range_end,
            ..pb::DeleteRangeRequest::default()
        };
        let deletes = vec![op(pb::request_op::Request::RequestDeleteRange(delete))];
        let (success, failure) =
            if self.dice.percent(50) { (puts, deletes) } else { (deletes, puts) };
        pb::TxnRequest { compare: vec![self.compare()], success, failure }
    }

    fn ops(&mut self, depth: usize) -> Vec<pb::RequestOp> {
        let count = self.dice.weighted(&[15, 40, 25, 15, 5]);
        (0..count).map(|_| self.op(depth)).collect()
    }

    fn op(&mut self, depth: usize) -> pb::RequestOp {
        use pb::request_op::Request;
        let nested = if depth > 0 { 12 } else { 0 };
        match self.dice.weighted(&[30, 40, 17, nested, 1]) {
            0 => op(Request::RequestRange(self.range())),
            1 => op(Request::RequestPut(self.put())),
            2 => op(Request::RequestDeleteRange(self.delete_range())),
            3 => op(Request::RequestTxn(self.txn(depth - 1))),
            _ => pb::RequestOp { request: None },
        }
    }

    fn compare(&mut self) -> pb::Compare {
        use pb::compare::{CompareTarget, TargetUnion};
        let (key, range_end) =
            if self.dice.percent(80) { (self.key(), Bytes::new()) } else { self.bounds() };
        let near = if self.dice.percent(40) { 0 } else { self.some_revision() };
        let (target, union) = match self.dice.below(5) {
            0 => (CompareTarget::Version, TargetUnion::Version(self.dice.between(0, 4))),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(near)),
            2 => (CompareTarget::Mod, TargetUnion::ModRevision(near)),
            3 => (CompareTarget::Value, TargetUnion::Value(self.value())),
            _ => (CompareTarget::Lease, TargetUnion::Lease(self.dice.between(0, LEASES))),
        };
        pb::Compare {
            result: self.dice.between(0, 3) as i32,
            target: target.into(),
            key,
            range_end,
            target_union: if self.dice.percent(97) { Some(union) } else { None },
        }
    }

    fn compaction(&mut self) -> pb::CompactionRequest {
        let revision = match self.dice.weighted(&[70, 10, 10, 5, 5]) {
            0 => self.revision - self.dice.between(0, 200).min(self.revision),
            1 => self.compacted,
            2 => self.revision,
            3 => self.revision + 1,
            _ => -1,
        };
        pb::CompactionRequest { revision, physical: self.dice.percent(30) }
    }

    fn lease_grant(&mut self) -> pb::LeaseGrantRequest {
        let id = self.lease();
        let ttl = match self.dice.weighted(&[92, 4, 4]) {
            0 => LONG_TTL + self.dice.between(0, 100),
            1 => 9_000_000_000 + self.dice.between(0, 1),
            _ => {
                self.short_lease = Some(id);
                self.dice.between(-1, 5)
            }
        };
        pb::LeaseGrantRequest { ttl, id }
    }
}

fn op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// The end of the range of everything that begins with `prefix`.
fn successor(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}
