//! The first frame each way: who is who, before anything else is believed.
//!
//! The dialling side says [`Hello`]; the accepting side answers [`Welcome`] with its own numbers and a verdict, so that
//! both logs name both sides when they do not fit. Numbers are little endian.
//!
//! ```text
//! Hello    magic "QUORATEp" | version u16 | cluster u64 | from u64 | card | to u64 | lane u8
//! Welcome  magic "QUORATEp" | version u16 | cluster u64 | from u64 | card | verdict u8
//! card     directory u64 | newest version of commands u8
//! ```
//!
//! What stands before the card is the same in every version, so that sides of different versions can tell each other so.
//!
//! It proves nothing about who a peer is: that is TLS's part, which is not there yet.

use std::fmt;

use quorate_node::{Admission, DirectoryId, MemberCard};
use quorate_raft::NodeId;

/// The version of handshake and messages that this code speaks. A member speaks with its own version only.
pub const PROTOCOL_VERSION: u16 = 2;

/// Limit for a handshake frame: nobody unknown makes us allocate more.
pub const HANDSHAKE_BYTES_MAX: usize = 64;

const MAGIC: [u8; 8] = *b"QUORATEp";

/// Which of the two connections between a pair this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Votes, heartbeats, reads: small, and never behind bulk.
    Urgent,
    /// Appends, forwarded proposals, snapshots.
    Bulk,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Urgent => "urgent",
            Self::Bulk => "bulk",
        })
    }
}

/// What the dialling side says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The protocol it speaks.
    pub version: u16,
    /// Its cluster.
    pub cluster_id: u64,
    /// Its own id.
    pub from: NodeId,
    /// What it says of itself.
    pub card: MemberCard,
    /// Whom it means to reach.
    pub to: NodeId,
    /// What the connection is for.
    pub lane: Lane,
}

/// What the accepting side answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol it speaks.
    pub version: u16,
    /// Its cluster.
    pub cluster_id: u64,
    /// Its own id.
    pub from: NodeId,
    /// What it says of itself.
    pub card: MemberCard,
    /// Whether it takes the connection.
    pub verdict: Verdict,
}

/// Whether a connection is taken, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Messages may follow.
    Accepted,
    /// The sides belong to different clusters.
    WrongCluster,
    /// The dialled address belongs to another member.
    WrongTarget,
    /// The caller is no member that is known here.
    UnknownSender,
    /// The sides speak different versions.
    WrongVersion,
    /// The caller's data directory is another one than that of the member whose id it says.
    OtherDirectory,
    /// Nobody is taken now: this member can't remember whom it meets.
    Unavailable,
}

/// A handshake frame that says nothing we understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Too short or too long.
    #[error("a handshake of {0} bytes")]
    Length(usize),
    /// It is no member of ours that speaks here.
    #[error("the handshake does not begin with this protocol's magic bytes")]
    Magic,
    /// It speaks another version; nothing behind its opening can be read.
    #[error(
        "member {from:x} of cluster {cluster_id:x} speaks version {version}, this one {PROTOCOL_VERSION}"
    )]
    Version {
        /// The version.
        version: u16,
        /// The cluster that it says.
        cluster_id: u64,
        /// The id that it says.
        from: u64,
    },
    /// A number that stands for nothing.
    #[error("handshake field {field} is {value}")]
    Value {
        /// Which.
        field: &'static str,
        /// What it holds.
        value: u8,
    },
}

impl Hello {
    /// Its bytes.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = opening(self.version, self.cluster_id, self.from, self.card);
        bytes.extend_from_slice(&self.to.0.to_le_bytes());
        bytes.push(match self.lane {
            Lane::Urgent => 1,
            Lane::Bulk => 2,
        });
        bytes
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Every input that [`Hello::encode`] does not write in this version is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let mut fields = Fields::open(bytes)?;
        let (version, cluster_id, from) = fields.opening()?;
        let card = fields.card()?;
        let to = NodeId(u64::from_le_bytes(fields.take()?));
        let lane = match fields.take()? {
            [1] => Lane::Urgent,
            [2] => Lane::Bulk,
            [value] => return Err(HandshakeError::Value { field: "lane", value }),
        };
        fields.close()?;
        Ok(Self { version, cluster_id, from, card, to, lane })
    }
}

impl Welcome {
    /// Its bytes.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = opening(self.version, self.cluster_id, self.from, self.card);
        bytes.push(match self.verdict {
            Verdict::Accepted => 0,
            Verdict::WrongCluster => 1,
            Verdict::WrongTarget => 2,
            Verdict::UnknownSender => 3,
            Verdict::WrongVersion => 4,
            Verdict::OtherDirectory => 5,
            Verdict::Unavailable => 6,
        });
        bytes
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Every input that [`Welcome::encode`] does not write in this version is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let mut fields = Fields::open(bytes)?;
        let (version, cluster_id, from) = fields.opening()?;
        let card = fields.card()?;
        let verdict = match fields.take()? {
            [0] => Verdict::Accepted,
            [1] => Verdict::WrongCluster,
            [2] => Verdict::WrongTarget,
            [3] => Verdict::UnknownSender,
            [4] => Verdict::WrongVersion,
            [5] => Verdict::OtherDirectory,
            [6] => Verdict::Unavailable,
            [value] => return Err(HandshakeError::Value { field: "verdict", value }),
        };
        fields.close()?;
        Ok(Self { version, cluster_id, from, card, verdict })
    }
}

