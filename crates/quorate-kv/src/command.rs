//! What may stand in the log: one command an entry.
//!
//! A command is one version byte, then a protobuf message that has the field numbers of etcd's `InternalRaftRequest`
//! and holds exactly one of them. Each is written in the first version that has it, so that members of earlier versions
//! can apply what they know; a decoder stays for every version ever written, since a log is replayed by later programs.
//! Format: `docs/formats/kv.md`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{Message, encoding::message};
use quorate_proto::etcdserverpb as pb;

use crate::{Error, MemberDirectories};

/// The newest version that [`Command::encode`] writes and [`Command::decode`] reads.
pub const COMMAND_VERSION: u8 = 2;

/// The first version: every member of any version can apply what it has.
pub const COMMAND_VERSION_FIRST: u8 = 1;

/// One change to the key space.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Sets a key.
    Put(pb::PutRequest),
    /// Deletes a range of keys.
    DeleteRange(pb::DeleteRangeRequest),
    /// Compares, then runs one of two lists of operations.
    Txn(pb::TxnRequest),
    /// Forgets history below a revision.
    Compaction(pb::CompactionRequest),
    /// Makes a lease. The id has been chosen: 0 is refused.
    LeaseGrant(pb::LeaseGrantRequest),
    /// Ends a lease and deletes its keys.
    LeaseRevoke(pb::LeaseRevokeRequest),
    /// Notes how much of some leases' time is left.
    LeaseCheckpoint(pb::LeaseCheckpointRequest),
    /// Reads, raises or clears alarms.
    Alarm(pb::AlarmRequest),
    /// Notes which data directories members speak from. From version 2 on.
    MemberDirectories(MemberDirectories),
}

/// The same on the wire. Field numbers as in etcd's `InternalRaftRequest`: 1, 2 and from 100 on are its header, 3 is a
/// range and never written, 1000 and above are authentication. From 100,000 on they are ours.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(oneof = "Kind", tags = "4, 5, 6, 7, 8, 9, 10, 11, 100000")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "4")]
    Put(pb::PutRequest),
    #[prost(message, tag = "5")]
    DeleteRange(pb::DeleteRangeRequest),
    #[prost(message, tag = "6")]
    Txn(pb::TxnRequest),
    #[prost(message, tag = "7")]
    Compaction(pb::CompactionRequest),
    #[prost(message, tag = "8")]
    LeaseGrant(pb::LeaseGrantRequest),
    #[prost(message, tag = "9")]
    LeaseRevoke(pb::LeaseRevokeRequest),
    #[prost(message, tag = "10")]
    Alarm(pb::AlarmRequest),
    #[prost(message, tag = "11")]
    LeaseCheckpoint(pb::LeaseCheckpointRequest),
    #[prost(message, tag = "100000")]
    MemberDirectories(MemberDirectories),
}

impl Command {
    /// The first version that has this command: a member that knows it can apply the command.
    pub fn version(&self) -> u8 {
        match self {
            Self::Put(_)
            | Self::DeleteRange(_)
            | Self::Txn(_)
            | Self::Compaction(_)
            | Self::LeaseGrant(_)
            | Self::LeaseRevoke(_)
            | Self::LeaseCheckpoint(_)
            | Self::Alarm(_) => COMMAND_VERSION_FIRST,
            Self::MemberDirectories(_) => 2,
        }
    }

    /// The version that a member must know to apply an encoded command; of one later than [`COMMAND_VERSION`] nothing else is
    /// read. `None`: these bytes are no command.
    pub fn version_of(bytes: &Bytes) -> Option<u8> {
        match bytes.first() {
            Some(version) if *version > COMMAND_VERSION => Some(*version),
            _ => Self::decode_shared(bytes).ok().map(|command| command.version()),
        }
    }

