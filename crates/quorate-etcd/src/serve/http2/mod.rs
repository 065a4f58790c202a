//! HTTP/2, over the library `h2` itself: connections, and the calls on them.
//!
//! hyper's wrapper around the same library hides the settings that honest clients need, so it serves HTTP/1.1 only. See
//! `docs/decisions/0012-http2-without-a-wrapper.md`.
//!
//! A connection is driven by one task and each call by another, on the same thread. The connection reads a bounded amount,
//! then the calls have their turn: what they do not read meanwhile waits in the library, frame by frame, and is bounded by
//! the windows in bytes and by [`SMALL_FRAMES_BUDGET_BYTES`] in number.

mod body;
mod frames;
mod header_block;
mod pings;
mod rewriter;

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Error as H2Error,
    server::{Builder, Connection as H2Connection, SendResponse},
};
use http::{HeaderValue, Request, Response, header::CONTENT_LENGTH};
use hyper::body::Body;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

pub(super) use self::body::RequestBody;
use self::{
    frames::{Frames, Turn},
    pings::Pings,
};
use crate::{grpc::body::ReplyBody, serve::stopped};

/// What a client may send on one call before it is read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for all calls of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// What is kept to be sent on one call.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// How many calls a client may take back before they were looked at: more than fit into one turn.
const RESET_PENDING_MAX: usize = 8192;
/// How many calls of a connection may be reset because of what the client did on them, in its whole life. A client that
/// goes on writing to calls that have ended is one of many, not an attacker: what it costs is bounded by what it sends.
const RESETS_MAX: usize = 1 << 20;
/// Frames of less than 256 bytes that lie unread on a connection take from this what they lack: about 32,000 of them may.
/// What one turn reads is a fifth of that, and calls that read leave nothing lying. Each frame can hold on to the 8 KiB it
/// was read with, so that a hostile connection costs 256 MiB at worst.
const SMALL_FRAMES_BUDGET_BYTES: usize = 8 << 20;
/// The most headers of a call.
const HEADER_LIST_BYTES: u32 = 64 * 1024;

/// The settings of connections that carry at most `concurrent_streams_max` calls at a time.
pub(super) fn settings(concurrent_streams_max: u32) -> Builder {
    let mut settings = Builder::new();
    settings
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(concurrent_streams_max)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(RESET_PENDING_MAX)
        .max_local_error_reset_streams(Some(RESETS_MAX))
        .data_frame_budget(SMALL_FRAMES_BUDGET_BYTES);
    settings
}

/// Serves a connection until the client leaves or `stop`; then open calls are finished first.
///
/// `answer` is asked for each request. The client may take `patience` for its greeting, and for the headers of a call once
/// it has begun them.
///
/// # Errors
/// What the library or the socket has against the client.
pub(super) async fn serve<T, A, F>(
    stream: T,
    settings: &Builder,
    patience: Duration,
    answer: A,
    mut stop: watch::Receiver<bool>,
) -> Result<(), H2Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Request<RequestBody>) -> F,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let frames = Frames::new(stream, HEADER_LIST_BYTES as usize, patience);
    let turn = frames.turn();
    turn.begin();
    let mut connection = settings.handshake(frames).await?;
    let pings = Pings::new(connection.ping_pong(), Arc::clone(&turn));
    let mut driver = Driver { connection, turn, pings, answer };
    let ended = tokio::select! {
        ended = std::future::poll_fn(|cx| driver.poll(cx)) => Some(ended),
        () = stopped(&mut stop) => None,
    };
    if let Some(ended) = ended {
        return ended;
    }
    driver.connection.graceful_shutdown();
    std::future::poll_fn(|cx| driver.poll(cx)).await
}

/// A connection after its greeting.
struct Driver<T, A> {
    connection: H2Connection<Frames<T>, Bytes>,
    turn: Arc<Turn>,
    pings: Pings,
    answer: A,
}

impl<T, A, F> Driver<T, A>
where
    T: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Request<RequestBody>) -> F,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    /// Reads and writes until there is nothing to do; starts a task for each call.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), H2Error>> {
        self.turn.begin();
        if self.pings.poll_lost(cx).is_ready() {
            self.connection.abrupt_shutdown(h2::Reason::NO_ERROR);
        }
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(accepted)) => {
                    let (request, reply) = accepted?;
                    let answer = (self.answer)(request.map(RequestBody::from));
                    tokio::spawn(carry(answer, reply));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        if self.turn.is_used_up() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// Carries the answer to a call to its client. A client that takes the call back ends it.
async fn carry(answer: impl Future<Output = Response<ReplyBody>>, mut reply: SendResponse<Bytes>) {
    let answered = {
        let mut answer = pin!(answer);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            // Resolves when the connection ends, too.
            reply.poll_reset(cx).map(|_| None)
        })
        .await
    };
    let Some(response) = answered else { return };
    if let Err(error) = send(response, &mut reply).await {
        tracing::trace!(%error, "a client left before its answer was sent");
    }
}

/// Sends a response: its head, then its body as the client takes it.
async fn send(
    response: Response<ReplyBody>,
    reply: &mut SendResponse<Bytes>,
) -> Result<(), H2Error> {
    let (head, mut body) = response.into_parts();
    let mut response = Response::from_parts(head, ());
    if let ReplyBody::Plain(bytes) = &body {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from(bytes.len()));
    }
    let only_head = body.is_end_stream();
    let mut stream = reply.send_response(response, only_head)?;
    if only_head {
        return Ok(());
    }
    loop {
        let next = std::future::poll_fn(|cx| {
            if let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(cx) {
                return Poll::Ready(Ok(frame));
            }
            let reset = ready!(stream.poll_reset(cx));
            Poll::Ready(Err(reset.map_or_else(|error| error, H2Error::from)))
        });
        let Some(Ok(frame)) = next.await? else {
            return stream.send_data(Bytes::new(), true);
        };
        match frame.into_data() {
            Ok(data) => send_data(data, &mut stream).await?,
            Err(other) => {
                if let Ok(trailers) = other.into_trailers() {
                    stream.reserve_capacity(0);
                    return stream.send_trailers(trailers);
                }
            }
        }
    }
}

/// Sends a piece once its stream has room for a part of it. All of it is then the library's to keep, so no more is made
/// until that has gone.
async fn send_data(data: Bytes, stream: &mut h2::SendStream<Bytes>) -> Result<(), H2Error> {
    // A claim on one byte holds nothing of the connection's window back from other calls.
    stream.reserve_capacity(1);
    std::future::poll_fn(|cx| {
        while stream.capacity() == 0 {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(h2::Reason::CANCEL.into())),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await?;
    stream.send_data(data, false)
}
