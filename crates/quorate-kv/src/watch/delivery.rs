//! Pulling from the hub and turning revisions into responses.
//!
//! A poll spends its budget in this order: answers to requests; what was pulled, for watchers in step; history, for
//! watchers behind, the one furthest back first, so that they meet and move on together; progress. If some are behind,
//! the first kind gets at most half of the budget, so that a busy stream still lets them catch up.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use quorate_proto::etcdserverpb::WatchResponse;

use super::{
    CATCH_UP_REVISIONS_MAX, History, NO_WATCH_ID, WatchHub, WatchStream,
    batch::{Responses, header},
    hub::Taken,
    ring,
    watcher::Position,
};
use crate::{ReadError, RevisionEvents};

/// How often a poll reads history from storage. What it finds may concern nobody, so that the budget of bytes alone would be no
/// bound on the work.
const CATCH_UP_READS_MAX: usize = 1;
/// How much of history a poll reads at least, where there is as much: what concerns nobody costs none of its budget. More than
/// the budget is not read, as what has no room in it is read again.
const CATCH_UP_BYTES_MIN: usize = 16 << 10;

impl WatchStream {
    /// Takes from the hub what concerns this stream, within [`WatchLimits::pull_bytes_max`](super::WatchLimits). Short:
    /// only counts of references change hands.
    pub fn pull(&mut self, hub: &mut WatchHub) {
        self.unregister(hub);
        self.current = hub.revision();
        if self.feed.is_empty() {
            match hub.take(self.id()) {
                Taken::Nothing => self.pulled = self.current + 1,
                Taken::Run { revisions, next } => {
                    self.feed.extend(revisions);
                    self.pulled = next;
                }
                Taken::Missed { from } => self.fall_behind(from),
            }
        }
        self.in_step_from = self.in_step_from.max(self.pulled);
        if let Some((cursor, _)) = self.behind.first() {
            self.recent = hub.recent(*cursor).unwrap_or_default();
        }
    }

    /// Makes the next responses, about `budget_bytes` of events at most, though always whole revisions.
    ///
    /// `history` must be at least as new as the hub was at the last [`pull`](Self::pull). Reads storage for watchers that
    /// are behind and for previous values; needs no lock.
    ///
    /// # Errors
    /// The history's. The stream has lost its place then and must be closed.
    pub fn poll<H: History + ?Sized>(
        &mut self,
        history: &H,
        budget_bytes: usize,
    ) -> Result<Vec<WatchResponse>, ReadError> {
        let mut responses = Responses::new(history, self.limits, self.answers.drain(..));
        let share = if self.behind.is_empty() { budget_bytes } else { budget_bytes / 2 };
        self.feed_in_step(&mut responses, share)?;
        self.catch_up(history, &mut responses, budget_bytes)?;
        self.report_progress(&mut responses);
        Ok(responses.into_vec(&self.watchers))
    }

    /// Whether another pull and poll would bring something now.
    pub fn has_more(&self) -> bool {
        !self.answers.is_empty()
            || !self.feed.is_empty()
            || !self.behind.is_empty()
            || !self.is_up_to_date()
    }

    /// Whether the next poll reads history from storage.
    pub fn reads_history(&self) -> bool {
        self.behind.first().is_some_and(|(cursor, _)| *cursor < self.in_step_from)
    }

    /// Bytes that were taken from the hub and not yet delivered, roughly.
    pub fn feed_bytes(&self) -> usize {
        self.feed.iter().map(|revision| ring::size_bytes(revision)).sum()
    }

    /// Gives up what was taken from the hub and not yet delivered: it will be read from history. For a server that can't
    /// hold so much for so many streams.
    pub fn shed(&mut self) {
        self.recent = Vec::new();
        let Some(first) = self.feed.front().map(|revision| revision.revision) else { return };
        self.feed = VecDeque::new();
        self.put_behind(first);
    }

    /// Whether everything the hub had at the last pull was taken, and no watcher was created since.
    fn is_up_to_date(&self) -> bool {
        self.pulled > self.current && self.in_step_from == self.current + 1
    }

    /// The ring no longer holds `from`: every watcher that may have missed something reads history.
    fn fall_behind(&mut self, from: i64) {
        self.pulled = self.current + 1;
        self.put_behind(from);
    }

    /// Every watcher in step that may want something from `from` up to what was pulled reads history.
    fn put_behind(&mut self, from: i64) {
        for (id, watcher) in &mut self.watchers {
            if watcher.position == Position::InStep && watcher.next < self.pulled {
                watcher.position = Position::Behind;
                watcher.next = watcher.next.max(from);
                self.behind.insert((watcher.next, *id));
            }
        }
    }

    /// Delivers what was pulled to the watchers in step.
    fn feed_in_step<H: History + ?Sized>(
        &mut self,
        responses: &mut Responses<'_, H>,
        budget_bytes: usize,
    ) -> Result<(), ReadError> {
        while responses.bytes < budget_bytes.max(1) {
            let Some(revision) = self.feed.pop_front() else { break };
            self.deliver(responses, &revision, Position::InStep)?;
        }
        Ok(())
    }

