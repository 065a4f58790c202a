//! What the threads of a transport share.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quorate_node::{Admission, MemberCard};
use quorate_raft::NodeId;

use crate::{Config, Lane, Limits, PeerEvent, line::Line, stats::Counters, strangers::Strangers};

/// A pause when the system refuses new connections for want of something, such as file descriptors.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// Takes what comes from a peer.
pub(crate) type Inbox = Box<dyn Fn(NodeId, PeerEvent) + Send + Sync>;

/// Says whether a member with this card may be talked to.
pub(crate) type Door = Box<dyn Fn(NodeId, MemberCard) -> Admission + Send + Sync>;

/// One transport's state.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) peers: BTreeMap<NodeId, Arc<Peer>>,
    pub(crate) stopping: AtomicBool,
    /// Connections from outside that have not said who they are.
    pub(crate) strangers: Strangers,
    door: Door,
    inbox: Inbox,
    began: Instant,
    sockets: Mutex<BTreeMap<u64, TcpStream>>,
    sockets_made: AtomicU64,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

/// One peer: its lanes and counters.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: String,
    pub(crate) counters: Counters,
    urgent: Line,
    bulk: Line,
    /// Its own connections to us, by lane: the newest of each.
    inward: Mutex<BTreeMap<Lane, (u64, TcpStream)>>,
}

impl Peer {
    fn new(address: String, limits: &Limits) -> Self {
        let (urgent, bulk) = (Line::new(limits), Line::new(limits));
        let (counters, inward) = (Counters::default(), Mutex::default());
        Self { address, counters, urgent, bulk, inward }
    }

    /// One of the lanes.
    pub(crate) fn line(&self, lane: Lane) -> &Line {
        match lane {
            Lane::Urgent => &self.urgent,
            Lane::Bulk => &self.bulk,
        }
    }

    /// A connection of its own stands from now on; an older one of that lane is closed: whoever dials again has given it up.
    pub(crate) fn take_in(&self, lane: Lane, number: u64, stream: TcpStream) {
        if let Some((_, older)) = self.inward.lock().insert(lane, (number, stream)) {
            // It may be closed already.
            let _ = older.shutdown(Shutdown::Both);
        }
    }

    /// A connection of its own is gone.
    pub(crate) fn let_go(&self, lane: Lane, number: u64) {
        let mut inward = self.inward.lock();
        if inward.get(&lane).is_some_and(|(newest, _)| *newest == number) {
            inward.remove(&lane);
        }
    }

    /// The peer is there: whoever pauses before dialling it need not.
    pub(crate) fn kick(&self) {
        self.urgent.queue.kick();
        self.bulk.queue.kick();
    }
}

impl Shared {
    pub(crate) fn new(config: Config, door: Door, inbox: Inbox) -> Self {
        let peer = |address: &String| Arc::new(Peer::new(address.clone(), &config.limits));
        let peers = config.peers.iter().map(|(node, address)| (*node, peer(address))).collect();
        Self {
            config,
            peers,
            stopping: AtomicBool::new(false),
            strangers: Strangers::default(),
            door,
            inbox,
            began: Instant::now(),
            sockets: Mutex::default(),
            sockets_made: AtomicU64::new(0),
            threads: Mutex::default(),
        }
    }

    /// Whether a member with this card may be talked to.
    pub(crate) fn admits(&self, node: NodeId, card: MemberCard) -> Admission {
        (self.door)(node, card)
    }

    /// Hands over what came from a peer.
    pub(crate) fn tell(&self, node: NodeId, event: PeerEvent) {
        (self.inbox)(node, event);
    }

    /// Nanoseconds since the transport began; only differences mean anything.
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether a line of the log may tell of a stranger; if so, how many were left out before it.
    pub(crate) fn may_log_stranger(&self) -> Option<u64> {
        let interval_ns = self.config.limits.strangers_logged_every.as_nanos();
        self.strangers.may_log(self.now_ns(), u64::try_from(interval_ns).unwrap_or(u64::MAX))
    }

    pub(crate) fn pause(&self) {
        if !self.stopping.load(SeqCst) {
            thread::sleep(REFUSED_PAUSE);
        }
    }

    /// Makes sure that stopping the transport ends whatever reads or writes `stream`. `None`: it is stopping already.
    pub(crate) fn register(&self, stream: &TcpStream) -> Option<Registration<'_>> {
        let number = self.sockets_made.fetch_add(1, SeqCst);
        let stream = stream.try_clone().ok()?;
        self.sockets.lock().insert(number, stream);
        let registration = Registration { shared: self, number };
        (!self.stopping.load(SeqCst)).then_some(registration)
    }

    /// Runs `work` on a thread that stopping waits for.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: &str,
        work: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(self);
        let handle = thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared))?;
        self.adopt(handle);
        Ok(())
    }

    /// Stopping waits for this thread too.
    pub(crate) fn adopt(&self, handle: JoinHandle<()>) {
        let mut threads = self.threads.lock();
        threads.retain(|thread| !thread.is_finished());
        threads.push(handle);
    }

    /// Ends all connections and pauses; every thread comes to its end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, SeqCst);
        for peer in self.peers.values() {
            for lane in [Lane::Urgent, Lane::Bulk] {
                peer.line(lane).queue.close();
            }
            peer.kick();
        }
        for socket in self.sockets.lock().values() {
            // One that is closed already is as good.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Waits for all threads but the one that asks.
    pub(crate) fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        let me = thread::current().id();
        for handle in threads.into_iter().filter(|handle| handle.thread().id() != me) {
            // A thread that panicked has said so on stderr.
            let _ = handle.join();
        }
    }
}

/// A stream that stopping ends, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Registration<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.shared.sockets.lock().remove(&self.number);
    }
}
