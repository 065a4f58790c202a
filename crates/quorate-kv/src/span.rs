//! etcd's way to name keys: a key alone, a half-open range, everything from a key on.

/// The keys that a `key` and a `range_end` name together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<'a> {
    start: &'a [u8],
    end: End<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End<'a> {
    /// `start` and nothing else.
    Single,
    /// Everything before this key.
    Before(&'a [u8]),
    /// No end.
    Open,
}

impl<'a> Span<'a> {
    /// An empty `range_end` names `key` alone, one zero byte everything from `key` on, anything else the keys from `key`
    /// up to and without `range_end`, which may be none (etcd points 15 and 16).
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        let end = match range_end {
            [] => End::Single,
            [0] => End::Open,
            end => End::Before(end),
        };
        Self { start: key, end }
    }

    /// The first key it could hold.
    pub fn start(&self) -> &'a [u8] {
        self.start
    }

    /// The one key it holds, if it was made so.
    pub fn single(&self) -> Option<&'a [u8]> {
        (self.end == End::Single).then_some(self.start)
    }

    /// The first key that lies behind it; `None` without an end, and for a single key.
    pub fn end(&self) -> Option<&'a [u8]> {
        match self.end {
            End::Before(end) => Some(end),
            End::Single | End::Open => None,
        }
    }

    /// Whether `key` lies in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self.end {
            End::Single => key == self.start,
            End::Before(end) => self.start <= key && key < end,
            End::Open => self.start <= key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_hold_what_etcd_says() {
        assert!(Span::new(b"a", b"").contains(b"a"));
        assert!(!Span::new(b"a", b"").contains(b"a\0"));
        assert!(Span::new(b"a", b"c").contains(b"b"));
        assert!(!Span::new(b"a", b"c").contains(b"c"));
        assert!(Span::new(b"a", b"\0").contains(b"\xff"));
        assert!(!Span::new(b"b", b"a").contains(b"b"));
    }
}
