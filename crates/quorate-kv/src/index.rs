//! Finding the versions of keys.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use quorate_engine::{Direction, View};

use crate::{
    Budget, Error, Span,
    schema::{self, IDX, Stamp},
};

/// After so many versions of one key that are not wanted, a seek is cheaper than the next step.
const PASSED_MAX: usize = 8;

/// A key that is alive at the revision of the scan. The key and the stamp are decoded only when asked for.
pub(crate) struct Found<'a> {
    prefix: &'a [u8],
    main: i64,
    value: &'a [u8],
}

impl Found<'_> {
    pub(crate) fn key(&self) -> Result<Bytes, Error> {
        schema::user_key(self.prefix)
    }

    pub(crate) fn stamp(&self) -> Result<Stamp, Error> {
        decode(self.prefix, self.main, self.value)
    }
}

/// The `idx` keys that hold the versions of some user keys: from `low`, up to and without `high`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    low: Vec<u8>,
    high: Option<Vec<u8>>,
}

impl Stretch {
    /// The versions of the keys of `span`.
    pub(crate) fn new(span: Span<'_>) -> Self {
        let low = schema::index_prefix(span.start());
        let high = match span.single() {
            Some(_) => Some(schema::behind(low.clone())),
            None => span.end().map(schema::index_prefix),
        };
        Self { low, high }
    }

    fn is_empty(&self) -> bool {
        self.high.as_ref().is_some_and(|high| *high <= self.low)
    }
}

/// The newest change of `key` at `revision`, a deletion included.
pub(crate) fn newest(view: &dyn View, key: &[u8], revision: i64) -> Result<Option<Stamp>, Error> {
    let prefix = schema::index_prefix(key);
    let high = schema::behind(prefix.clone());
    let low = schema::index_key(prefix, revision);
    let range = (Bound::Included(&low[..]), Bound::Excluded(&high[..]));
    let mut found = Ok(None);
    view.scan(IDX, range, Direction::Forward, &mut |key, value| {
        found = schema::parse_index_key(key)
            .and_then(|(prefix, main)| decode(prefix, main, value))
            .map(Some);
        ControlFlow::Break(())
    })?;
    found
}

/// Visits the keys of `stretch` that are alive at `revision`, in key order.
pub(crate) fn scan(
    view: &dyn View,
    stretch: &Stretch,
    revision: i64,
    visit: &mut dyn FnMut(&Found<'_>) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    let mut whole = Budget::unlimited();
    Scan::new(stretch, revision).advance(view, &mut whole, &mut |found, _| visit(found)).map(drop)
}

/// Gets a key that is alive, and what the slice may still spend.
pub(crate) type VisitFound<'a> =
    dyn FnMut(&Found<'_>, &mut Budget) -> Result<ControlFlow<()>, Error> + 'a;

/// Why a scan gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// There is no more.
    Ended,
    /// The budget is spent.
    Spent,
    /// The visitor wanted it.
    Stopped,
}

/// A scan over the keys of a stretch that are alive at a revision, in key order and in slices.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Where it goes on; `None` behind the end.
    next: Option<Bound<Vec<u8>>>,
    high: Option<Vec<u8>>,
    place: Place,
}

impl Scan {
    pub(crate) fn new(stretch: &Stretch, revision: i64) -> Self {
        let next = (!stretch.is_empty()).then(|| Bound::Included(stretch.low.clone()));
        let place = Place { revision, current: Vec::new(), decided: false, passed: 0 };
        Self { next, high: stretch.high.clone(), place }
    }

    /// Goes on until the end, the end of `budget`, or the visitor's break. After an error it must not be asked again.
    pub(crate) fn advance(
        &mut self,
        view: &dyn View,
        budget: &mut Budget,
        visit: &mut VisitFound<'_>,
    ) -> Result<Pause, Error> {
        while let Some(low) = self.next.take() {
            let low = low.as_ref().map(Vec::as_slice);
            let high = self.high.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let (place, mut next) = (&mut self.place, Ok(Next::End));
            view.scan(IDX, (low, high), Direction::Forward, &mut |key, value| {
                next = place.step(key, value, budget, visit);
                match next {
                    Ok(Next::Step) => {
                        next = Ok(Next::End);
                        ControlFlow::Continue(())
                    }
                    Ok(Next::Seek(_) | Next::Pause(..) | Next::End) | Err(_) => {
                        ControlFlow::Break(())
                    }
                }
            })?;
            match next? {
                Next::Seek(position) => self.next = Some(Bound::Included(position)),
                Next::Pause(pause, key) => {
                    self.next = Some(Bound::Excluded(key));
                    return Ok(pause);
                }
                Next::Step | Next::End => {}
            }
        }
        Ok(Pause::Ended)
    }
}

enum Next {
    Step,
    Seek(Vec<u8>),
    Pause(Pause, Vec<u8>),
    End,
}

/// A scan's place among the versions of one key.
#[derive(Debug)]
struct Place {
    revision: i64,
    /// Prefix of the key whose versions are passing by.
    current: Vec<u8>,
    /// Whether that key's version at the revision has been met.
    decided: bool,
    /// Versions passed without use since the last seek.
    passed: usize,
}

impl Place {
    fn step(
        &mut self,
        key: &[u8],
        value: &[u8],
        budget: &mut Budget,
        visit: &mut VisitFound<'_>,
    ) -> Result<Next, Error> {
        budget.spend_step();
        let next = self.look(key, value, budget, visit)?;
        match next {
            Next::Step if budget.is_spent() => Ok(Next::Pause(Pause::Spent, key.to_vec())),
            Next::Step | Next::Seek(_) | Next::Pause(..) | Next::End => Ok(next),
        }
    }

    fn look(
        &mut self,
        key: &[u8],
        value: &[u8],
        budget: &mut Budget,
        visit: &mut VisitFound<'_>,
    ) -> Result<Next, Error> {
        let (prefix, main) = schema::parse_index_key(key)?;
        if prefix != self.current {
            self.current.clear();
            self.current.extend_from_slice(prefix);
            self.decided = false;
            self.passed = 0;
        }
        if self.decided || main > self.revision {
            return Ok(self.pass());
        }
        self.decided = true;
        if schema::is_tombstone(value) {
            return Ok(Next::Step);
        }
        match visit(&Found { prefix, main, value }, budget)? {
            ControlFlow::Continue(()) => Ok(Next::Step),
            ControlFlow::Break(()) => Ok(Next::Pause(Pause::Stopped, key.to_vec())),
        }
    }

    fn pass(&mut self) -> Next {
        self.passed += 1;
        if self.passed < PASSED_MAX {
            return Next::Step;
        }
        self.passed = 0;
        let prefix = self.current.clone();
        Next::Seek(if self.decided {
            schema::behind(prefix)
        } else {
            schema::index_key(prefix, self.revision)
        })
    }
}

fn decode(prefix: &[u8], main: i64, value: &[u8]) -> Result<Stamp, Error> {
    Stamp::decode(main, value).ok_or_else(|| schema::malformed(IDX, "stamp", prefix))
}