    /// Delivers history to the watchers behind, until they are in step or the budget is spent.
    fn catch_up<H: History + ?Sized>(
        &mut self,
        history: &H,
        responses: &mut Responses<'_, H>,
        budget_bytes: usize,
    ) -> Result<(), ReadError> {
        self.cancel_compacted(history.compact_revision(), responses);
        let mut reads_left = CATCH_UP_READS_MAX;
        while responses.bytes < budget_bytes.max(1) {
            let Some((cursor, _)) = self.behind.first().copied() else { break };
            if cursor >= self.in_step_from {
                self.advance_behind(cursor);
                continue;
            }
            if self.recent.first().is_none_or(|first| first.revision != cursor) {
                if reads_left == 0 {
                    break;
                }
                reads_left -= 1;
            }
            let run = self.history_from(cursor, history, budget_bytes)?;
            let through = self.deliver_run(responses, &run, history.revision(), budget_bytes)?;
            if through < cursor {
                break;
            }
            self.advance_behind(through + 1);
        }
        Ok(())
    }

    /// Delivers revisions to the watchers behind, up to where they meet the stream and within the budget. Gives the last
    /// revision that is settled; an empty run settles everything up to `newest`.
    fn deliver_run<H: History + ?Sized>(
        &mut self,
        responses: &mut Responses<'_, H>,
        run: &[Arc<RevisionEvents>],
        newest: i64,
        budget_bytes: usize,
    ) -> Result<i64, ReadError> {
        let through = run.last().map_or(newest, |last| last.revision).min(self.in_step_from - 1);
        for revision in run.iter().take_while(|entry| entry.revision <= through) {
            self.deliver(responses, revision, Position::Behind)?;
            if responses.bytes >= budget_bytes {
                return Ok(revision.revision);
            }
        }
        Ok(through)
    }

    /// The next revisions from `cursor` on: from the ring if the last pull brought them, else from storage.
    fn history_from<H: History + ?Sized>(
        &mut self,
        cursor: i64,
        history: &H,
        budget_bytes: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, ReadError> {
        let recent = std::mem::take(&mut self.recent);
        if recent.first().is_some_and(|first| first.revision == cursor) {
            return Ok(recent);
        }
        let bytes_max = budget_bytes.max(CATCH_UP_BYTES_MIN).min(self.limits.pull_bytes_max);
        history.events(cursor, CATCH_UP_REVISIONS_MAX, bytes_max)
    }

    /// Adds the events of one revision for every watcher in `position` that matches and has not had it.
    fn deliver<H: History + ?Sized>(
        &mut self,
        responses: &mut Responses<'_, H>,
        revision: &Arc<RevisionEvents>,
        position: Position,
    ) -> Result<(), ReadError> {
        let mut matches: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (at, event) in revision.events.iter().enumerate() {
            let Some(kv) = event.kv.as_ref() else { continue };
            self.matching.visit(&kv.key, |id| matches.entry(id).or_default().push(at));
        }
        for (id, matching) in matches {
            let Some(watcher) = self.watchers.get_mut(&id) else { continue };
            if watcher.position == position && revision.revision >= watcher.next {
                responses.add(id, watcher, revision, &matching)?;
            }
        }
        Ok(())
    }

    /// Moves every watcher behind up to `next`, and those that met the stream into step.
    fn advance_behind(&mut self, next: i64) {
        let ahead = self.behind.split_off(&(next, i64::MIN));
        let moved = std::mem::replace(&mut self.behind, ahead);
        let arrived = next >= self.in_step_from;
        let here: Vec<i64> = if arrived {
            let later = self.behind.split_off(&(next + 1, i64::MIN));
            let exact = std::mem::replace(&mut self.behind, later);
            moved.into_iter().chain(exact).map(|(_, id)| id).collect()
        } else {
            moved.into_iter().map(|(_, id)| id).collect()
        };
        for id in here {
            let Some(watcher) = self.watchers.get_mut(&id) else { continue };
            watcher.next = next;
            if arrived {
                watcher.position = Position::InStep;
            } else {
                self.behind.insert((next, id));
            }
        }
    }

    /// Ends the watchers whose history is gone.
    fn cancel_compacted<H: History + ?Sized>(
        &mut self,
        compact_revision: i64,
        responses: &mut Responses<'_, H>,
    ) {
        while let Some((cursor, id)) = self.behind.first().copied() {
            if cursor >= compact_revision {
                break;
            }
            self.behind.pop_first();
            let Some(mut watcher) = self.watchers.remove(&id) else { continue };
            self.retire(id, &watcher);
            watcher.position = Position::Ended;
            let end = WatchResponse {
                header: Some(header(0)),
                watch_id: id,
                canceled: true,
                compact_revision,
                ..WatchResponse::default()
            };
            responses.push(end, &self.watchers);
            self.watchers.insert(id, watcher);
        }
    }

    /// Adds progress answers, if everything up to the current revision has been delivered.
    fn report_progress<H: History + ?Sized>(&mut self, responses: &mut Responses<'_, H>) {
        if !self.feed.is_empty() || !self.is_up_to_date() {
            return;
        }
        let revision = self.current;
        let report = |watch_id| WatchResponse {
            header: Some(header(revision)),
            watch_id,
            ..WatchResponse::default()
        };
        for id in std::mem::take(&mut self.reports_due) {
            let due = self
                .watchers
                .get(&id)
                .is_some_and(|watcher| watcher.quiet && watcher.may_report(revision));
            if due {
                responses.push(report(id), &self.watchers);
            }
        }
        if std::mem::take(&mut self.progress_requested) && self.may_report_all(revision) {
            responses.push(report(NO_WATCH_ID), &self.watchers);
        }
    }
}
