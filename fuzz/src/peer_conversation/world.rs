//! Two members that mean well, and the place of a third one.

use std::{
    collections::BTreeMap,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use quorate_etcd::{Front, Settings, handle::kv};
use quorate_fuzz::by_hand::{Member, WorldClock};
use quorate_node::PeerMessage;
use quorate_proto::etcdserverpb::PutRequest;
use quorate_raft::NodeId;
use quorate_server::{Identity, ServerConfig};

/// How far a turn moves time.
const TURN: Duration = Duration::from_millis(10);
/// Turns until the two have elected one of them.
const ELECTION_TURNS: usize = 1000;
/// Turns until a put is committed when all is well: half a minute, which is several elections.
const PUT_TURNS_MAX: usize = 3000;

/// The two members, which hear each other at once.
pub(crate) struct World {
    clock: WorldClock,
    members: [Member; 2],
    stranger: NodeId,
    /// What they said to the third one.
    heard: Vec<(usize, PeerMessage)>,
}

impl World {
    /// Two members of three, of which one leads.
    pub(crate) fn start() -> Self {
        let clock = WorldClock::default();
        let [first, second, third] = ["m0", "m1", "m2"].map(config);
        let stranger = Identity::of(&third).expect("a cluster").me;
        let members = [Member::start(first, &clock, 7), Member::start(second, &clock, 8)];
        let mut world = Self { clock, members, stranger, heard: Vec::new() };
        let cards = world.members.each_ref().map(|one| (one.id, one.handle().card()));
        for member in &world.members {
            for (peer, card) in cards.into_iter().filter(|(peer, _)| *peer != member.id) {
                let _ = member.handle().admits(peer, card);
                member.handle().peer_connected(peer);
                member.handle().introduce(peer);
            }
        }
        world.connect(0, true);
        world.connect(1, true);
        for _ in 0..ELECTION_TURNS {
            world.turn().expect("nobody has said anything");
            if world.members.iter().all(|one| one.handle().serves()) {
                return world;
            }
        }
        panic!("two members of three don't get ready");
    }

    /// What the third member has heard.
    pub(crate) fn heard(&mut self) -> Vec<(usize, PeerMessage)> {
        std::mem::take(&mut self.heard)
    }

    /// The third member says something.
    pub(crate) fn say(&self, to: usize, message: PeerMessage) {
        self.members[to].handle().take_peer_message(self.stranger, message);
    }

    /// The third member's connection comes or goes.
    pub(crate) fn connect(&self, with: usize, is_up: bool) {
        let handle = self.members[with].handle();
        if is_up {
            handle.peer_connected(self.stranger);
            handle.introduce(self.stranger);
        } else {
            handle.peer_disconnected(self.stranger);
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// A member ended.
    pub(crate) fn run(&mut self, milliseconds: u64) -> anyhow::Result<()> {
        (0..milliseconds.div_ceil(10)).try_for_each(|_| self.turn())
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        self.clock.advance(TURN);
        for number in [0, 1] {
            self.members[number].work()?;
            let from = self.members[number].id;
            for (to, message) in self.members[number].sent() {
                match self.members.iter().find(|one| one.id == to) {
                    Some(member) => member.handle().take_peer_message(from, message),
                    None => self.heard.push((number, message)),
                }
            }
        }
        Ok(())
    }

    /// The third member is silent now, so that the others agree on something.
    pub(crate) fn commit_a_put(&mut self) {
        let front =
            Front::new(self.members[0].handle().clone(), Settings::default(), <_>::default());
        for _ in 0..PUT_TURNS_MAX {
            let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
            let mut put = pin!(kv::put(&front, put));
            let mut cx = Context::from_waker(Waker::noop());
            for _ in 0..PUT_TURNS_MAX {
                match put.as_mut().poll(&mut cx) {
                    Poll::Ready(Ok(_)) => return,
                    Poll::Ready(Err(_)) => break,
                    Poll::Pending => self.turn().expect("what is silent ends nobody"),
                }
            }
            self.turn().expect("what is silent ends nobody");
        }
        panic!("no put is committed though nobody speaks any more");
    }
}

fn config(name: &str) -> ServerConfig {
    let url = |name: &str| (name.to_owned(), vec![format!("http://{name}:2380")]);
    let initial_cluster: BTreeMap<_, _> = ["m0", "m1", "m2"].map(url).into();
    ServerConfig {
        name: name.to_owned(),
        data_dir: "data".into(),
        initial_cluster,
        ..ServerConfig::default()
    }
}
