//! A connection whose frames are rewritten as they are read; see [`super::rewriter`].

use std::{
    io::{Error as IoError, ErrorKind, IoSlice, Result as IoResult},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::rewriter::Rewriter;

/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;

/// How much a connection reads before the calls on it, and other connections, have their turn. The library would read as
/// long as something comes, and hold all of it.
const TURN_BYTES: usize = 64 * 1024;
/// The same in frames, each of which can begin a call.
const TURN_FRAMES: usize = 128;

/// What a connection has read, and may still read before others have their turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    heard_bytes: AtomicU64,
    left_bytes: AtomicUsize,
    left_frames: AtomicUsize,
}

impl Turn {
    /// A new turn begins.
    pub(super) fn begin(&self) {
        self.left_bytes.store(TURN_BYTES, Relaxed);
        self.left_frames.store(TURN_FRAMES, Relaxed);
    }

    /// Whether reading was broken off: there must be another turn, though nothing new may come.
    pub(super) fn is_used_up(&self) -> bool {
        self.left_bytes.load(Relaxed) == 0 || self.left_frames.load(Relaxed) == 0
    }

    /// Bytes read since the beginning.
    pub(super) fn heard_bytes(&self) -> u64 {
        self.heard_bytes.load(Relaxed)
    }

    fn take_bytes(&self, bytes: usize) {
        self.heard_bytes.fetch_add(bytes as u64, Relaxed);
        self.left_bytes.store(self.left_bytes.load(Relaxed).saturating_sub(bytes), Relaxed);
    }

    fn take_frames(&self, frames: usize) {
        self.left_frames.store(self.left_frames.load(Relaxed).saturating_sub(frames), Relaxed);
    }
}

/// A stream whose reader sees rewritten frames.
///
/// Reading fails with [`ErrorKind::TimedOut`] when the client leaves its greeting or a header block unfinished for too
/// long, however slowly it goes on.
pub(super) struct Frames<T> {
    stream: T,
    rewriter: Rewriter,
    /// Read, and not looked at. Empty while the connection is idle.
    input: BytesMut,
    /// Rewritten, and not taken. The same.
    output: BytesMut,
    patience: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    turn: Arc<Turn>,
}

impl<T> Frames<T> {
    /// Rewrites what `stream` gives. The client may take `patience` to finish what it has begun.
    pub(super) fn new(stream: T, header_bytes_max: usize, patience: Duration) -> Self {
        Self {
            stream,
            rewriter: Rewriter::new(header_bytes_max),
            input: BytesMut::new(),
            output: BytesMut::new(),
            patience,
            deadline: None,
            turn: Arc::default(),
        }
    }

    /// How much was read, and may be. Whoever drives the connection begins each turn, the first one too.
    pub(super) fn turn(&self) -> Arc<Turn> {
        Arc::clone(&self.turn)
    }

