//! Asks a silent client whether it still lives.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep};

use super::frames::Turn;

/// How often a client is asked. Source: etcd's `--grpc-keepalive-interval` and `--grpc-keepalive-timeout`.
const INTERVAL: Duration = Duration::from_secs(2 * 3600);
/// How long it may take to answer, or to say anything else.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The questions to one client.
pub(super) struct Pings {
    ping_pong: Option<PingPong>,
    turn: Arc<Turn>,
    timer: Pin<Box<Sleep>>,
    /// Bytes that were heard when it was asked; `None` when no question is open.
    asked_at: Option<u64>,
}

impl Pings {
    /// Asks over `ping_pong`; `turn` tells whether anything was heard.
    pub(super) fn new(ping_pong: Option<PingPong>, turn: Arc<Turn>) -> Self {
        Self { ping_pong, turn, timer: Box::pin(tokio::time::sleep(INTERVAL)), asked_at: None }
    }

    /// Ready when the client has not answered in time.
    pub(super) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let heard = self.turn.heard_bytes();
            let wait = match self.asked_at.take() {
                Some(asked_at) if asked_at == heard => return Poll::Ready(()),
                Some(_) => INTERVAL,
                None => {
                    self.ask();
                    self.asked_at = Some(heard);
                    TIMEOUT
                }
            };
            self.timer.as_mut().reset(Instant::now() + wait);
        }
        if let Some(ping_pong) = &mut self.ping_pong {
            // An answer counts as something heard; it is taken, so that the next question can be sent.
            let _ = ping_pong.poll_pong(cx);
        }
        Poll::Pending
    }

    fn ask(&mut self) {
        if let Some(ping_pong) = &mut self.ping_pong
            && let Err(error) = ping_pong.send_ping(Ping::opaque())
        {
            tracing::debug!(%error, "a client could not be asked whether it lives");
        }
    }
}
