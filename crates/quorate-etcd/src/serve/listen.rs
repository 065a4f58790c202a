//! Listening addresses, and the loop that accepts.

use std::{
    fmt, fs,
    io::Result as IoResult,
    net::{SocketAddr, TcpListener as StdTcpListener},
    os::unix::{
        fs::FileTypeExt,
        net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream},
    },
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{ServeError, stopped};

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 4096;

/// How long to wait when the system has no room for another connection.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(50);

/// Time between two lines of the log about connections that could not be accepted.
const QUIET_FOR: Duration = Duration::from_secs(10);

/// After how much silence the system asks whether a client still lives.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// Where clients are served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenAddress {
    /// An address of the network.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// A text is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not http://IP:PORT, IP:PORT or unix://PATH")]
pub struct ParseAddressError(String);

impl FromStr for ListenAddress {
    type Err = ParseAddressError;

    /// Reads `http://IP:PORT`, `IP:PORT` and `unix://PATH`.
    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let bad = || ParseAddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.is_empty() { Err(bad()) } else { Ok(Self::Unix(path.into())) };
        }
        let address = text.strip_prefix("http://").unwrap_or(text);
        address.trim_end_matches('/').parse().map(Self::Tcp).map_err(|_| bad())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl ListenAddress {
    /// Takes a socket out of the file system again.
    pub(super) fn remove_file(&self) {
        if let Self::Unix(path) = self
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!(%error, path = %path.display(), "the socket could not be removed");
        }
    }
}

/// A bound address.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(StdTcpListener, SocketAddr),
    Unix(StdUnixListener, PathBuf),
}

/// A connection on its way to its thread, with its place among the limited number.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) stream: ArrivedStream,
    pub(super) place: OwnedSemaphorePermit,
}

/// The connection itself, in the form that can change runtimes.
#[derive(Debug)]
pub(super) enum ArrivedStream {
    Tcp(std::net::TcpStream),
    Unix(StdUnixStream),
}

impl Listener {
    /// Listens on `address`.
    pub(super) fn bind(address: &ListenAddress) -> Result<Self, ServeError> {
        let bound = match address {
            ListenAddress::Tcp(address) => bind_tcp(*address),
            ListenAddress::Unix(path) => bind_unix(path),
        };
        bound.map_err(|source| ServeError::Listen { address: address.clone(), source })
    }

    /// Where it listens, with the port that was picked.
    pub(super) fn address(&self) -> ListenAddress {
        match self {
            Self::Tcp(_, address) => ListenAddress::Tcp(*address),
            Self::Unix(_, path) => ListenAddress::Unix(path.clone()),
        }
    }

    /// Accepts connections for ever, at most as many at a time as there are places.
    async fn accept(self, places: Arc<Semaphore>, handovers: Handovers) -> IoResult<()> {
        let listener = match self {
            Self::Tcp(listener, _) => Accepting::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener, _) => Accepting::Unix(UnixListener::from_std(listener)?),
        };
        let mut failures = Failures::default();
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.next().await {
                Ok(stream) => handovers.give(Arrival { stream, place }).await,
                Err(error) => {
                    if let Some(count) = failures.due_count(Instant::now()) {
                        tracing::warn!(%error, count, "connections could not be accepted");
                    }
                    tokio::time::sleep(NO_ROOM_PAUSE).await;
                }
            }
        }
        Ok(())
    }
}

/// Failures to accept, of which not each is told: strangers can cause as many as they like.
#[derive(Debug, Default)]
struct Failures {
    untold: u64,
    told_at: Option<Instant>,
}

impl Failures {
    /// One more. How many there were since the last line, if it is time for another.
    fn due_count(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told_at.is_some_and(|told| now < told + QUIET_FOR) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

fn bind_tcp(address: SocketAddr) -> IoResult<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener: StdTcpListener = socket.into();
    let bound = listener.local_addr()?;
    Ok(Listener::Tcp(listener, bound))
}

/// A socket that a process left behind is replaced; one that somebody serves is not.
fn bind_unix(path: &Path) -> IoResult<Listener> {
    let left_behind = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && StdUnixStream::connect(path).is_err();
    if left_behind {
        fs::remove_file(path)?;
    }
    let listener = StdUnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(listener, path.to_owned()))
}

/// A listener on this thread's runtime.
#[derive(Debug)]
enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Accepting {
    async fn next(&self) -> IoResult<ArrivedStream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let stream = stream.into_std()?;
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
                socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                Ok(ArrivedStream::Tcp(stream))
            }
            Self::Unix(listener) => Ok(ArrivedStream::Unix(listener.accept().await?.0.into_std()?)),
        }
    }
}

/// The serving threads, in turn.
#[derive(Clone, Debug)]
struct Handovers {
    threads: Arc<[mpsc::Sender<Arrival>]>,
    next: Arc<std::sync::atomic::AtomicUsize>,
}

impl Handovers {
    /// Gives a connection to the thread whose turn it is. A thread that has ended drops it.
    async fn give(&self, arrival: Arrival) {
        let turn = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.threads.iter().cycle().nth(turn % self.threads.len().max(1)) {
            let _ = thread.send(arrival).await;
        }
    }
}

/// Accepts on all listeners until it is time to stop.
pub(super) async fn accept_all(
    listeners: Vec<Listener>,
    threads: Vec<mpsc::Sender<Arrival>>,
    connections_max: usize,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
    let handovers = Handovers { threads: threads.into(), next: Arc::default() };
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let (places, handovers) = (Arc::clone(&places), handovers.clone());
        accepting.spawn(async move {
            if let Err(error) = listener.accept(places, handovers).await {
                tracing::error!(%error, "accepting has ended");
            }
        });
    }
    stopped(&mut stop).await;
    accepting.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_once_in_a_while_and_counted() {
        let mut failures = Failures::default();
        let begin = Instant::now();
        let told = [0, 1, 9, 10, 11, 30]
            .map(|second| failures.due_count(begin + Duration::from_secs(second)));
        assert_eq!(told, [Some(1), None, None, Some(3), None, Some(2)]);
    }

    #[test]
    fn addresses_are_read_as_etcd_writes_them() {
        let read = |text: &str| text.parse::<ListenAddress>();
        let local = ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 2379)));
        assert_eq!(read("http://127.0.0.1:2379"), Ok(local.clone()));
        assert_eq!(read("127.0.0.1:2379"), Ok(local.clone()));
        assert_eq!(local.to_string(), "http://127.0.0.1:2379");
        assert_eq!(read("unix:///tmp/a.sock"), Ok(ListenAddress::Unix("/tmp/a.sock".into())));
        for bad in ["https://127.0.0.1:1", "unix://", "localhost", ""] {
            assert_eq!(read(bad), Err(ParseAddressError(bad.into())));
        }
    }
}
