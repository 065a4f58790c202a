//! Bodies: what is written is read back, and everything else is an error.

use bytes::Bytes;
use proptest::prelude::*;
use quorate_net::{
    frame::{FrameError, HEADER_BYTES, Receiver},
    outgoing::Outgoing,
    wire::{Body, decode, encode, size_estimate},
};
use quorate_node::PeerMessage;

use crate::messages::any_message;

const FRAME_BYTES_MAX: usize = 1 << 20;

/// The frames of these messages, as one stream.
fn stream(messages: &[PeerMessage]) -> Vec<u8> {
    let mut outgoing = Outgoing::new(FRAME_BYTES_MAX);
    for message in messages {
        encode(&Body::Message(message.clone()), &mut outgoing).unwrap();
    }
    let mut stream = Vec::new();
    outgoing.write_to(&mut stream).unwrap();
    stream
}

/// Whole frames in `stream`.
fn frames(mut stream: &[u8]) -> Result<Vec<Bytes>, FrameError> {
    let mut receiver = Receiver::new(FRAME_BYTES_MAX);
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let room = receiver.room();
        let count = room.len().min(stream.len());
        room[..count].copy_from_slice(&stream[..count]);
        receiver.received(count);
        stream = &stream[count..];
        while let Some(frame) = receiver.next_frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

proptest! {
    #[test]
    fn every_message_comes_back(messages in proptest::collection::vec(any_message(), 1..8)) {
        let frames = frames(&stream(&messages)).unwrap();
        let read: Vec<Body> = frames.iter().map(|frame| decode(frame).unwrap()).collect();
        let sent: Vec<Body> = messages.into_iter().map(Body::Message).collect();
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn a_body_cut_anywhere_is_an_error(message in any_message()) {
        let stream = stream(&[message]);
        let body = Bytes::from(stream).slice(HEADER_BYTES..);
        for end in 0..body.len() {
            prop_assert!(decode(&body.slice(..end)).is_err(), "cut at {}", end);
        }
    }

    #[test]
    fn a_body_with_more_behind_it_is_an_error(message in any_message(), more in 0..=255_u8) {
        let stream = stream(&[message]);
        let body = [&stream[HEADER_BYTES..], &[more]].concat();
        prop_assert!(decode(&Bytes::from(body)).is_err());
    }

    #[test]
    fn no_flipped_bit_of_a_frame_passes(message in any_message(), bit in any::<usize>()) {
        let mut stream = stream(&[message]);
        let bit = bit % (stream.len() * 8);
        stream[bit / 8] ^= 1 << (bit % 8);
        // A longer length makes the receiver wait for the rest.
        prop_assert!(frames(&stream).is_err() || frames(&stream).unwrap().is_empty());
    }

    #[test]
    fn a_body_with_flipped_bits_is_read_or_refused(
        message in any_message(),
        flips in proptest::collection::vec(any::<usize>(), 1..4),
    ) {
        let mut body = stream(&[message])[HEADER_BYTES..].to_vec();
        for flip in flips {
            let bit = flip % (body.len() * 8);
            body[bit / 8] ^= 1 << (bit % 8);
        }
        let _ = decode(&Bytes::from(body));
    }

    #[test]
    fn garbage_is_read_or_refused(garbage in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&Bytes::from(garbage.clone()));
        let _ = frames(&garbage);
    }

    #[test]
    fn the_size_estimate_is_never_less_than_the_payloads(message in any_message()) {
        let stream_bytes = stream(std::slice::from_ref(&message)).len();
        prop_assert!(size_estimate(&message) + 128 >= stream_bytes);
    }
}

#[test]
fn payloads_are_slices_of_the_frame() {
    let body = Bytes::from(vec![7; 100]);
    let sent = PeerMessage::ServiceRequest { id: 1, body };
    let frame = frames(&stream(&[sent])).unwrap().remove(0);
    let Ok(Body::Message(PeerMessage::ServiceRequest { body, .. })) = decode(&frame) else {
        panic!("not what was sent");
    };
    assert!(frame.as_ptr_range().contains(&body.as_ptr()));
}
