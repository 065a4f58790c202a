//! Sockets and threads: from a listening address to requests.
//!
//! Each serving thread has a runtime of its own and its own connections: nothing moves between threads but the answers of
//! the server behind. That costs about a third less per request than a work-stealing runtime on two cores. Connections
//! are handed out in turn.
//!
//! One port carries HTTP/2 (gRPC) and HTTP/1.1; the first bytes tell which. What is neither is closed, and what says
//! nothing is closed after ten seconds.
//!
//! Left out: TLS.

mod connection;
mod greeting;
mod http2;
mod io;
mod listen;
mod worker;

use std::{
    io::Error as IoError,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
};

pub use self::listen::{ListenAddress, ParseAddressError};
use self::{connection::Server, listen::Listener, worker::Worker};
use crate::{
    backend::Backend,
    front::{Front, Settings},
    metrics::Metrics,
};

/// Connections that wait for a serving thread, for each thread.
const HANDOVER_MAX: usize = 256;

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where to listen; port 0 picks a free one.
    pub listen: Vec<ListenAddress>,
    /// Number of serving threads; 0 means one for each core.
    pub threads: usize,
    /// Most connections at a time; more wait in the system's queue.
    pub connections_max: usize,
    /// Most calls at a time on one connection.
    pub concurrent_streams_max: u32,
    /// How long open calls may go on after [`Running::stop`].
    pub drain: Duration,
    /// How requests are answered.
    pub settings: Settings,
    /// What is counted; shared with the server behind.
    pub metrics: Arc<Metrics>,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            threads: 0,
            connections_max: 100_000,
            concurrent_streams_max: 1 << 20,
            drain: Duration::from_millis(500),
            settings: Settings::default(),
            metrics: Arc::default(),
        }
    }
}

/// Why serving did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// An address can't be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as given.
        address: ListenAddress,
        /// The system's word.
        #[source]
        source: IoError,
    },
    /// A thread or its runtime can't be made.
    #[error("cannot start a serving thread")]
    Thread(#[source] IoError),
}

/// A front door that is open. Dropping it closes it without waiting for calls.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<ListenAddress>,
    stopping: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Where clients can come, with the ports that were picked.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// Takes no more connections or calls, gives open calls [`ServeConfig::drain`] to end, then closes everything and
    /// returns.
    pub fn stop(mut self) {
        self.stopping.send_replace(true);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a serving thread panicked");
            }
        }
        for address in &self.addresses {
            address.remove_file();
        }
    }
}

/// Opens the front door of `backend`. Returns once every address is listened on.
///
/// # Errors
/// [`ServeError::Listen`] names the address that failed; nothing is left open then.
pub fn serve<B: Backend>(backend: B, config: &ServeConfig) -> Result<Running, ServeError> {
    let listeners = config.listen.iter().map(Listener::bind).collect::<Result<Vec<_>, _>>()?;
    let addresses = listeners.iter().map(Listener::address).collect();
    let front = Arc::new(Front::new(backend, config.settings.clone(), Arc::clone(&config.metrics)));
    let (stopping, stop) = watch::channel(false);
    let mut running = Running { addresses, stopping, threads: Vec::new() };
    let mut handovers = Vec::new();
    for number in 0..thread_count(config.threads) {
        let (handover, arrivals) = mpsc::channel(HANDOVER_MAX);
        handovers.push(handover);
        let worker = Worker::new(Arc::clone(&front), config, arrivals, stop.clone());
        running.threads.push(start(format!("client-{number}"), worker.run())?);
    }
    let accepting = listen::accept_all(listeners, handovers, config.connections_max, stop);
    running.threads.push(start("client-accept".into(), accepting)?);
    Ok(running)
}

/// Serves one connection that came by no listener, on the caller's task, until its client leaves.
pub async fn converse<B, T>(front: Arc<Front<B>>, stream: T)
where
    B: Backend,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (_open, stop) = watch::channel(false);
    let server = Server::new(front, ServeConfig::default().concurrent_streams_max);
    server.serve(stream, stop).await;
}

/// Runs `work` on a thread with a runtime of its own.
fn start(
    name: String,
    work: impl Future<Output = ()> + Send + 'static,
) -> Result<JoinHandle<()>, ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name(format!("{name}-read"))
        .build()
        .map_err(ServeError::Thread)?;
    let serve = move || {
        runtime.block_on(work);
        // Reads on helper threads are not waited for.
        runtime.shutdown_background();
    };
    thread::Builder::new().name(name).spawn(serve).map_err(ServeError::Thread)
}

/// Resolves when the front door was stopped or dropped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone: the front door was dropped.
    let _ = stop.wait_for(|stopping| *stopping).await;
}

fn thread_count(configured: usize) -> usize {
    if configured > 0 {
        return configured;
    }
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
