//! A serving thread: its connections, and how they end.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::{TcpStream, UnixStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    ServeConfig,
    connection::Server,
    listen::{Arrival, ArrivedStream},
    stopped,
};
use crate::{backend::Backend, front::Front};

/// The connections of one thread.
pub(super) struct Worker<B: Backend> {
    server: Arc<Server<B>>,
    arrivals: mpsc::Receiver<Arrival>,
    stop: watch::Receiver<bool>,
    drain: Duration,
    connections: JoinSet<()>,
}

impl<B: Backend> Worker<B> {
    /// A worker that serves what arrives until `stop`.
    pub(super) fn new(
        front: Arc<Front<B>>,
        config: &ServeConfig,
        arrivals: mpsc::Receiver<Arrival>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let server = Arc::new(Server::new(front, config.concurrent_streams_max));
        Self { server, arrivals, stop, drain: config.drain, connections: JoinSet::new() }
    }

    /// Serves until it is time to stop, then lets open calls end for a while.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                arrival = self.arrivals.recv() => match arrival {
                    Some(arrival) => self.take(arrival),
                    None => break,
                },
                Some(ended) = self.connections.join_next() => if ended.is_err() {
                    tracing::error!("serving a connection panicked");
                },
                () = stopped(&mut self.stop) => break,
            }
        }
        let ended =
            timeout(self.drain, async { while self.connections.join_next().await.is_some() {} });
        if ended.await.is_err() {
            tracing::debug!(
                connections = self.connections.len(),
                "closing connections with open calls"
            );
        }
    }

    fn take(&mut self, arrival: Arrival) {
        let (server, stop) = (Arc::clone(&self.server), self.stop.clone());
        let Arrival { stream, place } = arrival;
        self.connections.spawn(async move {
            let _place = place;
            match stream {
                ArrivedStream::Tcp(stream) => match TcpStream::from_std(stream) {
                    Ok(stream) => server.serve(stream, stop).await,
                    Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
                },
                ArrivedStream::Unix(stream) => match UnixStream::from_std(stream) {
                    Ok(stream) => server.serve(stream, stop).await,
                    Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
                },
            }
        });
    }
}
