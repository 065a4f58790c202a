//! Comparisons of transactions.
//!
//! One holds if it holds for every key it names. Without any key, a comparison of values is false whatever it asks, and any
//! other is made with 0 (etcd points 22 and 23).
//!
//! Source: etcd `server/etcdserver/txn/txn.go`, `applyCompare`.

use std::{
    cmp::Ordering,
    ops::ControlFlow::{Break, Continue},
};

use bytes::Bytes;
use quorate_proto::etcdserverpb::{
    self as pb,
    compare::{CompareResult, CompareTarget, TargetUnion},
};

use crate::{
    Budget, Error, Span,
    index::{Pause, Scan, Stretch},
    picture::Picture,
    schema::Stamp,
};

/// Whether all of `compares` hold.
pub(crate) fn all_hold(picture: &Picture<'_>, compares: &[pb::Compare]) -> Result<bool, Error> {
    let mut work = CompareWork::default();
    loop {
        if let Some(held) = work.advance(picture, compares, &mut Budget::unlimited())? {
            return Ok(held);
        }
    }
}

/// Comparisons that are being made, slice by slice. Every call must see the same picture and the same comparisons.
#[derive(Debug, Default)]
pub(crate) struct CompareWork {
    /// How many held.
    held: usize,
    /// The next one's keys, once it was begun, and whether there was any.
    scan: Option<(Scan, bool)>,
}

impl CompareWork {
    /// Goes on within `budget`. Whether all hold, once that is known.
    pub(crate) fn advance(
        &mut self,
        picture: &Picture<'_>,
        compares: &[pb::Compare],
        budget: &mut Budget,
    ) -> Result<Option<bool>, Error> {
        while let Some(compare) = compares.get(self.held) {
            match self.one(picture, compare, budget)? {
                Some(true) => self.held += 1,
                other => return Ok(other),
            }
            self.scan = None;
        }
        Ok(Some(true))
    }

    fn one(
        &mut self,
        picture: &Picture<'_>,
        compare: &pb::Compare,
        budget: &mut Budget,
    ) -> Result<Option<bool>, Error> {
        let (scan, any) = self.scan.get_or_insert_with(|| {
            let stretch = Stretch::new(Span::new(&compare.key, &compare.range_end));
            (Scan::new(&stretch, picture.revision), false)
        });
        let by_value = compare.target == CompareTarget::Value as i32;
        let pause = scan.advance(picture.view, budget, &mut |found, budget| {
            *any = true;
            let stamp = found.stamp()?;
            let value = if by_value { picture.load(stamp)?.value } else { Bytes::new() };
            if by_value {
                budget.spend_lookup(value.len());
            }
            Ok(if holds(compare, &stamp, &value) { Continue(()) } else { Break(()) })
        })?;
        Ok(match pause {
            Pause::Spent => None,
            Pause::Stopped => Some(false),
            Pause::Ended if *any => Some(true),
            Pause::Ended => Some(!by_value && holds(compare, &Stamp::ABSENT, &[])),
        })
    }
}

/// How `compare` finds the pair; what it does not say is 0 or empty.
fn order(compare: &pb::Compare, stamp: &Stamp, value: &[u8]) -> Ordering {
    let union = compare.target_union.as_ref();
    match (CompareTarget::try_from(compare.target), union) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(to))) => stamp.version.cmp(to),
        (Ok(CompareTarget::Version), _) => stamp.version.cmp(&0),
        (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(to))) => {
            stamp.create_revision.cmp(to)
        }
        (Ok(CompareTarget::Create), _) => stamp.create_revision.cmp(&0),
        (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(to))) => stamp.rev.main.cmp(to),
        (Ok(CompareTarget::Mod), _) => stamp.rev.main.cmp(&0),
        (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(to))) => stamp.lease.cmp(to),
        (Ok(CompareTarget::Lease), _) => stamp.lease.cmp(&0),
        (Ok(CompareTarget::Value), Some(TargetUnion::Value(to))) => value.cmp(to),
        (Ok(CompareTarget::Value), _) => value.cmp(&[]),
        (Err(_), _) => Ordering::Equal,
    }
}

fn holds(compare: &pb::Compare, stamp: &Stamp, value: &[u8]) -> bool {
    let order = order(compare, stamp, value);
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}
