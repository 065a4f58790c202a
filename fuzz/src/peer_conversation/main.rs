//! Whatever a member says to two others: neither panics, and the memory of both stays bounded. If it only says what a
//! member may that doesn't lead (anything, true or not, but for votes and acknowledgements of entries, on which Raft
//! rests), then both go on, and as soon as it is silent a put commits.
//!
//! Memory is bounded from outside, by libFuzzer's `-rss_limit_mb`.
#![no_main]

mod said;
mod world;

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

use self::{
    said::{Said, Seen},
    world::World,
};

/// Steps of a conversation.
const STEPS_MAX: usize = 400;

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let liar = input.arbitrary().unwrap_or(false);
    let mut world = World::start();
    let mut seen = Seen::default();
    for _ in 0..STEPS_MAX {
        seen.take(world.heard());
        // Running out of input ends the conversation.
        let Ok(step) = said::step(&mut input, &mut seen, liar) else { break };
        let went_on = match step {
            Said::Nothing { milliseconds } => world.run(milliseconds),
            Said::Message { to, message } => {
                world.say(to, message);
                Ok(())
            }
            Said::Connection { with, is_up } => {
                world.connect(with, is_up);
                Ok(())
            }
        };
        if let Err(error) = went_on {
            assert!(liar, "a member that lies about nothing ended another one: {error:#}");
            return;
        }
    }
    if !liar {
        world.commit_a_put();
    }
});
