//! How the endpoints' answers are written.

use std::time::Duration;

use quorate_proto::etcdserverpb::{HashKvResponse, StatusResponse};
use serde::Serialize;

use crate::{
    ctl::{
        go, json,
        print::{Answer, Lines, Table},
    },
    output,
};

/// Whether an endpoint is healthy.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) endpoint: String,
    pub(super) took: Duration,
    /// Why not.
    pub(super) error: Option<String>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Healths(pub(super) Vec<Health>);

/// What an endpoint answered.
#[derive(Debug)]
pub(super) struct Asked<T> {
    pub(super) endpoint: String,
    pub(super) answer: T,
}

/// The state of all endpoints.
#[derive(Debug)]
pub(super) struct Statuses(pub(super) Vec<Asked<StatusResponse>>);

/// The hashes of all endpoints.
#[derive(Debug)]
pub(super) struct Hashes(pub(super) Vec<Asked<HashKvResponse>>);

impl Answer for Healths {
    fn simple(&self, out: &mut Lines) {
        for health in &self.0 {
            let endpoint = &health.endpoint;
            match &health.error {
                None => out.line(format_args!(
                    "{endpoint} is healthy: successfully committed proposal: took = {}",
                    health.took()
                )),
                Some(error) => output::complain(format_args!(
                    "{endpoint} is unhealthy: failed to commit proposal: {error}"
                )),
            }
        }
    }

    fn fields(&self, out: &mut Lines) {
        for health in &self.0 {
            out.quoted("Endpoint", health.endpoint.as_bytes());
            out.field("Health", health.error.is_none());
            out.field("Took", health.took());
            out.field("Error", health.error.as_deref().unwrap_or_default());
            out.line("");
        }
    }

    fn json(&self) -> impl Serialize {
        let health = |health: &Health| HealthJson {
            endpoint: health.endpoint.clone(),
            health: health.error.is_none(),
            took: health.took(),
            error: health.error.clone(),
        };
        self.0.iter().map(health).collect::<Vec<_>>()
    }

    fn table(&self) -> Option<Table> {
        let row = |health: &Health| {
            vec![
                health.endpoint.clone(),
                health.error.is_none().to_string(),
                health.took(),
                health.error.clone().unwrap_or_default(),
            ]
        };
        Some(Table::new(&["ENDPOINT", "HEALTH", "TOOK", "ERROR"], self.0.iter().map(row)))
    }
}

#[derive(Serialize)]
struct HealthJson {
    endpoint: String,
    health: bool,
    took: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Asked<StatusResponse> {
    fn row(&self) -> Vec<String> {
        let status = &self.answer;
        let member = status.header.as_ref().map_or(0, |header| header.member_id);
        let downgrade = status.downgrade_info.clone().unwrap_or_default();
        vec![
            self.endpoint.clone(),
            format!("{member:x}"),
            status.version.clone(),
            status.storage_version.clone(),
            size(status.db_size),
            size(status.db_size_in_use),
            self.percent_free(),
            size(status.db_size_quota),
            (status.leader == member).to_string(),
            status.is_learner.to_string(),
            status.raft_term.to_string(),
            status.raft_index.to_string(),
            status.raft_applied_index.to_string(),
            status.errors.join(", "),
            downgrade.target_version,
            downgrade.enabled.to_string(),
        ]
    }

    /// How much of the size on disk is not in use.
    fn percent_free(&self) -> String {
        let (size, used) = (self.answer.db_size, self.answer.db_size_in_use);
        let percent = used.saturating_mul(100).checked_div(size).map_or(0, |used| 100 - used);
        format!("{percent}%")
    }
}

/// As Go shows a list that nothing was added to.
fn none_is_null<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn size(bytes: i64) -> String {
    go::size(u64::try_from(bytes).unwrap_or_default())
}

impl Answer for Statuses {
    fn simple(&self, out: &mut Lines) {
        self.0.iter().for_each(|asked| out.line(asked.row().join(", ")));
    }

    fn fields(&self, out: &mut Lines) {
        for Asked { endpoint, answer } in &self.0 {
            let downgrade = answer.downgrade_info.clone().unwrap_or_default();
            let errors: Vec<_> =
                answer.errors.iter().map(|error| go::quoted(error.as_bytes())).collect();
            out.header(answer.header.as_ref());
            out.quoted("Version", answer.version.as_bytes());
            out.quoted("StorageVersion", answer.storage_version.as_bytes());
            out.field("DBSize", answer.db_size);
            out.field("DBSizeInUse", answer.db_size_in_use);
            out.field("DBSizeQuota", answer.db_size_quota);
            out.id("Leader", answer.leader);
            out.field("IsLearner", answer.is_learner);
            out.field("RaftIndex", answer.raft_index);
            out.field("RaftTerm", answer.raft_term);
            out.field("RaftAppliedIndex", answer.raft_applied_index);
            out.field("Errors", format_args!("[{}]", errors.join(" ")));
            out.quoted("Endpoint", endpoint.as_bytes());
            out.quoted("DowngradeTargetVersion", downgrade.target_version.as_bytes());
            out.field("DowngradeEnabled", downgrade.enabled);
            out.line("");
        }
    }

