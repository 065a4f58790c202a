//! One lane to one peer: what waits for its connection, and the connection itself.
//!
//! Whoever sends writes the message itself when nothing waits and the socket takes it at once. A thread that is woken for each
//! message costs more than the system call that sends it, and comes a scheduling delay later. What the socket does not take,
//! and what comes meanwhile, is the writer thread's.
//!
//! Invariant: only who holds the pen takes from the queue or writes. So when the pen is free and the queue is empty, every
//! byte before is at the socket, and order holds.

use std::{
    io,
    net::{Shutdown, TcpStream},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use quorate_node::PeerMessage;

use crate::{
    Limits, SendError,
    outgoing::Outgoing,
    queue::Queue,
    stats::Counters,
    wire::{self, Body},
};

/// Larger messages are the writer thread's: encoding and sending them takes a while.
const AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// What waits for the writer.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A message.
    Message(PeerMessage),
    /// The rest of frames that the socket took only in part.
    Rest(Bytes),
}

/// The right to write, with what is needed for it.
#[derive(Debug)]
pub(crate) struct Pen {
    /// Set while a connection stands.
    pub(crate) stream: Option<TcpStream>,
    /// Empty when the pen is free.
    pub(crate) outgoing: Outgoing,
}

/// One lane to one peer.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) queue: Queue<Waiting>,
    pen: Mutex<Pen>,
}

impl Line {
    /// Without a connection.
    pub(crate) fn new(limits: &Limits) -> Self {
        let outgoing = Outgoing::new(limits.frame_bytes_max);
        Self {
            queue: Queue::new(limits.queue_messages_max, limits.queue_bytes_max),
            pen: Mutex::new(Pen { stream: None, outgoing }),
        }
    }

    /// Waits for the right to write.
    pub(crate) fn pen(&self) -> MutexGuard<'_, Pen> {
        self.pen.lock()
    }

    /// Writes or queues a message of about `bytes`; never waits.
    pub(crate) fn send(
        &self,
        message: PeerMessage,
        bytes: usize,
        counters: &Counters,
    ) -> Result<(), SendError> {
        if bytes <= AT_ONCE_BYTES_MAX
            && let Some(mut pen) = self.pen.try_lock()
            && self.queue.is_idle()
        {
            return self.write(&mut pen, message, counters);
        }
        self.queue.put(Waiting::Message(message), bytes)
    }

    fn write(
        &self,
        pen: &mut Pen,
        message: PeerMessage,
        counters: &Counters,
    ) -> Result<(), SendError> {
        let Pen { stream, outgoing } = pen;
        let Some(stream) = stream else { return Err(SendError::Disconnected) };
        wire::encode(&Body::Message(message), outgoing).map_err(SendError::TooLarge)?;
        Counters::add(&counters.sent_bytes, outgoing.bytes());
        Counters::add(&counters.sent_messages, 1);
        match outgoing.write_now(stream) {
            Ok(rest) if rest.is_empty() => Ok(()),
            Ok(rest) => {
                self.queue.put_first(Waiting::Rest(rest));
                Ok(())
            }
            Err(error) => Err(self.give_up(stream, &error)),
        }
    }

    /// The writer and the reader of a broken connection end, and tell.
    fn give_up(&self, stream: &TcpStream, error: &io::Error) -> SendError {
        tracing::debug!(%error, "a peer connection broke under a message");
        self.queue.close();
        // It may be shut already.
        let _ = stream.shutdown(Shutdown::Both);
        SendError::Disconnected
    }
}
