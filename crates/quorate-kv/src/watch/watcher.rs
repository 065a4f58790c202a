//! One watcher: what it asked for and how far it has got.

use quorate_proto::{
    etcdserverpb::{WatchCreateRequest, watch_create_request::FilterType},
    mvccpb::{Event, event::EventType},
};

use super::range_index::KeySet;

/// How a watcher stands to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Shares the stream's cursor.
    InStep,
    /// Reads history at its own cursor.
    Behind,
    /// Canceled by the server because of compaction; its id stays taken until the client cancels it, as in etcd.
    Ended,
}

/// One watcher of a stream.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) keys: KeySet,
    /// As requested; 0 if the request left it open.
    pub(super) start_revision: i64,
    /// Smallest revision this watcher still accepts: all below was delivered or is none of its business.
    pub(super) next: i64,
    pub(super) position: Position,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    /// Wants periodic progress reports.
    pub(super) progress_notify: bool,
    /// No events since the last report or interval.
    pub(super) quiet: bool,
    puts: bool,
    deletes: bool,
}

impl Watcher {
    /// Reads a request made while the hub stands at `current`. `None` if its range is empty.
    pub(super) fn new(request: &WatchCreateRequest, current: i64) -> Option<Self> {
        let keys = KeySet::from_request(&request.key, &request.range_end)?;
        let start_revision = request.start_revision;
        let past = start_revision != 0 && start_revision <= current;
        let unwanted = |filter: FilterType| request.filters.contains(&i32::from(filter));
        Some(Self {
            keys,
            start_revision,
            next: if start_revision == 0 { current + 1 } else { start_revision },
            position: if past { Position::Behind } else { Position::InStep },
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            quiet: true,
            puts: !unwanted(FilterType::Noput),
            deletes: !unwanted(FilterType::Nodelete),
        })
    }

    /// Whether the filters let the event through.
    pub(super) fn wants(&self, event: &Event) -> bool {
        if event.r#type == i32::from(EventType::Delete) { self.deletes } else { self.puts }
    }

    /// Whether a progress report at `revision` says something true and new: in step, and not before its start.
    pub(super) fn may_report(&self, revision: i64) -> bool {
        self.position == Position::InStep && revision >= self.start_revision
    }
}
