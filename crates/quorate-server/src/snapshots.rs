//! Snapshots between members: a follower that lacks what the leader's log has dropped gets the whole state.
//!
//! The leader's node orders a snapshot; chunks of a view of the state are read and sent beside it, as many ahead of what the
//! follower has acknowledged as the link carries. The follower writes them to a file; when the last one is durable its node decides, and
//! if it wants the snapshot the apply thread installs it. A transfer that makes no progress is given up; the node orders a
//! new one if it is still needed.
//!
//! Nobody who has something else to do waits for a state to be read: acknowledgements come on the lane of heartbeats and votes.
//! So a job reads, without a lock, and what is read is kept until it is acknowledged ([`Sending`]).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_node::{NodeEvent, PeerMessage, SnapshotOrder, SnapshotProgress};
use quorate_raft::{Mono, NodeId, SnapshotMeta, Term};
use quorate_storage::{
    StateDir,
    snapshot::{IncomingSnapshot, SnapshotWriter},
};

use crate::{
    bugs::Bug,
    receiving::Incoming,
    sending::{Going, Outcome, Sending},
    shared::{GROUP, RaftInput, Shared},
};

/// After this long without progress a transfer is given up.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(40);

/// The transfers of this server, in both directions.
#[derive(Debug)]
pub(crate) struct Snapshots {
    dir: StateDir,
    transfers: AtomicU64,
    outgoing: Mutex<BTreeMap<u64, Sending>>,
    incoming: Mutex<Incoming>,
    /// What is ready and the node does not want. Never locked while the disk is used, as `incoming` is.
    unwanted: Mutex<Option<SnapshotMeta>>,
}

/// A chunk as it came from a peer.
#[derive(Debug)]
pub(crate) struct ReceivedChunk {
    pub(crate) from: NodeId,
    pub(crate) term: Term,
    pub(crate) transfer: u64,
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) number: u64,
    pub(crate) data: Bytes,
}

impl Snapshots {
    /// `first_transfer` is drawn at random: numbers of an earlier run mean nothing here.
    pub(crate) fn new(dir: StateDir, first_transfer: u64) -> Self {
        Self {
            dir,
            transfers: AtomicU64::new(first_transfer),
            outgoing: Mutex::default(),
            incoming: Mutex::default(),
            unwanted: Mutex::default(),
        }
    }

    /// The directory of the state.
    pub(crate) fn dir(&self) -> &StateDir {
        &self.dir
    }

    /// How many are under way to others.
    pub(crate) fn sending(shared: &Shared) -> usize {
        shared.snapshots.outgoing.lock().len()
    }

    /// Whether the transfers to others are looked at by somebody at this moment.
    #[cfg(test)]
    pub(crate) fn are_busy(&self) -> bool {
        self.outgoing.is_locked()
    }

    /// Whether one comes in, or is here and not installed.
    pub(crate) fn is_receiving(&self) -> bool {
        !matches!(&*self.incoming.lock(), Incoming::Nothing)
    }

    /// Begins to send a snapshot of the newest state; the node hears how it went.
    pub(crate) fn send(shared: &Arc<Shared>, order: SnapshotOrder) {
        let server = Arc::clone(shared);
        if let Err(error) = shared.jobs.run("snapshot", Box::new(move || begin(&server, order))) {
            tracing::error!(%error, "nowhere to send a snapshot from");
            tell_sent(shared, order.to, None);
        }
    }

    /// A transfer is under way from now on, and no earlier one to its receiver: the node has forgotten the order of that one, and
    /// would take how it ended for the end of this one. So nobody is told. Orders of several terms may begin in any order; says
    /// whether this one is the newest.
    pub(crate) fn push(&self, transfer: u64, sending: Sending) -> bool {
        let mut outgoing = self.outgoing.lock();
        let SnapshotOrder { to, term, .. } = sending.order;
        let mut others = outgoing.values().map(|other| &other.order);
        if others.any(|other| other.to == to && other.term > term) {
            return false;
        }
        outgoing.retain(|_, other| other.order.to != to);
        outgoing.insert(transfer, sending);
        true
    }

    /// A receiver tells how far it is. Waits for nothing.
    pub(crate) fn take_ack(
        shared: &Arc<Shared>,
        from: NodeId,
        transfer: u64,
        progress: SnapshotProgress,
    ) {
        Self::go_on(shared, transfer, |sending| {
            if sending.order.to == from {
                sending.take_ack(shared, progress)
            } else {
                Ok(Going::On)
            }
        });
    }

