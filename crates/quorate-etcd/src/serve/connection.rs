//! One connection: find its protocol, then serve its requests until it ends.
//!
//! Pings are answered and never counted against a client: etcd's clients ping as often as they are told to, and a server
//! that answers `too_many_pings` would lose them.

use std::{convert::Infallible, fmt::Display, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Version, header::CONTENT_TYPE};
use hyper::{
    body::Incoming,
    server::conn::{
        http1::{self, Connection as Http1Connection},
        http2::{self, Connection as Http2Connection},
    },
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::timeout,
};

use super::{
    greeting::{self, Protocol},
    io::CountedIo,
    stopped,
};
use crate::{
    backend::Backend,
    front::Front,
    grpc::{body::ReplyBody, call},
    http as endpoints,
};

/// How long a client may take to say which protocol it speaks, and for the head of an HTTP/1.1 request.
const GREETING_MAX: Duration = Duration::from_secs(10);

/// How often an HTTP/2 client that says nothing is asked whether it still lives. Source: etcd's
/// `--grpc-keepalive-interval` and `--grpc-keepalive-timeout`.
const PING_INTERVAL: Duration = Duration::from_secs(2 * 3600);
/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What a client may send on one call before it is read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for all calls of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// What is kept to be sent on one call.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// How many calls a client may take back before they were looked at. A client with many calls whose time is up at once is
/// no attacker.
const RESET_PENDING_MAX: usize = 4096;
/// The most headers of a call.
const HEADER_LIST_BYTES: u32 = 64 * 1024;
/// What an HTTP/1.1 client may send before it is read.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;

/// What all connections of a thread share.
pub(super) struct Server<B: Backend> {
    front: Arc<Front<B>>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl<B: Backend> Server<B> {
    /// A server whose connections carry at most `concurrent_streams_max` calls at a time.
    pub(super) fn new(front: Arc<Front<B>>, concurrent_streams_max: u32) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(GREETING_MAX)
            .max_buf_size(HTTP1_BUFFER_BYTES);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(concurrent_streams_max)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES)
            .max_pending_accept_reset_streams(RESET_PENDING_MAX)
            .auto_date_header(false);
        Self { front, http1, http2 }
    }

    /// Serves a connection until the client leaves or `stop`; then open calls are finished first.
    pub(super) async fn serve<T>(&self, mut stream: T, mut stop: watch::Receiver<bool>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let metrics = Arc::clone(&self.front.metrics);
        metrics.connections.add(1);
        let greeting = tokio::select! {
            greeting = timeout(GREETING_MAX, greeting::read(&mut stream)) => greeting,
            () = stopped(&mut stop) => Ok(Ok((Protocol::Unknown, Bytes::new()))),
        };
        match greeting {
            Ok(Ok((Protocol::Unknown, _))) => tracing::debug!("a connection does not speak HTTP"),
            Ok(Ok((protocol, first))) => {
                let io = CountedIo::new(stream, first, Arc::clone(&metrics));
                self.speak(protocol, io, stop).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a connection broke before it spoke HTTP"),
            Err(_) => tracing::debug!("a connection said nothing for too long"),
        }
        metrics.connections.add(-1);
    }

    async fn speak<T>(&self, protocol: Protocol, io: CountedIo<T>, stop: watch::Receiver<bool>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let front = Arc::clone(&self.front);
        let service = service_fn(move |request| answer(Arc::clone(&front), request));
        let io = TokioIo::new(io);
        match protocol {
            Protocol::Unknown => {}
            Protocol::Http1 => {
                let connection = self.http1.serve_connection(io, service);
                until_stopped(pin!(connection), stop, Http1Connection::graceful_shutdown).await;
            }
            Protocol::Http2 => {
                let connection = self.http2.serve_connection(io, service);
                until_stopped(pin!(connection), stop, Http2Connection::graceful_shutdown).await;
            }
        }
    }
}

/// Runs a connection to its end; asks it to finish when it is time to stop.
async fn until_stopped<C, E>(
    mut connection: std::pin::Pin<&mut C>,
    mut stop: watch::Receiver<bool>,
    finish: impl FnOnce(std::pin::Pin<&mut C>),
) where
    C: Future<Output = Result<(), E>>,
    E: Display,
{
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopped(&mut stop) => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        finish(connection.as_mut());
        connection.await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// Answers one request: gRPC by its protocol and content type, everything else by its path.
async fn answer<B: Backend>(
    front: Arc<Front<B>>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Infallible> {
    let content_type = request.headers().get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    if request.version() == Version::HTTP_2 && content_type.is_some_and(is_grpc) {
        return Ok(call::serve(front, request).await);
    }
    let (head, _) = request.into_parts();
    Ok(Box::pin(endpoints::serve(front, head)).await)
}

/// Whether a content type is gRPC's own; its relative for browsers is another protocol.
fn is_grpc(content_type: &[u8]) -> bool {
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc;charset=x"] {
            assert!(is_grpc(kind.as_bytes()), "{kind}");
        }
        for kind in ["application/grpc-web", "application/json", ""] {
            assert!(!is_grpc(kind.as_bytes()), "{kind}");
        }
    }
}
