//! A run of entries, applied over one view and committed as one batch.

use std::sync::Arc;

use bytes::Bytes;
use quorate_engine::{Batch, View};
use quorate_proto::{etcdserverpb as pb, mvccpb::Event};

use crate::{
    Applied, ApplyOutput, Command, Committed, Error, LeaseChange, ReadError, Reply, RequestError,
    RevisionEvents,
    alarm::{self, Raised},
    cache::StampCache,
    change::Change,
    check, lease, member, picture,
    schema::{META, STATE_KEY, State},
    staged::Staged,
    txn,
};

/// Applies entry after entry to writes that nobody sees yet.
pub(crate) struct Run<'s> {
    staged: Staged,
    cache: &'s mut StampCache,
    state: State,
    raised: Raised,
    output: ApplyOutput,
}

/// What a run leaves to be committed and kept.
pub(crate) struct Finished {
    pub batch: Batch,
    pub state: State,
    pub raised: Raised,
    pub output: ApplyOutput,
}

impl<'s> Run<'s> {
    pub(crate) fn new(
        view: Arc<dyn View>,
        cache: &'s mut StampCache,
        state: State,
        raised: Raised,
    ) -> Self {
        Self { staged: Staged::new(view), cache, state, raised, output: ApplyOutput::default() }
    }

    /// Applies the next entry.
    pub(crate) fn entry(&mut self, entry: &Committed<'_>) -> Result<(), Error> {
        let applied = self.state.applied.index;
        if Some(entry.index) != applied.checked_add(1) {
            return Err(Error::Gap { applied, found: entry.index });
        }
        if let Some(command) = entry.command {
            let command = Command::decode(command)?;
            let reply = picture::split(self.command(command))?;
            self.output.replies.push(reply);
        }
        self.state.applied = Applied { index: entry.index, term: entry.term };
        Ok(())
    }

    /// The applied entry travels with the data, so that a log can be replayed exactly from there.
    pub(crate) fn finish(mut self) -> Finished {
        self.staged.put(META, STATE_KEY, self.state.encode());
        Finished {
            batch: self.staged.into_batch(),
            state: self.state,
            raised: self.raised,
            output: self.output,
        }
    }

    fn command(&mut self, command: Command) -> Result<Reply, ReadError> {
        self.admit(&command)?;
        match command {
            Command::Put(request) => self.put(request).map(Reply::Put),
            Command::DeleteRange(request) => {
                self.change(|change| Ok(change.delete_range(&request)?)).map(Reply::DeleteRange)
            }
            Command::Txn(request) => {
                self.change(|change| txn::write(change, request)).map(Reply::Txn)
            }
            Command::Compaction(request) => Ok(self.compact(request).map(Reply::Compaction)?),
            Command::LeaseGrant(request) => self.lease_grant(request).map(Reply::LeaseGrant),
            Command::LeaseRevoke(request) => self.lease_revoke(request).map(Reply::LeaseRevoke),
            Command::LeaseCheckpoint(request) => {
                let changes = lease::checkpoint(&mut self.staged, &request)?;
                self.output.leases.extend(changes);
                Ok(Reply::LeaseCheckpoint(pb::LeaseCheckpointResponse {
                    header: Some(self.header()),
                }))
            }
            Command::Alarm(request) => self.alarm(request).map(Reply::Alarm),
            Command::MemberDirectories(known) => {
                self.output.members_changed |= member::note(&mut self.staged, &known)?;
                Ok(Reply::MemberDirectories)
            }
        }
    }

    /// Whether a command is well formed and no alarm stands against it.
    fn admit(&self, command: &Command) -> Result<(), RequestError> {
        match command {
            Command::Put(request) => {
                check::put(request)?;
                self.raised.refuse_if_corrupt()?;
                self.raised.refuse_if_full()
            }
            Command::DeleteRange(request) => {
                check::delete_range(request)?;
                self.raised.refuse_if_corrupt()
            }
            Command::Txn(request) => {
                check::txn(request, usize::MAX)?;
                self.raised.refuse_if_corrupt()?;
                if check::takes_space(request) { self.raised.refuse_if_full() } else { Ok(()) }
            }
            Command::Compaction(_) | Command::LeaseRevoke(_) => self.raised.refuse_if_corrupt(),
            Command::LeaseGrant(request) => {
                check::lease_grant(request)?;
                self.raised.refuse_if_corrupt()?;
                self.raised.refuse_if_full()
            }
            Command::LeaseCheckpoint(_) | Command::Alarm(_) | Command::MemberDirectories(_) => {
                Ok(())
            }
        }
    }

    /// Makes a change, and counts its revision if it did something.
    fn change<T>(
        &mut self,
        make: impl FnOnce(&mut Change<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut change = Change::new(&mut self.staged, self.cache, &self.state);
        let value = make(&mut change)?;
        let events = change.into_events();
        self.record(events);
        Ok(value)
    }

    fn record(&mut self, events: Vec<Event>) {
        if !events.is_empty() {
            self.state.revision += 1;
            let revision = self.state.revision;
            self.output.revisions.push(Arc::new(RevisionEvents { revision, events }));
        }
    }

    fn put(&mut self, request: pb::PutRequest) -> Result<pb::PutResponse, ReadError> {
        self.change(|change| {
            change.check_put(&request)?;
            Ok(change.put(request)?)
        })
    }

    /// Compacts logically, at once; the data goes later, in `Store::purge` (etcd points 1 and 8).
    fn compact(
        &mut self,
        request: pb::CompactionRequest,
    ) -> Result<pb::CompactionResponse, RequestError> {
        if request.revision <= self.state.compact_revision {
            return Err(RequestError::Compacted);
        }
        if request.revision > self.state.revision {
            return Err(RequestError::FutureRevision);
        }
        self.state.compact_revision = request.revision;
        self.output.compacted = Some(request.revision);
        Ok(pb::CompactionResponse { header: Some(self.header()) })
    }

    fn lease_grant(
        &mut self,
        request: pb::LeaseGrantRequest,
    ) -> Result<pb::LeaseGrantResponse, ReadError> {
        let granted = lease::grant(&mut self.staged, request)?;
        self.output.leases.push(granted);
        let ttl = request.ttl.max(crate::LEASE_TTL_MIN_SECONDS);
        Ok(pb::LeaseGrantResponse {
            header: Some(self.header()),
            id: request.id,
            ttl,
            ..pb::LeaseGrantResponse::default()
        })
    }

    fn lease_revoke(
        &mut self,
        request: pb::LeaseRevokeRequest,
    ) -> Result<pb::LeaseRevokeResponse, ReadError> {
        let keys = lease::take(&mut self.staged, request.id)?;
        self.change(|change| keys.into_iter().try_for_each(|key: Bytes| Ok(change.delete(key)?)))?;
        self.output.leases.push(LeaseChange::Revoked { id: request.id });
        Ok(pb::LeaseRevokeResponse { header: Some(self.header()) })
    }

    fn alarm(&mut self, request: pb::AlarmRequest) -> Result<pb::AlarmResponse, ReadError> {
        let alarms = alarm::apply(&mut self.staged, request)?;
        self.raised = Raised::load(&self.staged)?;
        Ok(pb::AlarmResponse { header: Some(self.header()), alarms })
    }

    fn header(&self) -> pb::ResponseHeader {
        picture::header(self.state.revision)
    }
}
