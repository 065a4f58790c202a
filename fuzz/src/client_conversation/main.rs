//! Whatever a client says on a connection: the server behind goes on, another client is answered in time, and when the
//! connection ends nothing is left of it.
//!
//! A whole member on a disk in memory, and its front door as it ships; only sockets and threads are missing. Time is
//! moved by hand. Memory is bounded from outside, by libFuzzer's `-rss_limit_mb`.
#![no_main]

mod frames;
mod said;
mod world;

use std::sync::Arc;

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use quorate_etcd::{Front, Settings, backend::Backend, serve::converse};
use quorate_server::Handle;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split},
    runtime::Builder,
    task::JoinHandle,
};

use self::world::World;

/// Turns of the world until something must have happened: seconds, where it takes some milliseconds.
const TURNS_MAX: usize = 3000;
/// Turns in which the stranger is alone with the server: more than enough to say all that one input can hold.
const TURNS_WITH_STRANGER: usize = 300;
/// What lies between a client and the server.
const PIPE_BYTES: usize = 64 * 1024;

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let deaf = input.arbitrary().unwrap_or(false);
    // Running out of input ends the conversation.
    let said = said::conversation(&mut input);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without sockets");
    runtime.block_on(hold(said, deaf));
    // A snapshot's reader may still wait for a client that has gone.
    runtime.shutdown_background();
});

/// Holds a conversation beside an honest one.
async fn hold(said: Vec<u8>, deaf: bool) {
    let mut world = World::start();
    let settings = Settings { max_request_bytes: 64 * 1024, ..Settings::default() };
    let handle = world.handle();
    let front = Arc::new(Front::new(handle.clone(), settings, Arc::default()));
    let (stranger, serving) = connect(&front);
    let talking = tokio::spawn(talk(stranger, said, deaf));
    world.run(TURNS_WITH_STRANGER).await;
    let (honest, served) = connect(&front);
    let answered = tokio::spawn(ask(honest));
    world.run_until(TURNS_MAX, || answered.is_finished()).await;
    assert!(answered.is_finished(), "an honest client was not answered");
    assert!(answered.await.expect("no panic"), "an honest client was refused");
    talking.abort();
    let gone = || {
        let left = handle.watches().stats();
        serving.is_finished() && served.is_finished() && (left.streams, left.watchers) == (0, 0)
    };
    world.run_until(TURNS_MAX, gone).await;
    assert!(gone(), "something is left of a connection that has ended");
}

/// A connection, and the task that serves it.
fn connect(front: &Arc<Front<Handle>>) -> (DuplexStream, JoinHandle<()>) {
    let (client, server) = duplex(PIPE_BYTES);
    (client, tokio::spawn(converse(Arc::clone(front), server)))
}

/// Says it all, and listens unless it is deaf. Stays on the line until it is aborted.
async fn talk(stream: DuplexStream, said: Vec<u8>, deaf: bool) {
    let (mut reader, mut writer) = split(stream);
    let mut speaking = std::pin::pin!(async move {
        for piece in said.chunks(5000) {
            if writer.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    let mut listening = std::pin::pin!(async {
        let mut heard = [0; 4096];
        while !deaf && reader.read(&mut heard).await.is_ok_and(|count| count > 0) {}
        std::future::pending::<()>().await
    });
    let mut spoken = false;
    std::future::poll_fn(|cx| {
        spoken = spoken || speaking.as_mut().poll(cx).is_ready();
        listening.as_mut().poll(cx)
    })
    .await;
}

/// One put of an honest client. Whether it was answered with a message.
async fn ask(mut stream: DuplexStream) -> bool {
    stream.write_all(&frames::honest_put()).await.expect("the server reads");
    let mut heard = Vec::new();
    loop {
        if let Some(answered) = frames::outcome_of_first_call(&heard) {
            return answered;
        }
        if stream.read_buf(&mut heard).await.unwrap_or(0) == 0 {
            return false;
        }
    }
}
