//! The envelope of a command in the log: who proposed it, and under which number.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version of the envelope: 1 |
//! | 8 | origin: the node that proposed it, little endian |
//! | 8 | sequence: the origin's number for it, little endian |
//! | rest | the command |
//!
//! The origin answers its client when it applies the entry. Sequences start at a random number in each run of a process,
//! so that an entry of an earlier run is not taken for one of this run.

use bytes::{BufMut, BytesMut};
use quorate_raft::NodeId;

/// The version written now.
pub const ENVELOPE_VERSION: u8 = 1;
/// Size of what stands before the command, in bytes.
pub const ENVELOPE_BYTES: usize = 17;

/// A command with its envelope opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The node that proposed it.
    pub origin: NodeId,
    /// The origin's number for it.
    pub sequence: u64,
    /// What the state machine applies.
    pub command: &'a [u8],
}

/// Why an entry's content is not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Shorter than the envelope itself.
    #[error("proposal of {bytes} bytes is shorter than its envelope of {ENVELOPE_BYTES}")]
    TooShort {
        /// How long it is.
        bytes: usize,
    },
    /// Written by a later version of this program.
    #[error("proposal envelope has version {version}, this program knows up to {ENVELOPE_VERSION}")]
    UnknownVersion {
        /// The version found.
        version: u8,
    },
}

impl<'a> Envelope<'a> {
    /// Begins a sealed proposal; the caller appends the command.
    pub fn begin(origin: NodeId, sequence: u64, out: &mut BytesMut) {
        out.put_u8(ENVELOPE_VERSION);
        out.put_u64_le(origin.0);
        out.put_u64_le(sequence);
    }

    /// Opens a sealed proposal.
    ///
    /// # Errors
    /// [`EnvelopeError`] says what it is instead.
    pub fn open(payload: &'a [u8]) -> Result<Self, EnvelopeError> {
        let too_short = EnvelopeError::TooShort { bytes: payload.len() };
        let (&version, rest) = payload.split_first().ok_or(too_short)?;
        if version != ENVELOPE_VERSION {
            return Err(EnvelopeError::UnknownVersion { version });
        }
        let (origin, rest) = rest.split_first_chunk().ok_or(too_short)?;
        let (sequence, command) = rest.split_first_chunk().ok_or(too_short)?;
        let origin = NodeId(u64::from_le_bytes(*origin));
        Ok(Self { origin, sequence: u64::from_le_bytes(*sequence), command })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_was_sealed() {
        let mut sealed = BytesMut::new();
        Envelope::begin(NodeId(7), u64::MAX, &mut sealed);
        assert_eq!(sealed.len(), ENVELOPE_BYTES);
        sealed.put_slice(b"command");
        let opened = Envelope::open(&sealed).unwrap();
        assert_eq!(opened, Envelope { origin: NodeId(7), sequence: u64::MAX, command: b"command" });
    }

    #[test]
    fn refuses_what_is_none() {
        assert_eq!(Envelope::open(&[]), Err(EnvelopeError::TooShort { bytes: 0 }));
        assert_eq!(Envelope::open(&[1; 16]), Err(EnvelopeError::TooShort { bytes: 16 }));
        assert_eq!(Envelope::open(&[9; 17]), Err(EnvelopeError::UnknownVersion { version: 9 }));
    }
}
