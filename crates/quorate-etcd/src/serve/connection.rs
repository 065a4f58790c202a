//! One connection: find its protocol, then serve its requests until it ends.
//!
//! Pings are answered and never counted against a client: etcd's clients ping as often as they are told to, and a server
//! that answers `too_many_pings` would lose them.

use std::{convert::Infallible, fmt::Display, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Version, header::CONTENT_TYPE};
use hyper::{
    body::Body,
    server::conn::http1::{self, Connection as Http1Connection},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::timeout,
};

use super::{
    greeting::{self, Protocol},
    http2,
    io::CountedIo,
    stopped,
};
use crate::{
    backend::Backend,
    front::Front,
    grpc::{body::ReplyBody, call},
    http as endpoints,
};

/// How long a client may take for all of its greeting, and for the head of a request once it has begun it.
const GREETING_MAX: Duration = Duration::from_secs(10);

/// What an HTTP/1.1 client may send before it is read: all of a request's head.
const HTTP1_BUFFER_BYTES: usize = 256 * 1024;
/// Headers in it.
const HTTP1_HEADERS_MAX: usize = 1000;

/// What all connections of a thread share.
pub(super) struct Server<B: Backend> {
    front: Arc<Front<B>>,
    http1: http1::Builder,
    http2: h2::server::Builder,
}

impl<B: Backend> Server<B> {
    /// A server whose connections carry at most `concurrent_streams_max` calls at a time.
    pub(super) fn new(front: Arc<Front<B>>, concurrent_streams_max: u32) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(GREETING_MAX)
            .max_headers(HTTP1_HEADERS_MAX)
            .max_buf_size(HTTP1_BUFFER_BYTES);
        Self { front, http1, http2: http2::settings(concurrent_streams_max) }
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
        let front = Arc::new(self.front.for_client());
        match protocol {
            Protocol::Unknown => {}
            Protocol::Http1 => self.speak_http1(front, io, stop).await,
            Protocol::Http2 => {
                let answer = |request| answer(Arc::clone(&front), request);
                let ended = http2::serve(io, &self.http2, GREETING_MAX, answer, stop).await;
                tell(ended);
            }
        }
    }

    async fn speak_http1<T>(
        &self,
        front: Arc<Front<B>>,
        io: CountedIo<T>,
        mut stop: watch::Receiver<bool>,
    ) where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| {
            let answer = answer(Arc::clone(&front), request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut connection = pin!(self.http1.serve_connection(TokioIo::new(io), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = stopped(&mut stop) => None,
        };
        let Some(ended) = ended else {
            Http1Connection::graceful_shutdown(connection.as_mut());
            return tell(connection.await);
        };
        tell(ended);
    }
}

/// What ends a connection is its client's business.
fn tell<E: Display>(ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// Answers one request: gRPC by its protocol and content type, everything else by its path.
async fn answer<B, T>(front: Arc<Front<B>>, request: Request<T>) -> Response<ReplyBody>
where
    B: Backend,
    T: Body<Data = Bytes> + Send + Unpin + 'static,
    T::Error: Display,
{
    let content_type = request.headers().get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    if request.version() == Version::HTTP_2 && content_type.is_some_and(is_grpc) {
        return call::serve(front, request).await;
    }
    let (head, _) = request.into_parts();
    Box::pin(endpoints::serve(front, head)).await
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
