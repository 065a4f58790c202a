//! Streams that show an old state to a client for as long as it takes to take them.
//!
//! A state that somebody reads keeps the space of everything that was deleted or overwritten since: the file of the state grows
//! by it. A client that takes a little now and then, or nothing, would keep it for ever. So each such stream is known here by
//! what the file was when it began, and a server whose file has grown too large [takes back](OpenViews::take_back) every
//! stream that is older than the growth. Those that began since keep nothing that made it grow.
//!
//! Left out: reads that a server does at its own pace. They end by themselves.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

/// A stream whose state can be taken away.
pub(crate) trait HoldsView: Send + Sync {
    /// Lets the state go; the client hears why when it asks for more. Whether it did: there may be none left, and while it is
    /// being read, which may take as long as the disk does, nobody waits for it. Whoever still wants it back asks again.
    fn let_go(&self) -> bool;
}

/// All streams of a server that show an old state.
#[derive(Default)]
pub struct OpenViews(Mutex<Open>);

#[derive(Default)]
struct Open {
    next: u64,
    streams: BTreeMap<u64, OpenView>,
}

struct OpenView {
    /// What the file of the state was when the stream began, in bytes.
    file_bytes: u64,
    holder: Weak<dyn HoldsView>,
}

impl OpenViews {
    /// Takes back every stream that began before the file grew to `file_bytes`, but for those that are being read just now. How
    /// many there were.
    pub fn take_back(&self, file_bytes: u64) -> usize {
        let open = self.0.lock();
        let older = open.streams.values().filter(|view| view.file_bytes < file_bytes);
        let holders: Vec<_> = older.filter_map(|view| view.holder.upgrade()).collect();
        drop(open);
        // Without the lock: whoever is let go may be on its way out of here.
        holders.iter().filter(|holder| holder.let_go()).count()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().streams.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes a stream that began when the file had this size, until what is given back is dropped.
    pub(crate) fn note(
        self: &Arc<Self>,
        file_bytes: u64,
        holder: Weak<dyn HoldsView>,
    ) -> NotedView {
        let mut open = self.0.lock();
        let number = open.next;
        open.next += 1;
        open.streams.insert(number, OpenView { file_bytes, holder });
        NotedView { views: Arc::clone(self), number }
    }
}

impl fmt::Debug for OpenViews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenViews").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A stream's entry. Dropping it takes it out.
#[derive(Debug)]
pub(crate) struct NotedView {
    views: Arc<OpenViews>,
    number: u64,
}

impl Drop for NotedView {
    fn drop(&mut self) {
        self.views.0.lock().streams.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use super::*;

    #[derive(Default)]
    struct Holder(AtomicBool);

    impl HoldsView for Holder {
        fn let_go(&self) -> bool {
            !self.0.swap(true, SeqCst)
        }
    }

    #[test]
    fn whoever_is_older_than_the_growth_is_taken_back() {
        let views = Arc::<OpenViews>::default();
        let holders = [50, 100, 200].map(|bytes| {
            let holder = Arc::new(Holder::default());
            let as_view: Weak<dyn HoldsView> = Arc::downgrade(&holder) as _;
            (views.note(bytes, as_view), holder)
        });
        let gone = || holders.each_ref().map(|(_, holder)| holder.0.load(SeqCst));
        assert_eq!((views.take_back(100), gone()), (1, [true, false, false]));
        assert_eq!((views.take_back(100), gone()), (0, [true, false, false]), "once");
        assert_eq!((views.take_back(201), gone()), (2, [true; 3]));
        let late = views.note(7, Weak::<Holder>::new());
        assert_eq!(views.len(), 4, "until each is dropped");
        drop((late, holders));
        assert!(views.is_empty());
    }
}
