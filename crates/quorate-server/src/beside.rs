//! Short work that may have to wait, for the disk or for a lock that somebody keeps: a queue, and one job that empties it. Whoever
//! must not wait, as the Raft side, leaves it here.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

use crate::shared::Shared;

/// The most that waits.
const WAITING_MAX: usize = 16_384;

/// Something to do, which is told whether there is room for it: if not, it gives its answer without waiting for anything.
type Act = Box<dyn FnOnce(bool) + Send>;

/// What waits, oldest first.
#[derive(Default)]
pub(crate) struct Beside(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    acts: VecDeque<Act>,
    /// A job empties it, and looks once more before it ends.
    is_served: bool,
}

impl std::fmt::Debug for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Beside").finish_non_exhaustive()
    }
}

impl Beside {
    /// Has it done behind what waits already.
    pub(crate) fn put(shared: &Arc<Shared>, act: Act) {
        let mut queue = shared.beside.0.lock();
        if queue.acts.len() >= WAITING_MAX {
            drop(queue);
            return act(false);
        }
        queue.acts.push_back(act);
        if std::mem::replace(&mut queue.is_served, true) {
            return;
        }
        drop(queue);
        let server = Arc::clone(shared);
        if let Err(error) = shared.jobs.run("beside", Box::new(move || server.beside.empty())) {
            tracing::error!(%error, "nowhere to do what may have to wait");
            shared.beside.refuse();
        }
    }

    /// How much waits.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().acts.len()
    }

    fn empty(&self) {
        let _served = Served(self);
        while let Some(act) = self.next() {
            act(true);
        }
    }

    fn next(&self) -> Option<Act> {
        let mut queue = self.0.lock();
        let act = queue.acts.pop_front();
        queue.is_served = act.is_some();
        act
    }

    fn refuse(&self) {
        let mut queue = self.0.lock();
        queue.is_served = false;
        let acts = std::mem::take(&mut queue.acts);
        drop(queue);
        for act in acts {
            act(false);
        }
    }
}

/// Whoever empties the queue. If that ends in a panic, nobody waits for it any longer.
struct Served<'a>(&'a Beside);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.refuse();
        }
    }
}
