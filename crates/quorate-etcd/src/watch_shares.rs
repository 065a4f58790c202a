//! How much clients hold of watches: what their streams have taken and not yet sent.
//!
//! Who holds much must hold less; who holds little is not to suffer for it. So fullness belongs to a client. It is full when
//! it holds its [share](Shares::is_full), and of what it holds beyond that nothing counts against others. When all together
//! hold as much as they may, whoever would still hold less than an equal part goes on all the same: that adds as much again
//! at most.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use crate::fair::ClientId;

/// Which part of all room one client may have.
const PART_OF_CLIENT: u64 = 4;

/// What all clients hold, in bytes, roughly.
#[derive(Debug)]
pub(crate) struct Shares {
    bytes_max: u64,
    /// What a stream takes at a time.
    taken_bytes: u64,
    held_bytes: AtomicU64,
    /// The same, but of each client no more than it may hold.
    counted_bytes: AtomicU64,
    /// How many clients hold anything.
    holders: AtomicU64,
    clients: Mutex<BTreeMap<ClientId, (Arc<Share>, usize)>>,
}

/// What one client holds, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Share(AtomicU64);

impl Shares {
    pub(crate) fn new(bytes_max: u64, taken_bytes: u64) -> Self {
        Self {
            bytes_max,
            taken_bytes,
            held_bytes: AtomicU64::new(0),
            counted_bytes: AtomicU64::new(0),
            holders: AtomicU64::new(0),
            clients: Mutex::default(),
        }
    }

    /// The same with another bound, for nobody yet.
    pub(crate) fn bounded(&self, bytes_max: u64) -> Self {
        Self::new(bytes_max, self.taken_bytes)
    }

    /// The share of a client, which opens a stream.
    pub(crate) fn open(&self, client: ClientId) -> Arc<Share> {
        let mut clients = self.clients.lock();
        let (share, streams) = clients.entry(client).or_default();
        *streams += 1;
        Arc::clone(share)
    }

    /// A stream of a client is closed.
    pub(crate) fn close(&self, client: ClientId) {
        let mut clients = self.clients.lock();
        if let Some((_, streams)) = clients.get_mut(&client) {
            *streams -= 1;
            if *streams == 0 {
                clients.remove(&client);
            }
        }
    }

    /// What all hold.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Relaxed)
    }

    /// Whether a client should hold less.
    pub(crate) fn is_full(&self, share: &Share) -> bool {
        let own = share.0.load(Relaxed);
        let equal_part = self.bytes_max / (self.holders.load(Relaxed) + 1);
        own >= self.of_client_max()
            || (self.counted_bytes.load(Relaxed) >= self.bytes_max
                && own + self.taken_bytes > equal_part)
    }

    /// What a stream of a client holds changes.
    pub(crate) fn hold(&self, share: &Share, before: usize, now: usize) {
        let (before, now) = (before as u64, now as u64);
        if now >= before {
            let (old, more) = (share.0.fetch_add(now - before, Relaxed), now - before);
            self.held_bytes.fetch_add(more, Relaxed);
            self.changes(old, old + more);
        } else {
            let (old, less) = (share.0.fetch_sub(before - now, Relaxed), before - now);
            self.held_bytes.fetch_sub(less, Relaxed);
            self.changes(old, old.saturating_sub(less));
        }
    }

    fn changes(&self, old: u64, new: u64) {
        let most = self.of_client_max();
        self.counted_bytes.fetch_add(new.min(most), Relaxed);
        self.counted_bytes.fetch_sub(old.min(most), Relaxed);
        if old == 0 && new > 0 {
            self.holders.fetch_add(1, Relaxed);
        }
        if old > 0 && new == 0 {
            self.holders.fetch_sub(1, Relaxed);
        }
    }

    fn of_client_max(&self) -> u64 {
        self.bytes_max / PART_OF_CLIENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_much_is_full_alone() {
        let shares = Shares::new(4_000, 100);
        let (greedy, modest) = (shares.open(1), shares.open(2));
        shares.hold(&greedy, 0, 1_000_000);
        assert!(shares.is_full(&greedy));
        assert!(!shares.is_full(&modest));
        shares.hold(&modest, 0, 999);
        assert!(!shares.is_full(&modest));
        shares.hold(&greedy, 1_000_000, 999);
        assert!(!shares.is_full(&greedy));
        assert_eq!((shares.held_bytes(), shares.counted_bytes.load(Relaxed)), (1_998, 1_998));
    }

    #[test]
    fn when_all_is_taken_an_equal_part_is_left_to_who_holds_little() {
        let shares = Shares::new(4_000, 100);
        let greedy: Vec<_> = (0..9).map(|client| shares.open(client)).collect();
        for share in &greedy {
            shares.hold(share, 0, 900);
        }
        let modest = shares.open(9);
        assert!(greedy.iter().all(|share| shares.is_full(share)), "none has its part of all");
        assert!(!shares.is_full(&modest), "400 for each of ten");
        shares.hold(&modest, 0, 350);
        assert!(shares.is_full(&modest));
        for share in &greedy {
            shares.hold(share, 900, 0);
        }
        assert!(!shares.is_full(&modest));
        assert_eq!(shares.holders.load(Relaxed), 1);
        shares.hold(&modest, 350, 0);
        (0..10).for_each(|client| shares.close(client));
        assert_eq!((shares.held_bytes(), shares.counted_bytes.load(Relaxed)), (0, 0));
        assert!(shares.clients.lock().is_empty() && shares.holders.load(Relaxed) == 0);
    }

    #[test]
    fn streams_of_one_client_share() {
        let shares = Shares::new(4_000, 100);
        let (one, other) = (shares.open(1), shares.open(1));
        shares.hold(&one, 0, 1_000);
        assert!(shares.is_full(&other));
        shares.close(1);
        shares.hold(&one, 1_000, 0);
        assert!(!shares.is_full(&shares.open(1)));
    }
}
