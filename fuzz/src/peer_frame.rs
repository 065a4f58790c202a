//! Whatever a peer sends: cutting it into frames and decoding them never panics, and what decodes encodes to the same again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use quorate_net::{frame::Receiver, outgoing::Outgoing, wire};

const FRAME_BYTES_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    receive(data);
    round_trip(&Bytes::copy_from_slice(data));
});

/// The bytes as a stream, in pieces.
fn receive(data: &[u8]) {
    let mut receiver = Receiver::new(FRAME_BYTES_MAX);
    for piece in data.chunks(61) {
        let mut rest = piece;
        while !rest.is_empty() {
            let room = receiver.room();
            let count = room.len().min(rest.len());
            room[..count].copy_from_slice(&rest[..count]);
            receiver.received(count);
            rest = &rest[count..];
            while let Ok(Some(frame)) = receiver.next_frame() {
                let _ = wire::decode(&frame);
            }
        }
    }
}

/// The bytes as a frame whose checksum is right.
fn round_trip(frame: &Bytes) {
    let Ok(body) = wire::decode(frame) else { return };
    let mut outgoing = Outgoing::new(FRAME_BYTES_MAX);
    if wire::encode(&body, &mut outgoing).is_err() {
        return;
    }
    let mut stream = Vec::new();
    outgoing.write_to(&mut stream).expect("memory takes every write");
    let mut receiver = Receiver::new(FRAME_BYTES_MAX);
    let mut rest = stream.as_slice();
    while !rest.is_empty() {
        let room = receiver.room();
        let count = room.len().min(rest.len());
        room[..count].copy_from_slice(&rest[..count]);
        receiver.received(count);
        rest = &rest[count..];
    }
    let again = receiver.next_frame().expect("our own frame").expect("a whole frame");
    assert_eq!(wire::decode(&again).expect("our own body"), body);
}
