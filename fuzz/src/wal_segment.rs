//! Whatever a segment of the write-ahead log holds: recovery reads it or refuses it, and never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_storage::wal;

fuzz_target!(|data: &[u8]| {
    if let Some((way, rest)) = data.split_first() {
        if way % 2 == 0 {
            wal::decode_segment(rest);
        } else {
            wal::decode_records(rest);
        }
    }
});
