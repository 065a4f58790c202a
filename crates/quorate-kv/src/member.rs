//! Which data directory each member of the group speaks from, as the group agreed on it. The first that is proposed for a
//! member stays: whoever comes from another one has lost what the member promised.
//!
//! Clients see nothing of it, and no revision counts it.

use std::ops::Bound;

use bytes::{Buf, Bytes};
use quorate_engine::{Direction, View};

use crate::{
    Error, lease,
    schema::{self, MEMBER},
    staged::Staged,
};

/// The data directory of one member.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct MemberDirectory {
    /// The member's id.
    #[prost(uint64, tag = "1")]
    pub member: u64,
    /// The number that its directory drew at its first start.
    #[prost(fixed64, tag = "2")]
    pub directory: u64,
}

/// The content of [`Command::MemberDirectories`](crate::Command::MemberDirectories).
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemberDirectories {
    /// What the proposer knows.
    #[prost(message, repeated, tag = "1")]
    pub members: Vec<MemberDirectory>,
}

/// Notes the directories of members that had none. Whether there were any.
pub(crate) fn note(staged: &mut Staged, known: &MemberDirectories) -> Result<bool, Error> {
    let mut any = false;
    for MemberDirectory { member, directory } in &known.members {
        let key = Bytes::copy_from_slice(&member.to_be_bytes());
        if staged.get(MEMBER, &key)?.is_none() {
            staged.put(MEMBER, key, Bytes::copy_from_slice(&directory.to_be_bytes()));
            any = true;
        }
    }
    Ok(any)
}

/// All that is agreed on, by ascending member.
pub(crate) fn all(view: &dyn View) -> Result<Vec<MemberDirectory>, Error> {
    let mut members = Ok(Vec::new());
    let everything = (Bound::Unbounded, Bound::Unbounded);
    view.scan(MEMBER, everything, Direction::Forward, &mut |key, value| {
        let parsed = parse(key, value).ok_or_else(|| schema::malformed(MEMBER, "entry", key));
        lease::push(&mut members, parsed)
    })?;
    members
}

fn parse(mut key: &[u8], mut value: &[u8]) -> Option<MemberDirectory> {
    let (member, directory) = (key.try_get_u64().ok()?, value.try_get_u64().ok()?);
    (key.is_empty() && value.is_empty()).then_some(MemberDirectory { member, directory })
}