    /// The bytes for the log, in the first version that has this command.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(1 + self.record_len());
        out.put_u8(self.version());
        match self {
            Self::Put(request) => message::encode(4, request, &mut out),
            Self::DeleteRange(request) => message::encode(5, request, &mut out),
            Self::Txn(request) => message::encode(6, request, &mut out),
            Self::Compaction(request) => message::encode(7, request, &mut out),
            Self::LeaseGrant(request) => message::encode(8, request, &mut out),
            Self::LeaseRevoke(request) => message::encode(9, request, &mut out),
            Self::Alarm(request) => message::encode(10, request, &mut out),
            Self::LeaseCheckpoint(request) => message::encode(11, request, &mut out),
            Self::MemberDirectories(known) => message::encode(100_000, known, &mut out),
        }
        out.freeze()
    }

    /// Reads what [`Command::encode`] of this or any earlier version wrote.
    ///
    /// # Errors
    /// [`Error::CommandVersion`] for a version that is not known, [`Error::CommandMalformed`] for bytes that are no
    /// command.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Self::decode_from(bytes.first().copied(), bytes.get(1..).unwrap_or_default())
    }

    /// As [`Command::decode`]; keys and values are slices of `bytes`.
    fn decode_shared(bytes: &Bytes) -> Result<Self, Error> {
        Self::decode_from(bytes.first().copied(), bytes.slice(bytes.len().min(1)..))
    }

    fn decode_from(version: Option<u8>, record: impl Buf) -> Result<Self, Error> {
        match version {
            Some(version @ COMMAND_VERSION_FIRST..=COMMAND_VERSION) => {
                Self::decode_record(record).and_then(|command| command.check_version(version))
            }
            other => {
                Err(Error::CommandVersion { found: other.unwrap_or(0), supported: COMMAND_VERSION })
            }
        }
    }

    /// Size of the message behind the version byte, as a client's request is measured against its limit.
    ///
    /// Source: etcd point 51: the whole request counts, not its value.
    pub fn record_len(&self) -> usize {
        match self {
            Self::Put(request) => message::encoded_len(4, request),
            Self::DeleteRange(request) => message::encoded_len(5, request),
            Self::Txn(request) => message::encoded_len(6, request),
            Self::Compaction(request) => message::encoded_len(7, request),
            Self::LeaseGrant(request) => message::encoded_len(8, request),
            Self::LeaseRevoke(request) => message::encoded_len(9, request),
            Self::Alarm(request) => message::encoded_len(10, request),
            Self::LeaseCheckpoint(request) => message::encoded_len(11, request),
            Self::MemberDirectories(known) => message::encoded_len(100_000, known),
        }
    }

    /// A command is in no version before the one that brought it.
    fn check_version(self, version: u8) -> Result<Self, Error> {
        if self.version() <= version {
            return Ok(self);
        }
        Err(Error::CommandMalformed { what: format!("version {version} has no such command") })
    }

    fn decode_record(record: impl Buf) -> Result<Self, Error> {
        let record = Record::decode(record)
            .map_err(|error| Error::CommandMalformed { what: error.to_string() })?;
        match record.kind {
            Some(Kind::Put(request)) => Ok(Self::Put(request)),
            Some(Kind::DeleteRange(request)) => Ok(Self::DeleteRange(request)),
            Some(Kind::Txn(request)) => Ok(Self::Txn(request)),
            Some(Kind::Compaction(request)) => Ok(Self::Compaction(request)),
            Some(Kind::LeaseGrant(request)) => Ok(Self::LeaseGrant(request)),
            Some(Kind::LeaseRevoke(request)) => Ok(Self::LeaseRevoke(request)),
            Some(Kind::Alarm(request)) => Ok(Self::Alarm(request)),
            Some(Kind::LeaseCheckpoint(request)) => Ok(Self::LeaseCheckpoint(request)),
            Some(Kind::MemberDirectories(known)) => Ok(Self::MemberDirectories(known)),
            None => Err(Error::CommandMalformed { what: "no known command in it".to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemberDirectory;

    fn commands() -> Vec<Command> {
        vec![
            Command::Put(pb::PutRequest {
                key: "k".into(),
                value: "v".into(),
                ..Default::default()
            }),
            Command::DeleteRange(pb::DeleteRangeRequest { key: "k".into(), ..Default::default() }),
            Command::Txn(pb::TxnRequest::default()),
            Command::Compaction(pb::CompactionRequest { revision: 3, physical: true }),
            Command::LeaseGrant(pb::LeaseGrantRequest { ttl: 5, id: -7 }),
            Command::LeaseRevoke(pb::LeaseRevokeRequest { id: 7 }),
            Command::LeaseCheckpoint(pb::LeaseCheckpointRequest {
                checkpoints: vec![pb::LeaseCheckpoint { id: 7, remaining_ttl: 2 }],
            }),
            Command::Alarm(pb::AlarmRequest { action: 1, member_id: 9, alarm: 1 }),
            Command::MemberDirectories(MemberDirectories {
                members: vec![MemberDirectory { member: 9, directory: u64::MAX }],
            }),
        ]
    }

    #[test]
    fn every_command_survives_its_encoding() {
        for command in commands() {
            let bytes = command.encode();
            assert_eq!(bytes.len(), 1 + command.record_len());
            assert_eq!(bytes.first(), Some(&command.version()));
            assert_eq!(Command::decode(&bytes).unwrap(), command);
            let mut bytes = bytes.to_vec();
            bytes[0] = command.version() - 1;
            assert!(Command::decode(&bytes).is_err(), "in a version that has it not: {command:?}");
        }
    }

    #[test]
    fn the_version_that_a_command_needs_is_told_without_applying_it() {
        for command in commands() {
            assert_eq!(Command::version_of(&command.encode()), Some(command.version()));
        }
        let of = |bytes: &'static [u8]| Command::version_of(&Bytes::from_static(bytes));
        assert_eq!(of(&[9, 1, 2, 3]), Some(9));
        for garbage in [&[][..], &[0], &[1], &[1, 0x22, 0xff]] {
            assert_eq!(of(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn unknown_versions_and_garbage_are_errors() {
        assert!(matches!(Command::decode(&[]), Err(Error::CommandVersion { found: 0, .. })));
        assert!(matches!(Command::decode(&[9, 1]), Err(Error::CommandVersion { found: 9, .. })));
        assert!(matches!(Command::decode(&[1]), Err(Error::CommandMalformed { .. })));
        assert!(matches!(Command::decode(&[1, 0x22, 0xff]), Err(Error::CommandMalformed { .. })));
    }
}
