//! Finding the versions of keys.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use quorate_engine::{Direction, View};

use crate::{
    Error, Span,
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
#[derive(Clone, Debug)]
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

    /// The same without the keys up to and with `key`.
    pub(crate) fn after(&self, key: &[u8]) -> Self {
        Self { low: schema::behind(schema::index_prefix(key)), high: self.high.clone() }
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
    if stretch.is_empty() {
        return Ok(());
    }
    let high = stretch.high.as_ref().map_or(Bound::Unbounded, |high| Bound::Excluded(&high[..]));
    let mut walk = Walk { revision, current: Vec::new(), decided: false, passed: 0, visit };
    let mut low = stretch.low.clone();
    loop {
        let mut next = Ok(Next::Stop);
        view.scan(IDX, (Bound::Included(&low), high), Direction::Forward, &mut |key, value| {
            next = walk.step(key, value);
            match next {
                Ok(Next::Step) => {
                    next = Ok(Next::Stop);
                    ControlFlow::Continue(())
                }
                Ok(Next::Stop | Next::Seek(_)) | Err(_) => ControlFlow::Break(()),
            }
        })?;
        match next? {
            Next::Seek(position) => low = position,
            Next::Step | Next::Stop => return Ok(()),
        }
    }
}

/// How many keys of `stretch` are alive at `revision`.
pub(crate) fn count(view: &dyn View, stretch: &Stretch, revision: i64) -> Result<i64, Error> {
    let mut count = 0;
    scan(view, stretch, revision, &mut |_| {
        count += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(count)
}

enum Next {
    Step,
    Seek(Vec<u8>),
    Stop,
}

/// A scan's place among the versions of one key.
struct Walk<'v> {
    revision: i64,
    /// Prefix of the key whose versions are passing by.
    current: Vec<u8>,
    /// Whether that key's version at the revision has been met.
    decided: bool,
    /// Versions passed without use since the last seek.
    passed: usize,
    visit: &'v mut dyn FnMut(&Found<'_>) -> Result<ControlFlow<()>, Error>,
}

impl Walk<'_> {
    fn step(&mut self, key: &[u8], value: &[u8]) -> Result<Next, Error> {
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
        match (self.visit)(&Found { prefix, main, value })? {
            ControlFlow::Continue(()) => Ok(Next::Step),
            ControlFlow::Break(()) => Ok(Next::Stop),
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
