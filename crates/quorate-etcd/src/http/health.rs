//! `/health`: may clients be sent here?

use http::{Response, StatusCode};
use quorate_proto::etcdserverpb::{AlarmType, RangeRequest};

use super::{NOSNIFF, TEXT, answer, query::Query};
use crate::{
    backend::{Backend, ServerError},
    errors::status_of,
    front::Front,
    grpc::body::ReplyBody,
    handle::kv,
};

/// Alarms first, then the leader, then what the member says of itself, then a read. `exclude=NAME` ignores an alarm; `serializable=true` asks only this member.
pub(super) async fn health<B: Backend>(front: &Front<B>, query: &Query<'_>) -> Response<ReplyBody> {
    match fault(front, query).await {
        None => {
            front.metrics.health_successes.increment();
            let mut healthy = answer(StatusCode::OK, TEXT, r#"{"health":"true","reason":""}"#);
            // Of etcd's words only errors forbid to look for another type.
            healthy.headers_mut().remove(NOSNIFF);
            healthy
        }
        Some(reason) => {
            front.metrics.health_failures.increment();
            let body = format!("{{\"health\":\"false\",\"reason\":\"{}\"}}\n", escape(&reason));
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, body)
        }
    }
}

/// Why clients should go elsewhere.
async fn fault<B: Backend>(front: &Front<B>, query: &Query<'_>) -> Option<String> {
    let serializable = query.says("serializable", "true");
    match alarms(front) {
        Err(error) => return Some(range_error(&error)),
        Ok(alarms) => {
            let raised = alarms.into_iter().find(|kind| !query.says("exclude", kind.as_str_name()));
            if let Some(kind) = raised {
                return Some(alarm_reason(kind).to_owned());
            }
        }
    }
    if !serializable && front.backend.leaderless_for().is_some() {
        return Some("RAFT NO LEADER".to_owned());
    }
    // What the member says of itself: a read would wait for what never comes.
    if !serializable && let Some(error) = front.backend.status().errors.into_iter().next() {
        return Some(error);
    }
    read(front, serializable).await.err().map(|error| range_error(&error))
}

/// The kinds of the raised alarms.
pub(super) fn alarms<B: Backend>(front: &Front<B>) -> Result<Vec<AlarmType>, ServerError> {
    let alarms = front.backend.reader().alarms()?;
    let kind = |raw| AlarmType::try_from(raw).unwrap_or(AlarmType::None);
    Ok(alarms.into_iter().map(|alarm| kind(alarm.alarm)).collect())
}

/// Reads a key, to see that it can be done.
pub(super) async fn read<B: Backend>(
    front: &Front<B>,
    serializable: bool,
) -> Result<(), ServerError> {
    let request = RangeRequest {
        key: "health".into(),
        limit: 1,
        keys_only: true,
        serializable,
        ..RangeRequest::default()
    };
    kv::range(front, request).await.map(|_| ())
}

fn alarm_reason(kind: AlarmType) -> &'static str {
    match kind {
        AlarmType::Nospace => "ALARM NOSPACE",
        AlarmType::Corrupt => "ALARM CORRUPT",
        AlarmType::None => "ALARM UNKNOWN",
    }
}

fn range_error(error: &ServerError) -> String {
    format!("RANGE ERROR:{}", status_of(error).message())
}

/// A text as the inside of a JSON string.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if control.is_control() => out.push(' '),
            plain => out.push(plain),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stay_inside_their_string() {
        assert_eq!(escape("a \"b\" \\ c\nd"), r#"a \"b\" \\ c d"#);
    }
}
