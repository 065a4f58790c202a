//! What a server holds at a moment for clients and peers. When nobody wants anything and everything is well, all of it is nothing;
//! what stays was forgotten.

use crate::{ApplyLoop, Handle, RaftLoop, snapshots::Snapshots};

/// A kind of thing and how many of them are held.
pub type Held = (&'static str, usize);

impl Handle {
    /// What the sides share.
    pub fn held(&self) -> Vec<Held> {
        let shared = &self.0;
        let watches = shared.watches.stats();
        vec![
            ("waiting proposals", shared.pending.len()),
            ("calls of the leader", shared.calls.len()),
            ("calls that wait beside", shared.beside.len()),
            ("inputs of the Raft side", shared.raft.len()),
            ("inputs of the apply side", shared.apply.len()),
            ("snapshots being sent", Snapshots::sending(shared)),
            ("snapshots being received", usize::from(shared.snapshots.is_receiving())),
            ("old states shown to clients", shared.views.len()),
            ("watch streams", watches.streams),
            ("watchers", watches.watchers),
        ]
    }
}

impl RaftLoop {
    /// What the Raft side has taken in and not answered.
    pub fn held(&self) -> Vec<Held> {
        vec![
            ("waiting reads", self.reads_waiting()),
            ("installations", usize::from(self.is_installing())),
        ]
    }
}

impl ApplyLoop {
    /// What the apply side has taken in and not answered.
    pub fn held(&self) -> Vec<Held> {
        vec![("waits for a purge", self.purges_waiting())]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    };

    use quorate_kv::{Command, TABLES};
    use quorate_node::{RoleChange, Scope};
    use quorate_proto::etcdserverpb::PutRequest;
    use quorate_raft::{EntryId, Index, Mono, NodeId, Role, SnapshotMeta, Term};
    use quorate_storage::{snapshot::SnapshotWriter, vfs::MemoryVfs};

    use super::Snapshots;
    use crate::{
        ServerConfig,
        clock::nanoseconds,
        pending::Waiter,
        receiving,
        shared::{GROUP, Shared},
        slot::Slot,
        snapshots::{GIVE_UP_AFTER, ReceivedChunk},
        testing,
    };

    /// The first chunk of a transfer by the leader, of as many bytes.
    fn first_chunk(shared: &Shared, transfer: u64, bytes: usize) -> ReceivedChunk {
        let view = Arc::clone(shared.reader.load().view());
        let head = receiving::head(EntryId { term: Term(1), index: Index(9) }, 0);
        let mut writer = SnapshotWriter::new(view, TABLES.to_vec(), head, (bytes, 7));
        let last = EntryId { term: Term(1), index: Index(9) };
        let (role, from, term) = (Role::Follower, NodeId(2), Term(1));
        let change = RoleChange { group: GROUP, role, term, leader: Some(from) };
        shared.standing.set_role(Mono(1), &change);
        ReceivedChunk {
            from,
            term,
            transfer,
            snapshot: SnapshotMeta { last, membership: shared.identity.membership() },
            number: 0,
            data: writer.next_chunk().unwrap().unwrap().bytes,
        }
    }

    /// The next transfer once began the file anew that was being installed, and the member ended: "the file ends inside a chunk".
    #[test]
    fn a_file_that_is_being_installed_is_left_alone() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let server = testing::started(&vfs, &now, ServerConfig::default());
        let shared = &server.handle.0;
        let file = || vfs.files().into_iter().find(|(path, _)| path.ends_with("snapshot.incoming"));
        let whole = first_chunk(shared, 5, 1 << 20);
        Snapshots::take_chunk(shared, &whole);
        let before = file();
        let _taken = shared.snapshots.take_ready(&whole.snapshot).unwrap();
        Snapshots::take_chunk(shared, &first_chunk(shared, 6, 16));
        assert_eq!(file(), before);
        shared.snapshots.installed();
        Snapshots::take_chunk(shared, &first_chunk(shared, 7, 16));
        assert_ne!(file(), before, "the next one is welcome");
    }

    /// The Raft side once removed it itself, however long the disk took.
    #[test]
    fn a_snapshot_that_nobody_wants_is_removed_beside() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let jobs = Arc::default();
        let mut server = testing::started_with_jobs(&vfs, &now, &jobs);
        let is_there = || vfs.files().iter().any(|(path, _)| path.ends_with("snapshot.incoming"));
        while server.raft.is_ready() || server.log.is_ready() {
            server.turn().unwrap();
        }
        let shared = Arc::clone(&server.handle.0);
        Snapshots::take_chunk(&shared, &first_chunk(&shared, 5, 1 << 20));
        let calls = vfs.counts();
        server.raft.round().unwrap();
        assert_eq!(vfs.counts(), calls);
        assert!(
            shared.snapshots.is_receiving() && is_there(),
            "others are refused until it is gone"
        );
        jobs.begin();
        assert!(!shared.snapshots.is_receiving() && !is_there());
    }

    /// Half a snapshot and its file once stayed until the next one came.
    #[test]
    fn half_a_snapshot_goes_when_its_sender_falls_silent() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let mut server = testing::started(&vfs, &now, ServerConfig::default());
        let is_there = || vfs.files().iter().any(|(path, _)| path.ends_with("snapshot.incoming"));
        let shared = &server.handle.0;
        let chunk = first_chunk(shared, 5, 16);
        Snapshots::take_chunk(shared, &chunk);
        server.keeper.tick();
        assert!(server.handle.0.snapshots.is_receiving() && is_there());
        now.fetch_add(nanoseconds(GIVE_UP_AFTER), SeqCst);
        server.keeper.tick();
        assert!(!server.handle.0.snapshots.is_receiving() && !is_there());
    }

    /// What is held shows while it is held, and is gone with its answer.
    #[test]
    fn a_proposal_is_held_until_it_is_answered() {
        let (vfs, now) = (Arc::new(MemoryVfs::new()), Arc::new(AtomicU64::new(1)));
        let mut server = testing::started(&vfs, &now, ServerConfig::default());
        let held = |server: &crate::Started| {
            let all = [server.handle.held(), server.raft.held(), server.apply.held()].concat();
            all.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>()
        };
        testing::run_until(&mut server, &now, |server| {
            server.raft.view().is_some_and(|view| view.role == Role::Leader)
        });
        testing::run_until(&mut server, &now, |server| held(server).is_empty());
        let request = PutRequest { key: "k".into(), ..PutRequest::default() };
        let waiter = Waiter::Task(Slot::here());
        server.handle.0.propose(&Command::Put(request), Scope::Anywhere, Some(waiter));
        assert_eq!(held(&server), [("waiting proposals", 1), ("inputs of the Raft side", 1)]);
        testing::run_until(&mut server, &now, |server| held(server).is_empty());
    }
}