    fn json(&self) -> impl Serialize {
        let status = |asked: &Asked<StatusResponse>| StatusJson {
            endpoint: asked.endpoint.clone(),
            status: status_parts(&asked.answer),
        };
        none_is_null(self.0.iter().map(status).collect())
    }

    fn table(&self) -> Option<Table> {
        let head = [
            "ENDPOINT",
            "ID",
            "VERSION",
            "STORAGE VERSION",
            "DB SIZE",
            "IN USE",
            "PERCENTAGE NOT IN USE",
            "QUOTA",
            "IS LEADER",
            "IS LEARNER",
            "RAFT TERM",
            "RAFT INDEX",
            "RAFT APPLIED INDEX",
            "ERRORS",
            "DOWNGRADE TARGET VERSION",
            "DOWNGRADE ENABLED",
        ];
        Some(Table::new(&head, self.0.iter().map(Asked::<StatusResponse>::row)))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StatusJson {
    endpoint: String,
    status: StatusParts,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusParts {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<json::Header>,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "json::is_zero")]
    db_size: i64,
    #[serde(skip_serializing_if = "json::is_zero")]
    leader: u64,
    #[serde(skip_serializing_if = "json::is_zero")]
    raft_index: u64,
    #[serde(skip_serializing_if = "json::is_zero")]
    raft_term: u64,
    #[serde(skip_serializing_if = "json::is_zero")]
    raft_applied_index: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    #[serde(skip_serializing_if = "json::is_zero")]
    db_size_in_use: i64,
    #[serde(skip_serializing_if = "json::is_zero")]
    is_learner: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    storage_version: String,
    #[serde(skip_serializing_if = "json::is_zero")]
    db_size_quota: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    downgrade_info: Option<DowngradeJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DowngradeJson {
    #[serde(skip_serializing_if = "json::is_zero")]
    enabled: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    target_version: String,
}

fn status_parts(status: &StatusResponse) -> StatusParts {
    let status = status.clone();
    StatusParts {
        header: json::header(status.header.as_ref()),
        version: status.version,
        db_size: status.db_size,
        leader: status.leader,
        raft_index: status.raft_index,
        raft_term: status.raft_term,
        raft_applied_index: status.raft_applied_index,
        errors: status.errors,
        db_size_in_use: status.db_size_in_use,
        is_learner: status.is_learner,
        storage_version: status.storage_version,
        db_size_quota: status.db_size_quota,
        downgrade_info: status.downgrade_info.map(|info| DowngradeJson {
            enabled: info.enabled,
            target_version: info.target_version,
        }),
    }
}

impl Answer for Hashes {
    fn simple(&self, out: &mut Lines) {
        self.0.iter().for_each(|asked| out.line(asked.row().join(", ")));
    }

    fn fields(&self, out: &mut Lines) {
        for Asked { endpoint, answer } in &self.0 {
            out.header(answer.header.as_ref());
            out.quoted("Endpoint", endpoint.as_bytes());
            out.field("Hash", answer.hash);
            out.field("HashRevision", answer.hash_revision);
            out.line("");
        }
    }

    fn json(&self) -> impl Serialize {
        let hash = |asked: &Asked<HashKvResponse>| HashJson {
            endpoint: asked.endpoint.clone(),
            hash_kv: HashParts {
                header: json::header(asked.answer.header.as_ref()),
                hash: asked.answer.hash,
                compact_revision: asked.answer.compact_revision,
                hash_revision: asked.answer.hash_revision,
            },
        };
        none_is_null(self.0.iter().map(hash).collect())
    }

    fn table(&self) -> Option<Table> {
        let rows = self.0.iter().map(Asked::<HashKvResponse>::row);
        Some(Table::new(&["ENDPOINT", "HASH", "HASH REVISION"], rows))
    }
}

impl Asked<HashKvResponse> {
    fn row(&self) -> Vec<String> {
        let HashKvResponse { hash, hash_revision, .. } = &self.answer;
        vec![self.endpoint.clone(), hash.to_string(), hash_revision.to_string()]
    }
}

#[derive(Serialize)]
struct HashJson {
    #[serde(rename = "Endpoint")]
    endpoint: String,
    #[serde(rename = "HashKV")]
    hash_kv: HashParts,
}

#[derive(Serialize)]
struct HashParts {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<json::Header>,
    #[serde(skip_serializing_if = "json::is_zero")]
    hash: u32,
    #[serde(skip_serializing_if = "json::is_zero")]
    compact_revision: i64,
    #[serde(skip_serializing_if = "json::is_zero")]
    hash_revision: i64,
}
