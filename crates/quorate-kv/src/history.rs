//! History in the order in which it was made: events for watches that catch up.

use std::{
    ops::{Bound, ControlFlow},
    sync::Arc,
};

use quorate_engine::{Direction, View};
use quorate_proto::mvccpb::{Event, KeyValue, event::EventType};

use crate::{
    Error, ReadError, RequestError, RevisionEvents,
    picture::{Picture, decode_pair},
    schema::{self, REV, Rev},
};

/// The changes from `from_revision` on, in whole revisions.
pub(crate) fn events(
    picture: &Picture<'_>,
    from_revision: i64,
    revisions_max: usize,
    bytes_max: usize,
) -> Result<Vec<Arc<RevisionEvents>>, ReadError> {
    if from_revision < picture.compact_revision {
        return Err(RequestError::Compacted.into());
    }
    let mut gathered: Vec<RevisionEvents> = Vec::new();
    let mut bytes = 0;
    scan(picture.view, from_revision, i64::MAX, &mut |rev, tombstone, key, value| {
        let begins = gathered.last().is_none_or(|last| last.revision != rev.main);
        if begins && (gathered.len() >= revisions_max || (bytes >= bytes_max && bytes > 0)) {
            return Ok(ControlFlow::Break(()));
        }
        bytes += value.len();
        let event = event(rev, tombstone, decode_pair(key, value)?);
        match gathered.last_mut() {
            Some(last) if !begins => last.events.push(event),
            Some(_) | None => {
                gathered.push(RevisionEvents { revision: rev.main, events: vec![event] });
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(gathered.into_iter().map(Arc::new).collect())
}

fn event(rev: Rev, tombstone: bool, pair: KeyValue) -> Event {
    let kind = if tombstone { EventType::Delete } else { EventType::Put };
    let kv = KeyValue { mod_revision: rev.main, ..pair };
    Event { r#type: kind.into(), kv: Some(kv), prev_kv: None }
}

/// Gets the place of a change, whether it is a deletion, and its key and value in `rev`.
pub(crate) type VisitChange<'a> =
    dyn FnMut(Rev, bool, &[u8], &[u8]) -> Result<ControlFlow<()>, Error> + 'a;

/// Visits the changes of the revisions `first..=last`, in order.
pub(crate) fn scan(
    view: &dyn View,
    first: i64,
    last: i64,
    visit: &mut VisitChange<'_>,
) -> Result<(), Error> {
    scan_from(view, Rev { main: first.max(0), sub: 0 }, last, visit)
}

/// As [`scan`], from one change on.
pub(crate) fn scan_from(
    view: &dyn View,
    first: Rev,
    last: i64,
    visit: &mut VisitChange<'_>,
) -> Result<(), Error> {
    let low = schema::rev_key(first, false);
    let mut result = Ok(());
    let range = (Bound::Included(&low[..]), Bound::Unbounded);
    view.scan(REV, range, Direction::Forward, &mut |key, value| {
        let flow = schema::parse_rev_key(key).and_then(|(rev, tombstone)| {
            if rev.main > last {
                return Ok(ControlFlow::Break(()));
            }
            visit(rev, tombstone, key, value)
        });
        flow.unwrap_or_else(|error| {
            result = Err(error);
            ControlFlow::Break(())
        })
    })?;
    result
}