/// What a member that is `me` in `cluster_id`, knows the members `is_member` and admits whom `admits` says answers to
/// `hello`.
pub fn judge(
    hello: &Hello,
    me: NodeId,
    cluster_id: u64,
    is_member: impl Fn(NodeId) -> bool,
    admits: impl FnOnce(NodeId, MemberCard) -> Admission,
) -> Verdict {
    if hello.cluster_id != cluster_id {
        Verdict::WrongCluster
    } else if hello.to != me {
        Verdict::WrongTarget
    } else if !is_member(hello.from) {
        Verdict::UnknownSender
    } else {
        match admits(hello.from, hello.card) {
            Admission::Admitted => Verdict::Accepted,
            Admission::OtherDirectory => Verdict::OtherDirectory,
            Admission::Unavailable => Verdict::Unavailable,
        }
    }
}

fn opening(version: u16, cluster_id: u64, from: NodeId, card: MemberCard) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&cluster_id.to_le_bytes());
    bytes.extend_from_slice(&from.0.to_le_bytes());
    bytes.extend_from_slice(&card.directory.0.to_le_bytes());
    bytes.push(card.command_version);
    bytes
}

/// The rest of a handshake, and its whole length for errors.
struct Fields<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Fields<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, HandshakeError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(HandshakeError::Magic)?;
        Ok(Self { rest, length: bytes.len() })
    }

    /// What is the same in every version.
    fn opening(&mut self) -> Result<(u16, u64, NodeId), HandshakeError> {
        let version = u16::from_le_bytes(self.take()?);
        let cluster_id = u64::from_le_bytes(self.take()?);
        let from = u64::from_le_bytes(self.take()?);
        if version == PROTOCOL_VERSION {
            Ok((version, cluster_id, NodeId(from)))
        } else {
            Err(HandshakeError::Version { version, cluster_id, from })
        }
    }

    fn card(&mut self) -> Result<MemberCard, HandshakeError> {
        let directory = DirectoryId(u64::from_le_bytes(self.take()?));
        let [command_version] = self.take()?;
        Ok(MemberCard { directory, command_version })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], HandshakeError> {
        let (field, rest) =
            self.rest.split_first_chunk().ok_or(HandshakeError::Length(self.length))?;
        self.rest = rest;
        Ok(*field)
    }

    fn close(self) -> Result<(), HandshakeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(HandshakeError::Length(self.length)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: MemberCard = MemberCard { directory: DirectoryId(0xd1), command_version: 3 };

    fn hello() -> Hello {
        Hello {
            version: PROTOCOL_VERSION,
            cluster_id: 0xfeed,
            from: NodeId(1),
            card: CARD,
            to: NodeId(2),
            lane: Lane::Bulk,
        }
    }

    #[test]
    fn both_sides_read_what_the_other_wrote() {
        for lane in [Lane::Urgent, Lane::Bulk] {
            let hello = Hello { lane, ..hello() };
            assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        }
        for verdict in [
            Verdict::Accepted,
            Verdict::WrongCluster,
            Verdict::WrongTarget,
            Verdict::UnknownSender,
            Verdict::WrongVersion,
            Verdict::OtherDirectory,
            Verdict::Unavailable,
        ] {
            let version = PROTOCOL_VERSION;
            let (cluster_id, from, card) = (1, NodeId(2), CARD);
            let welcome = Welcome { version, cluster_id, from, card, verdict };
            assert_eq!(Welcome::decode(&welcome.encode()), Ok(welcome));
        }
    }

    #[test]
    fn every_other_length_is_refused() {
        let good = hello().encode();
        for length in 0..good.len() {
            assert!(Hello::decode(&good[..length]).is_err());
        }
        let longer = [good, vec![0]].concat();
        assert_eq!(Hello::decode(&longer), Err(HandshakeError::Length(longer.len())));
    }

    #[test]
    fn each_thing_that_does_not_fit_has_its_verdict() {
        let known = |node| node == NodeId(1);
        let admits = |_, card: MemberCard| match card.directory {
            DirectoryId(0xd1) => Admission::Admitted,
            DirectoryId(0) => Admission::Unavailable,
            DirectoryId(_) => Admission::OtherDirectory,
        };
        let judge = |hello| judge(&hello, NodeId(2), 0xfeed, known, admits);
        assert_eq!(judge(hello()), Verdict::Accepted);
        assert_eq!(judge(Hello { cluster_id: 1, ..hello() }), Verdict::WrongCluster);
        assert_eq!(judge(Hello { to: NodeId(3), ..hello() }), Verdict::WrongTarget);
        assert_eq!(judge(Hello { from: NodeId(7), ..hello() }), Verdict::UnknownSender);
        let card = MemberCard { directory: DirectoryId(0xd2), ..CARD };
        assert_eq!(judge(Hello { card, ..hello() }), Verdict::OtherDirectory);
        let card = MemberCard { directory: DirectoryId(0), ..CARD };
        assert_eq!(judge(Hello { card, ..hello() }), Verdict::Unavailable);
    }

    #[test]
    fn another_version_is_told_whatever_stands_behind_its_opening() {
        let mut bytes = Hello { version: 7, ..hello() }.encode();
        for length in [26, bytes.len(), bytes.len() + 9] {
            bytes.resize(length, 0);
            let expected = HandshakeError::Version { version: 7, cluster_id: 0xfeed, from: 1 };
            assert_eq!(Hello::decode(&bytes), Err(expected));
            assert_eq!(Welcome::decode(&bytes), Err(expected));
        }
    }
}