    /// Looks after the transfers under way.
    pub(crate) fn tick(shared: &Arc<Shared>) {
        if shared.snapshots.unwanted.lock().is_some() {
            Self::remove_beside(shared);
        }
        if shared.snapshots.is_silent(shared.clock.now()) {
            Self::give_up_beside(shared);
        }
        let transfers: Vec<u64> = shared.snapshots.outgoing.lock().keys().copied().collect();
        for transfer in transfers {
            Self::go_on(shared, transfer, |sending| sending.tick(shared));
        }
    }

    /// Goes on with a transfer, and has a job read what it lacks.
    pub(crate) fn go_on(
        shared: &Arc<Shared>,
        transfer: u64,
        act: impl FnOnce(&mut Sending) -> Outcome,
    ) {
        let Some(source) = Self::step(shared, transfer, act) else { return };
        if shared.makes(Bug::ChunksReadAtOnce) {
            return read_ahead(shared, transfer, source);
        }
        let server = Arc::clone(shared);
        let job = move || read_ahead(&server, transfer, source);
        if let Err(error) = shared.jobs.run("chunks", Box::new(job)) {
            Self::step(shared, transfer, |_| Err(error.into()));
        }
    }

    /// Goes on with a transfer, if it is still there. Nobody else does meanwhile, so this waits for nothing. What is answered is
    /// to be read from, and then given back.
    fn step(
        shared: &Shared,
        transfer: u64,
        act: impl FnOnce(&mut Sending) -> Outcome,
    ) -> Option<SnapshotWriter> {
        let mut outgoing = shared.snapshots.outgoing.lock();
        let sending = outgoing.get_mut(&transfer)?;
        let outcome = act(sending);
        let (to, snapshot) = (sending.order.to, sending.snapshot.clone());
        match outcome {
            Ok(Going::On) => return sending.lend(),
            Ok(Going::Done) => tell_sent(shared, to, Some(snapshot)),
            Err(error) => {
                tracing::warn!(to = format!("{:x}", to.0), %error, "a snapshot was not sent");
                tell_sent(shared, to, None);
            }
        }
        let ended = outgoing.remove(&transfer);
        drop(outgoing);
        // The state that it held is let go without the lock.
        drop(ended);
        None
    }

    /// A chunk came; blocks while it is written.
    pub(crate) fn take_chunk(shared: &Shared, chunk: &ReceivedChunk) {
        let (from, transfer) = (chunk.from, chunk.transfer);
        let Self { incoming, dir, .. } = &shared.snapshots;
        let accepted = incoming.lock().accept(shared, dir, chunk).unwrap_or_else(|error| {
            tracing::warn!(from = format!("{:x}", from.0), %error, "a snapshot can't be received");
            Some(SnapshotProgress::Refused)
        });
        let Some(progress) = accepted else { return };
        if progress == SnapshotProgress::Done {
            let (term, snapshot) = (chunk.term, chunk.snapshot.clone());
            tracing::info!(from = format!("{:x}", from.0), last = %snapshot.last, "received a snapshot");
            let event = NodeEvent::SnapshotReceived { group: GROUP, from, term, snapshot };
            shared.raft.put(RaftInput::Event(event));
        }
        shared.send(from, PeerMessage::SnapshotAck { group: GROUP, transfer, progress });
    }

    /// The node doesn't want this one, which is ready. Others are refused until it is removed; nobody waits for that here.
    pub(crate) fn discard(shared: &Arc<Shared>, unwanted: SnapshotMeta) {
        *shared.snapshots.unwanted.lock() = Some(unwanted);
        Self::remove_beside(shared);
    }

    fn remove_beside(shared: &Arc<Shared>) {
        let server = Arc::clone(shared);
        let remove = move || server.snapshots.remove_unwanted(&server);
        if let Err(error) = shared.jobs.run("discard", Box::new(remove)) {
            tracing::warn!(%error, "a snapshot that nobody wants is removed a little later");
        }
    }

    /// Removes what is not wanted, if it is still there.
    fn remove_unwanted(&self, shared: &Shared) {
        let Some(unwanted) = self.unwanted.lock().take() else { return };
        let mut incoming = self.incoming.lock();
        if !matches!(&*incoming, Incoming::Ready { snapshot, .. } if *snapshot == unwanted) {
            return;
        }
        if shared.makes(Bug::UnwantedKept) {
            *incoming = Incoming::Nothing;
        }
        incoming.discard();
    }

    /// Whether the sender has said nothing for so long that it has given up, or is gone. While a chunk is being written, which
    /// may take as long as the disk does, it is not silent.
    fn is_silent(&self, now: Mono) -> bool {
        self.incoming.try_lock().is_some_and(|incoming| incoming.is_silent(now))
    }

