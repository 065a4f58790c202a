//! Maintenance requests: status, alarms, hashes, defragmentation, handing leadership over.
//!
//! Left out: downgrades.

use quorate_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeInfo, HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest,
    MoveLeaderResponse, StatusRequest, StatusResponse,
};

use crate::{
    backend::{Backend, ServerError},
    front::{Front, proposed},
};

/// Tells the member's state. Answers without a leader, too.
///
/// # Errors
/// [`ServerError::Internal`] when the alarms can't be read.
pub fn status<B: Backend>(
    front: &Front<B>,
    _: StatusRequest,
) -> Result<StatusResponse, ServerError> {
    let status = front.backend.status();
    let reader = front.backend.reader();
    let mut errors = Vec::new();
    if status.leader.is_none() {
        errors.push("etcdserver: no leader".to_owned());
    }
    errors.extend(reader.alarms()?.iter().map(alarm_text));
    errors.extend(status.errors);
    Ok(StatusResponse {
        header: Some(front.header_at(reader.revision())),
        version: front.settings.version.clone(),
        db_size: signed(status.db_size_bytes),
        leader: status.leader.unwrap_or(0),
        raft_index: status.commit_index,
        raft_term: status.raft_term,
        raft_applied_index: status.applied_index,
        errors,
        // What is free in the file is used again: it counts for nothing.
        db_size_in_use: signed(status.db_size_bytes),
        is_learner: status.is_learner,
        storage_version: front.settings.minor_version(),
        db_size_quota: signed(front.settings.quota_backend_bytes),
        downgrade_info: Some(DowngradeInfo::default()),
    })
}

/// Reads, raises or clears alarms. Goes through the log, so that a reading is as new as any before it.
///
/// # Errors
/// Those of a proposal.
pub async fn alarm<B: Backend>(
    front: &Front<B>,
    request: AlarmRequest,
) -> Result<AlarmResponse, ServerError> {
    Ok(proposed!(front, Alarm, request))
}

/// Answers at once: the store gives space back while it runs, so there is nothing to defragment, ever.
///
/// As in etcd the answer has no header.
pub fn defragment(_: DefragmentRequest) -> DefragmentResponse {
    DefragmentResponse { header: None }
}

/// Hands leadership to the member that is named. As in etcd only the leader does it, and the answer has no header.
///
/// # Errors
/// Those of [`Backend::move_leader`].
pub async fn move_leader<B: Backend>(
    front: &Front<B>,
    request: MoveLeaderRequest,
) -> Result<MoveLeaderResponse, ServerError> {
    front.backend.move_leader(request.target_id).await?;
    Ok(MoveLeaderResponse { header: None })
}

/// Hashes the whole replicated state of this member, as it is.
///
/// # Errors
/// [`ServerError::Internal`] when the state can't be read; [`ServerError::TooManyRequests`] when too many wait.
pub async fn hash<B: Backend>(
    front: &Front<B>,
    _: HashRequest,
) -> Result<HashResponse, ServerError> {
    let _open = front.admission.hashes.acquire(front.client, 1)?.await;
    let reader = front.backend.reader();
    let revision = reader.revision();
    let hash = front.in_turn(&mut reader.long_hash()?).await?.hash;
    Ok(HashResponse { header: Some(front.header_at(revision)), hash })
}

/// Hashes the history of this member up to a revision; the same as etcd's over the same history. At the revision of a recent
/// compaction it is what it was before that compaction.
///
/// # Errors
/// Those of [`Reader::hash_kv`](quorate_kv::Reader::hash_kv), and as [`hash`].
pub async fn hash_kv<B: Backend>(
    front: &Front<B>,
    request: HashKvRequest,
) -> Result<HashKvResponse, ServerError> {
    let _open = front.admission.hashes.acquire(front.client, 1)?.await;
    let reader = front.backend.reader();
    let revision = reader.revision();
    let hashed = match front.backend.compaction_hash(request.revision) {
        Some(kept) => kept,
        None => front.in_turn(&mut reader.long_hash_kv(request.revision)?).await?,
    };
    Ok(HashKvResponse {
        header: Some(front.header_at(revision)),
        hash: hashed.hash,
        compact_revision: hashed.compact_revision,
        hash_revision: hashed.hash_revision,
    })
}

/// An alarm as etcd words it in `Status.errors`.
fn alarm_text(alarm: &AlarmMember) -> String {
    let kind = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
    format!("memberID:{} alarm:{kind} ", alarm.member_id)
}

/// etcd tells sizes as signed numbers.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_worded_as_etcd_words_them() {
        let alarm = AlarmMember { member_id: 7, alarm: AlarmType::Nospace.into() };
        assert_eq!(alarm_text(&alarm), "memberID:7 alarm:NOSPACE ");
    }
}
