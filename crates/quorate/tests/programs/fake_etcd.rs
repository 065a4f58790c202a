//! A server that says what a test has written down, call by call: gRPC by hand over hyper, so that every failure is at will.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{pending, poll_fn},
    net::TcpListener as StdListener,
    pin::Pin,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    task::{Context, Poll},
    thread,
};

use bytes::{BufMut, Bytes, BytesMut};
use hyper::{
    HeaderMap, Request, Response,
    body::{Body, Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::TcpListener, runtime::Builder};

use crate::process::PATIENCE;

/// gRPC's code for "the server is not there", which every call without a script gets.
const UNAVAILABLE: u8 = 14;

/// What one call is answered.
#[derive(Debug)]
pub(crate) struct Script {
    frames: VecDeque<Frame<Bytes>>,
    hangs: bool,
}

impl Script {
    fn new(messages: &[impl Message], code: u8) -> Self {
        let mut frames: VecDeque<_> = messages.iter().map(framed).collect();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", u16::from(code).into());
        frames.push_back(Frame::trailers(trailers));
        Self { frames, hangs: false }
    }

    /// These, and a good end.
    pub(crate) fn done(messages: &[impl Message]) -> Self {
        Self::new(messages, 0)
    }

    /// These, then the server is gone.
    pub(crate) fn broken(messages: &[impl Message]) -> Self {
        Self::new(messages, UNAVAILABLE)
    }

    /// These, then nothing.
    pub(crate) fn hanging(messages: &[impl Message]) -> Self {
        let mut script = Self::new(messages, 0);
        script.frames.pop_back();
        Self { hangs: true, ..script }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.frames.pop_front() {
            None if self.hangs => Poll::Pending,
            frame => Poll::Ready(frame.map(Ok)),
        }
    }
}

/// A message with its flag and length.
fn framed(message: &impl Message) -> Frame<Bytes> {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut bytes).unwrap();
    Frame::data(bytes.freeze())
}

/// A running one; it ends with the test's process.
pub(crate) struct FakeEtcd {
    pub(crate) endpoint: String,
    calls: Receiver<(String, Bytes)>,
}

impl FakeEtcd {
    /// Serves one script a call, in the order of the calls.
    pub(crate) fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        let scripts = Arc::new(Mutex::new(scripts.into_iter().collect::<VecDeque<_>>()));
        let listener = StdListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let (sender, calls) = channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, &scripts, &sender));
        });
        Self { endpoint, calls }
    }

    /// The next call: its method and first message.
    pub(crate) fn called<M: Message + Default>(&self) -> (String, M) {
        let (method, request) = self.calls.recv_timeout(PATIENCE).unwrap();
        (method, M::decode(request).unwrap())
    }
}

async fn serve(
    listener: StdListener,
    scripts: &Arc<Mutex<VecDeque<Script>>>,
    calls: &Sender<(String, Bytes)>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (scripts, calls) = (Arc::clone(scripts), calls.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            let (scripts, calls) = (Arc::clone(&scripts), calls.clone());
            async move {
                let method = request.uri().path().to_owned();
                let first = first_message(request.into_body()).await;
                // The test may have heard enough.
                let _ = calls.send((method, first));
                let script = scripts.lock().unwrap().pop_front();
                let script = script.unwrap_or_else(|| Script::broken(&[(); 0]));
                let response = Response::builder().header("content-type", "application/grpc");
                Ok::<_, Infallible>(response.body(script).unwrap())
            }
        });
        let connection = http2::Builder::new(TokioExecutor::new());
        // A client that goes away is no failure.
        tokio::spawn(async move {
            let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// Reads as far as the first message goes; waits for ever when the client leaves before.
async fn first_message(mut body: Incoming) -> Bytes {
    let mut bytes = BytesMut::new();
    loop {
        if let Some((prefix, rest)) = bytes.split_first_chunk::<5>() {
            let [_, length @ ..] = *prefix;
            let length = u32::from_be_bytes(length) as usize;
            if let Some(message) = rest.get(..length) {
                let message = Bytes::copy_from_slice(message);
                // The call stays open in this direction.
                tokio::spawn(async move { while next(&mut body).await.is_some() {} });
                return message;
            }
        }
        match next(&mut body).await {
            Some(piece) => bytes.extend_from_slice(&piece),
            None => pending().await,
        }
    }
}

async fn next(body: &mut Incoming) -> Option<Bytes> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    frame.ok()?.into_data().ok()
}
