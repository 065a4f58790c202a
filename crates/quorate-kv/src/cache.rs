//! The newest stamps of the keys written last, so that writing a hot key reads nothing.

use std::fmt;

use crate::schema::Stamp;

/// How many keys it holds. A power of two.
const SLOTS: usize = 1 << 14;
/// Longer keys are not held, so that the cache stays below `SLOTS` times this.
const KEY_BYTES_MAX: usize = 256;

/// A direct-mapped cache: a key has one place, and the last one there wins. Its contents never decide an answer, only
/// whether the index is asked.
pub(crate) struct StampCache {
    slots: Vec<Option<Slot>>,
}

struct Slot {
    /// A copy: what a command's key is cut from, a whole message perhaps, would live as long as the slot.
    key: Box<[u8]>,
    stamp: Stamp,
}

impl StampCache {
    pub(crate) fn new() -> Self {
        Self { slots: std::iter::repeat_with(|| None).take(SLOTS).collect() }
    }

    /// The newest change of `key`, [`Stamp::ABSENT`] if it is known to have none; `None` if nothing is known.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Stamp> {
        let slot = self.slots.get(place(key))?.as_ref()?;
        (*slot.key == *key).then_some(slot.stamp)
    }

    pub(crate) fn set(&mut self, key: &[u8], stamp: Stamp) {
        if key.len() > KEY_BYTES_MAX {
            return;
        }
        match self.slots.get_mut(place(key)) {
            Some(Some(slot)) if *slot.key == *key => slot.stamp = stamp,
            Some(slot) => *slot = Some(Slot { key: key.into(), stamp }),
            None => {}
        }
    }
}

impl fmt::Debug for StampCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StampCache").field("slots", &SLOTS).finish()
    }
}

/// FNV-1a, folded: no randomness, and nobody depends on its spread for more than speed.
fn place(key: &[u8]) -> usize {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from((hash ^ (hash >> 32)) & (SLOTS as u64 - 1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::schema::Rev;

    #[test]
    fn it_holds_what_was_set_last_and_no_long_keys() {
        let stamp = Stamp::deletion(Rev { main: 2, sub: 0 });
        let (key, long) = (Bytes::from("k"), Bytes::from(vec![b'k'; KEY_BYTES_MAX + 1]));
        let mut cache = StampCache::new();
        assert_eq!(cache.get(b"k"), None);
        cache.set(&key, Stamp::ABSENT);
        assert_eq!(cache.get(b"k"), Some(Stamp::ABSENT));
        cache.set(&key, stamp);
        cache.set(&long, stamp);
        assert_eq!(cache.get(b"k"), Some(stamp));
        assert_eq!(cache.get(&long), None);
    }
}
