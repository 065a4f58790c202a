//! Connections to servers that are there, and not only their sockets.
//!
//! The system takes connections for a process that is stopped, swapped out or stuck, and an HTTP/2 client may send before the
//! server has said a word. So a connection counts as made when the server's first bytes have come, its `SETTINGS`, as in
//! Go's gRPC library, which etcdctl uses (RFC 9113, section 3.4: a server must send them first).

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
};
use tonic::codegen::{BoxFuture, Service, http::Uri};

/// Makes connections; tells of the first one when its server has spoken.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    spoke: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl Connector {
    /// A connector, and what resolves when the server of its first connection has spoken; an error when that one has ended
    /// before.
    pub(super) fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, spoke) = oneshot::channel();
        (Self { spoke: Arc::new(Mutex::new(Some(sender))) }, spoke)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Listening>;
    type Error = io::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let first = self.spoke.lock().take();
        Box::pin(async move {
            let host = target.host().unwrap_or_default().trim_matches(['[', ']']);
            let stream = TcpStream::connect((host, target.port_u16().unwrap_or(80))).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(Listening { stream, spoke: first }))
        })
    }
}

/// A connection that tells when something has come.
#[derive(Debug)]
pub(super) struct Listening {
    stream: TcpStream,
    spoke: Option<oneshot::Sender<()>>,
}

impl AsyncRead for Listening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before
            && let Some(spoke) = self.spoke.take()
        {
            // Who does not wait for it has given up.
            let _ = spoke.send(());
        }
        polled
    }
}

impl AsyncWrite for Listening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
