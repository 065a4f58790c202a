//! etcd's config file, YAML or JSON: the flags' names as keys.
//!
//! Durations are whole numbers of nanoseconds there (those that are flags in milliseconds stay so), and TLS settings stand
//! in blocks of their own. Source: `etcd --help` and the example file of etcd 3.7.

use std::{fs, path::Path};

use serde_json::{Map, Value};

use super::table::{self, Kind};

/// A config file larger than this is a mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// TLS blocks: the name of the block, what stands before its keys in the flags' names.
const BLOCKS: [(&str, &str); 2] =
    [("client-transport-security", ""), ("peer-transport-security", "peer-")];

/// The settings in the file at `path`, as flags and values.
///
/// # Errors
/// A text that names the file and what is wrong there.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String)>, String> {
    let place = path.display();
    let size = fs::metadata(path).map_err(|error| format!("--config-file {place}: {error}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!(
            "--config-file {place}: {size} bytes, at most {FILE_BYTES_MAX} are read"
        ));
    }
    let text =
        fs::read_to_string(path).map_err(|error| format!("--config-file {place}: {error}"))?;
    let settings: Map<String, Value> =
        serde_saphyr::from_str(&text).map_err(|error| format!("--config-file {place}: {error}"))?;
    let mut flags = Vec::new();
    for (key, value) in &settings {
        match BLOCKS.iter().find(|(block, _)| block == key) {
            Some((_, prefix)) => flags.extend(block(prefix, value)),
            None => flags.extend(setting(key.clone(), value)),
        }
    }
    Ok(flags)
}

fn block(prefix: &str, value: &Value) -> Vec<(String, String)> {
    let inner = value.as_object().into_iter().flatten();
    inner.filter_map(|(key, value)| setting(format!("{prefix}{key}"), value)).collect()
}

/// One setting; nothing when it is null.
fn setting(key: String, value: &Value) -> Option<(String, String)> {
    let text = match value {
        Value::Null => return None,
        Value::Bool(value) => value.to_string(),
        Value::Number(number) if is_duration(&key) => format!("{number}ns"),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(","),
        Value::Object(_) => value.to_string(),
    };
    Some((key, text))
}

fn is_duration(key: &str) -> bool {
    table::find(key).is_some_and(|flag| flag.kind == Kind::Duration)
}