    /// Gives up what a silent sender sent.
    fn give_up_beside(shared: &Arc<Shared>) {
        let server = Arc::clone(shared);
        let give_up = move || {
            let mut incoming = server.snapshots.incoming.lock();
            if incoming.is_silent(server.clock.now()) {
                incoming.discard();
            }
        };
        if let Err(error) = shared.jobs.run("discard", Box::new(give_up)) {
            tracing::warn!(%error, "a snapshot that nobody sends any more is removed a little later");
        }
    }

    /// Takes the snapshot that the node wants installed. Others are refused until [`Snapshots::installed`].
    ///
    /// # Errors
    /// It is not there: a mistake of ours.
    pub(crate) fn take_ready(&self, wanted: &SnapshotMeta) -> anyhow::Result<IncomingSnapshot> {
        let found = std::mem::replace(&mut *self.incoming.lock(), Incoming::Installing);
        if let Incoming::Ready { snapshot, file } = found
            && snapshot == *wanted
        {
            return Ok(file);
        }
        anyhow::bail!("snapshot {} is to be installed, but it is not there", wanted.last)
    }

    /// The file that was taken is not needed any more.
    pub(crate) fn installed(&self) {
        *self.incoming.lock() = Incoming::Nothing;
    }
}

fn begin(shared: &Shared, order: SnapshotOrder) {
    let transfer = shared.snapshots.transfers.fetch_add(1, Relaxed);
    let to = format!("{:x}", order.to.0);
    let sending = match Sending::new(shared, order, transfer) {
        Ok(sending) => sending,
        Err(error) => {
            tracing::error!(to, %error, "a snapshot can't be begun");
            return tell_sent(shared, order.to, None);
        }
    };
    let last = sending.snapshot.last;
    if shared.snapshots.push(transfer, sending) {
        tracing::info!(to, %last, "sending a snapshot");
        if let Some(source) = Snapshots::step(shared, transfer, |_| Ok(Going::On)) {
            read_ahead(shared, transfer, source);
        }
    }
}

/// Reads chunks for as long as the transfer lacks some, and no lock is held meanwhile. A transfer that has ended takes no more:
/// the state is let go then.
fn read_ahead(shared: &Shared, transfer: u64, source: SnapshotWriter) {
    let mut next = Some(source);
    while let Some(mut source) = next {
        let read = source.next_chunk();
        next = Snapshots::step(shared, transfer, |sending| sending.take_read(shared, source, read));
    }
}

fn tell_sent(shared: &Shared, to: NodeId, snapshot: Option<SnapshotMeta>) {
    let event = NodeEvent::SnapshotSent { group: GROUP, to, snapshot };
    shared.raft.put(RaftInput::Event(event));
}

#[cfg(test)]
mod tests {
    use quorate_storage::vfs::MemoryVfs;

    use super::*;
    use crate::{ServerConfig, testing};

    const FOLLOWER: NodeId = NodeId(2);

    fn order(to: NodeId, term: u64) -> SnapshotOrder {
        SnapshotOrder { group: GROUP, to, term: Term(term) }
    }

    fn server() -> Arc<Shared> {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let server = testing::started(&vfs, &now, ServerConfig::default());
        Arc::clone(&server.handle.0)
    }

    fn under_way(shared: &Shared) -> Vec<(NodeId, u64)> {
        let outgoing = shared.snapshots.outgoing.lock();
        outgoing.values().map(|sending| (sending.order.to, sending.order.term.0)).collect()
    }

    /// A leader that lost and won an election went on with what it had sent before: the receiver refused it, and the node took
    /// that for the end of the one it had ordered since.
    #[test]
    fn a_new_transfer_takes_the_place_of_an_older_one_and_is_not_ended_with_it() {
        let shared = server();
        begin(&shared, order(FOLLOWER, 1));
        begin(&shared, order(NodeId(3), 1));
        let older = *shared.snapshots.outgoing.lock().keys().next().unwrap();
        begin(&shared, order(FOLLOWER, 3));
        assert_eq!(under_way(&shared), [(NodeId(3), 1), (FOLLOWER, 3)]);
        begin(&shared, order(FOLLOWER, 2));
        assert_eq!(under_way(&shared), [(NodeId(3), 1), (FOLLOWER, 3)], "of an earlier term");
        let told = shared.raft.len();
        Snapshots::take_ack(&shared, FOLLOWER, older, SnapshotProgress::Refused);
        assert_eq!(shared.raft.len(), told, "nobody ordered it any more");
        let newer = *shared.snapshots.outgoing.lock().keys().last().unwrap();
        Snapshots::take_ack(&shared, FOLLOWER, newer, SnapshotProgress::Refused);
        assert_eq!((under_way(&shared), shared.raft.len()), (vec![(NodeId(3), 1)], told + 1));
    }
}
