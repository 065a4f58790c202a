//! A member alone, whose sides and whose time move by hand.

use std::time::Duration;

use quorate_fuzz::by_hand::{Member, WorldClock};
use quorate_server::{Handle, ServerConfig};

/// How far a turn moves time.
const TURN: Duration = Duration::from_millis(1);
/// How far turns move it until the member leads itself.
const ELECTION_TURN: Duration = Duration::from_millis(200);
/// How often tasks are polled in a turn.
const POLLS: usize = 4;

/// The member and its time.
pub(crate) struct World {
    member: Member,
    clock: WorldClock,
}

impl World {
    /// A member that leads.
    pub(crate) fn start() -> Self {
        let clock = WorldClock::default();
        let member = Member::start(ServerConfig::default(), &clock, 7);
        let mut world = Self { member, clock };
        for _ in 0..30 {
            world.work(ELECTION_TURN);
        }
        world
    }

    pub(crate) fn handle(&self) -> Handle {
        self.member.handle().clone()
    }

    /// An error of a side ends a server, so there must be none.
    fn work(&mut self, passed: Duration) {
        self.clock.advance(passed);
        self.member.work().expect("the member goes on");
    }

    /// Some turns, in which the tasks are polled, too.
    pub(crate) async fn run(&mut self, turns: usize) {
        self.run_until(turns, || false).await;
    }

    /// The same, until something has happened.
    pub(crate) async fn run_until(&mut self, turns_max: usize, happened: impl Fn() -> bool) {
        for _ in 0..turns_max {
            if happened() {
                return;
            }
            self.work(TURN);
            tokio::time::advance(TURN).await;
            for _ in 0..POLLS {
                tokio::task::yield_now().await;
            }
        }
    }
}