    /// The client is silent: is it late?
    fn check_deadline(&mut self, cx: &mut Context<'_>) -> IoResult<()> {
        if !self.rewriter.is_owed() {
            self.deadline = None;
            return Ok(());
        }
        let patience = self.patience;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if deadline.as_mut().poll(cx).is_ready() {
            return Err(IoError::new(ErrorKind::TimedOut, "a greeting or headers took too long"));
        }
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> Frames<T> {
    /// Reads and rewrites until there is something to give. `false` at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<IoResult<bool>> {
        while !self.turn.is_used_up() {
            let frames_max = self.turn.left_frames.load(Relaxed);
            let frames = self.rewriter.advance(&mut self.input, &mut self.output, frames_max);
            let frames = frames.map_err(|error| IoError::new(ErrorKind::InvalidData, error))?;
            self.turn.take_frames(frames);
            if !self.output.is_empty() {
                if !self.rewriter.is_owed() {
                    self.deadline = None;
                }
                return Poll::Ready(Ok(true));
            }
            if !self.turn.is_used_up() && !ready!(self.poll_read_more(cx))? {
                return Poll::Ready(Ok(false));
            }
        }
        Poll::Pending
    }

    /// Reads once. `false` at the end of the stream.
    fn poll_read_more(&mut self, cx: &mut Context<'_>) -> Poll<IoResult<bool>> {
        self.input.reserve(READ_BYTES);
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(cx);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        let Poll::Ready(read) = read else {
            self.check_deadline(cx)?;
            return Poll::Pending;
        };
        let count = read?;
        self.turn.take_bytes(count);
        Poll::Ready(Ok(count > 0))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Frames<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<IoResult<()>> {
        while self.output.is_empty() {
            if !ready!(self.poll_fill(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
        let len = self.output.len().min(buf.remaining());
        buf.put_slice(self.output.get(..len).unwrap_or_default());
        self.output.advance(len);
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Frames<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<IoResult<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<IoResult<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<IoResult<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<IoResult<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncWriteExt, DuplexStream, duplex},
        time::{Instant, interval, timeout},
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

    /// A connection whose client has said `said`, and its client.
    async fn after(said: &[u8]) -> (Frames<DuplexStream>, DuplexStream) {
        let (mut client, server) = duplex(1 << 20);
        client.write_all(said).await.unwrap();
        let frames = Frames::new(server, 1000, PATIENCE);
        frames.turn.begin();
        (frames, client)
    }

    /// Reads to the end; gives the time it took, in seconds, and why it ended.
    async fn read(frames: &mut Frames<DuplexStream>) -> (u64, Option<ErrorKind>) {
        let begin = Instant::now();
        let mut sink = Vec::new();
        let end = frames.read_to_end(&mut sink).await.err().map(|error| error.kind());
        (begin.elapsed().as_secs(), end)
    }

    #[tokio::test(start_paused = true)]
    async fn who_drips_is_cut_off_when_the_whole_takes_too_long() {
        for (said, dripped) in [
            (PREFACE.to_vec(), SETTINGS.to_vec()),
            ([PREFACE, SETTINGS, &[0, 0, 200, 1, 4, 0, 0, 0, 1]].concat(), vec![0x83; 200]),
        ] {
            let (mut frames, mut client) = after(&said).await;
            let drip = tokio::spawn(async move {
                let mut drops = interval(PATIENCE / 5);
                for byte in dripped.iter().cycle() {
                    drops.tick().await;
                    if client.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                }
            });
            assert_eq!(read(&mut frames).await, (10, Some(ErrorKind::TimedOut)));
            drop(frames);
            drip.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_owes_nothing_may_be_silent() {
        let (mut frames, _client) = after(&[PREFACE, SETTINGS].concat()).await;
        assert!(timeout(100 * PATIENCE, read(&mut frames)).await.is_err(), "it was cut off");
        assert!(frames.input.capacity() == 0 && frames.output.capacity() == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_though_a_large_frame_goes_on() {
        let large = [&[0, 0x40, 0, 0, 0, 0, 0, 0, 1], &[7; 0x4000][..]].concat();
        let (mut frames, _client) = after(&[PREFACE, SETTINGS, &large.repeat(10)].concat()).await;
        let mut buf = vec![0; 1 << 20];
        let mut read = ReadBuf::new(&mut buf);
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        while Pin::new(&mut frames).poll_read(cx, &mut read).is_ready() {}
        assert!(frames.turn.is_used_up());
        assert!(read.filled().len() <= TURN_BYTES + READ_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_though_there_are_more_frames() {
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let said = [PREFACE, SETTINGS, &ping.repeat(10_000)].concat();
        let (mut frames, client) = after(&said).await;
        drop(client);
        let mut turns = 0;
        let mut buf = vec![0; 1 << 20];
        let mut read = ReadBuf::new(&mut buf);
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        loop {
            let before = read.filled().len();
            match Pin::new(&mut frames).poll_read(cx, &mut read) {
                Poll::Ready(end) => {
                    end.unwrap();
                    if read.filled().len() == before {
                        break;
                    }
                }
                Poll::Pending => {
                    assert!(frames.turn.is_used_up());
                    frames.turn.begin();
                    turns += 1;
                }
            }
        }
        assert_eq!(read.filled(), said);
        // One frame was the settings.
        assert_eq!(turns, 10_001 / TURN_FRAMES);
        assert_eq!(frames.turn.heard_bytes(), said.len() as u64);
    }
}
