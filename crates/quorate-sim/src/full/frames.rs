//! Messages as they pass a wire: in some seeds each becomes a frame of the real transport and is read again by the real receiver, and
//! now and then a bit of it flips on the way.

use bytes::Bytes;
use quorate_net::{
    frame::{HEADER_BYTES, Receiver},
    outgoing::Outgoing,
    wire::{self, Body},
};
use quorate_node::PeerMessage;

use super::{
    bugs::UNCHECKED_FRAMES,
    plan::MS,
    world::{Event, World},
};
use crate::world::{Conviction, Judge};

/// The largest frame, as large as members take.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// The frame of a message.
///
/// # Errors
/// It is too large for one.
fn frame(message: PeerMessage) -> Result<Vec<u8>, String> {
    let mut outgoing = Outgoing::new(FRAME_BYTES_MAX);
    let body = Body::Message(message);
    wire::encode(&body, &mut outgoing).map_err(|bytes| format!("a frame of {bytes} bytes"))?;
    let mut frame = Vec::new();
    outgoing.write_to(&mut frame).map_err(|error| error.to_string())?;
    Ok(frame)
}

/// What a receiver makes of a frame.
///
/// # Errors
/// Its words, after which the connection is closed.
fn read(frame: &[u8], is_checked: bool) -> Result<PeerMessage, String> {
    let body = if is_checked { body(frame)? } else { Bytes::copy_from_slice(unchecked(frame)) };
    match wire::decode(&body).map_err(|error| error.to_string())? {
        Body::Message(message) => Ok(message),
        other @ (Body::Ping(_) | Body::Pong(_)) => Err(format!("{other:?} instead of a message")),
    }
}

/// What a receiver that looks at no checksum takes for the body.
fn unchecked(frame: &[u8]) -> &[u8] {
    frame.get(HEADER_BYTES..).unwrap_or_default()
}

fn body(frame: &[u8]) -> Result<Bytes, String> {
    let mut receiver = Receiver::new(FRAME_BYTES_MAX);
    let mut rest = frame;
    while !rest.is_empty() {
        let room = receiver.room();
        let count = room.len().min(rest.len());
        let (now, later) = rest.split_at(count);
        room.get_mut(..count).unwrap_or_default().copy_from_slice(now);
        receiver.received(count);
        rest = later;
    }
    let body = receiver.next_frame().map_err(|error| error.to_string())?;
    body.ok_or_else(|| "the frame is not whole".to_owned())
}

/// The message as it arrives; with `flip`, less the bit at this place of its frame.
///
/// # Errors
/// What a good frame became, which must not be; or, with `flip`, what the receiver said of a bad one.
fn pass(message: &PeerMessage, flip: Option<u64>, is_checked: bool) -> Result<PeerMessage, String> {
    let mut frame = frame(message.clone())?;
    let Some(flip) = flip else {
        let arrived = read(&frame, is_checked)?;
        let is_same = arrived == *message;
        return is_same.then_some(arrived).ok_or_else(|| format!("{message:?} arrives otherwise"));
    };
    let bits = 8 * frame.len().max(1) as u64;
    let (byte, bit) = (flip % bits / 8, flip % 8);
    if let Some(byte) = usize::try_from(byte).ok().and_then(|place| frame.get_mut(place)) {
        *byte ^= 1 << bit;
    }
    read(&frame, is_checked)
}

impl World {
    /// Sends a message as a frame where the seed wants it. `None`: a bit flipped, and the connection is closed.
    ///
    /// # Errors
    /// A whole frame is refused, or a damaged one is taken.
    pub(super) fn over_the_wire(
        &mut self,
        (from, to): (usize, usize),
        message: PeerMessage,
    ) -> Result<Option<PeerMessage>, Conviction> {
        let Some(damaged_ppm) = self.plan.network.damaged_ppm else { return Ok(Some(message)) };
        let flips = self.healed_at.is_none() && self.dice.chance(damaged_ppm);
        let flip = flips.then(|| self.dice.draw());
        let is_checked = self.plan.mutant != UNCHECKED_FRAMES;
        match (pass(&message, flip, is_checked), flip) {
            (Ok(arrived), None) => Ok(Some(arrived)),
            (Err(what), None) => Err(Conviction::new(Judge::Contract, what)),
            (Ok(_), Some(_)) => {
                let detail = format!("a damaged frame was taken for a good one: {message:?}");
                Err(Conviction::new(Judge::Corruption, detail))
            }
            (Err(_), Some(_)) => {
                self.lose_connection(from, to);
                Ok(None)
            }
        }
    }

    /// The connection of one member to another is closed, and comes back.
    fn lose_connection(&mut self, from: usize, to: usize) {
        self.forget_arrivals_between(from, to);
        for (at, peer) in [(from, to), (to, from)] {
            let down = self.now + self.dice.below(MS);
            self.put(down, Event::Connection { at, peer, up: false });
            let up = down + self.dice.within(MS, 100 * MS);
            self.put(up, Event::Connection { at, peer, up: true });
        }
    }
}
