//! Alarms: replicated facts about members that make the whole cluster refuse changes, until somebody clears them by hand
//! (etcd points 43 and 44). Space: whatever takes space; corruption: every change, also deletes and compactions.
//!
//! Source: etcd `server/etcdserver/api/v3alarm/alarms.go`, `server/etcdserver/apply/apply.go`.

use std::ops::Bound;

use bytes::{Buf, Bytes};
use quorate_engine::{Direction, View};
use quorate_proto::etcdserverpb::{self as pb, AlarmMember, AlarmType, alarm_request::AlarmAction};

use crate::{
    Error, RequestError, lease,
    schema::{self, ALARM},
    staged::Staged,
};

/// Which kinds of alarm are raised by anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Raised {
    pub nospace: bool,
    pub corrupt: bool,
}

impl Raised {
    pub(crate) fn load(view: &dyn View) -> Result<Self, Error> {
        let alarms = all(view)?;
        let any = |kind: AlarmType| alarms.iter().any(|alarm| alarm.alarm == kind as i32);
        Ok(Self { nospace: any(AlarmType::Nospace), corrupt: any(AlarmType::Corrupt) })
    }

    pub(crate) fn refuse_if_corrupt(self) -> Result<(), RequestError> {
        if self.corrupt { Err(RequestError::Corrupt) } else { Ok(()) }
    }

    pub(crate) fn refuse_if_full(self) -> Result<(), RequestError> {
        if self.nospace { Err(RequestError::NoSpace) } else { Ok(()) }
    }
}

/// Reads, raises or clears alarms, and gives those that the answer names. An alarm raised twice, or cleared though it
/// is not raised, changes nothing. Kinds and actions that do not exist do nothing.
pub(crate) fn apply(
    staged: &mut Staged,
    request: pb::AlarmRequest,
) -> Result<Vec<AlarmMember>, Error> {
    let alarm = AlarmMember { member_id: request.member_id, alarm: request.alarm };
    let key = alarm_key(alarm);
    let known = matches!(request.alarm(), AlarmType::Nospace | AlarmType::Corrupt);
    match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => {
            let mut alarms = all(staged)?;
            alarms.retain(|raised| request.alarm == 0 || raised.alarm == request.alarm);
            Ok(alarms)
        }
        Ok(AlarmAction::Activate) if known => {
            staged.put(ALARM, key, Bytes::new());
            Ok(vec![alarm])
        }
        Ok(AlarmAction::Deactivate) if staged.get(ALARM, &key)?.is_some() => {
            staged.delete(ALARM, key);
            Ok(vec![alarm])
        }
        Ok(AlarmAction::Activate | AlarmAction::Deactivate) | Err(_) => Ok(Vec::new()),
    }
}

/// The raised alarms, by kind and member.
pub(crate) fn all(view: &dyn View) -> Result<Vec<AlarmMember>, Error> {
    let mut alarms = Ok(Vec::new());
    let everything = (Bound::Unbounded, Bound::Unbounded);
    view.scan(ALARM, everything, Direction::Forward, &mut |key, _| {
        lease::push(&mut alarms, parse(key).ok_or_else(|| schema::malformed(ALARM, "key", key)))
    })?;
    alarms
}

fn alarm_key(alarm: AlarmMember) -> Bytes {
    [&alarm.alarm.to_be_bytes()[..], &alarm.member_id.to_be_bytes()].concat().into()
}

fn parse(mut key: &[u8]) -> Option<AlarmMember> {
    let alarm = key.try_get_i32().ok()?;
    let member_id = key.try_get_u64().ok()?;
    key.is_empty().then_some(AlarmMember { member_id, alarm })
}
