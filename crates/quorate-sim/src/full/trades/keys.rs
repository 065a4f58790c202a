//! Reads and writes of keys, alone and in transactions.

use quorate_check::{
    etcd::{Compare, Range, Step, Txn},
    revision::Request,
};

use super::{Heard, Trade, Who, put};
use crate::full::{
    call::Ask,
    history::{History, REGISTER_PREFIX},
    plan::Load,
};

/// Reads and writes keys.
#[derive(Debug)]
pub(in crate::full) struct Keys(pub(in crate::full) Load);

impl Trade for Keys {
    fn ask(&mut self, who: &mut Who, _: u64) -> Ask {
        if self.0.compacts && who.dice.chance(60_000) {
            return Ask::Compact(who.revision - who.dice.below(10).cast_signed());
        }
        let is_register = who.dice.chance(500_000);
        let prefix = if is_register { REGISTER_PREFIX } else { "k" };
        let key = format!("{prefix}{}", who.dice.below(self.0.keys));
        let one = Range::one(&key);
        let request = match who.dice.below(100) {
            0..30 => read(one, None, false),
            30..38 => read(one, None, true),
            38..44 => read(Range::all(), None, who.dice.chance(300_000)),
            44..48 => {
                let back = who.dice.below(5).cast_signed();
                read(Range::all(), Some((who.revision - back).max(1)), who.dice.chance(500_000))
            }
            48..75 => Request::Txn(put(key, who.value())),
            75..83 => Request::Txn(Txn { success: vec![Step::Delete(one)], ..Txn::default() }),
            83..90 => compare_and_set(who, key),
            _ if is_register => Request::Txn(put(key, who.value())),
            _ => several(who, &key, self.0.keys),
        };
        Ask::Keys(request, 0)
    }

    fn hear(&mut self, _: &mut Who, _: &Heard<'_>, _: &mut History) -> Option<u64> {
        None
    }
}

fn read(range: Range, at: Option<i64>, serializable: bool) -> Request {
    Request::Read { range, at, serializable }
}

/// Expects what this client wrote last.
fn compare_and_set(who: &mut Who, key: String) -> Request {
    let value = format!("{}.{}", who.client, who.written);
    let compare = vec![Compare::Value { key: key.clone(), value }];
    Request::Txn(Txn { compare, ..put(key, who.value()) })
}

/// A transaction over several keys.
fn several(who: &mut Who, key: &str, keys: u64) -> Request {
    let other = format!("k{keys}");
    let one_put = |key: &str, value| Step::Put { key: key.to_owned(), value };
    Request::Txn(Txn {
        compare: vec![Compare::ModRevision { key: key.to_owned(), revision: 0 }],
        success: vec![one_put(key, who.value()), one_put(&other, who.value())],
        failure: vec![
            Step::Get(Range { key: "k".into(), end: Some("l".into()) }),
            Step::Delete(Range::one(key)),
            one_put(&other, who.value()),
        ],
    })
}
