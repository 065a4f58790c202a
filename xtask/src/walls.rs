//! Who may know whom: arrows between crates go down in layers only, and pure crates take few crates from outside.
//!
//! A crate says its layer in `package.metadata.quorate.layer`. Tests may reach anywhere, so dev-dependencies are not looked
//! at. The layers are drawn in `ARCHITECTURE.md`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::cargo;

/// Arrows inside a layer, each for a reason that stands in `ARCHITECTURE.md`.
const WITHIN_LAYER: [(&str, &str); 10] = [
    ("quorate-bft", "quorate-crypto"),
    ("quorate-bft", "quorate-raft"),
    ("quorate-flight", "quorate-raft"),
    ("quorate-kv", "quorate-engine"),
    ("quorate-kv", "quorate-proto"),
    ("quorate-placement", "quorate-node"),
    ("quorate-server", "quorate-etcd"),
    ("quorate-storage", "quorate-proto"),
    ("quorate-txn", "quorate-engine"),
    ("quorate-txn", "quorate-proto"),
];

/// Layers whose crates are deterministic: the same events give the same effects.
const PURE_LAYER_MAX: u8 = 1;

/// What they may take from outside: nothing here has a clock, a thread, a socket, a file or randomness of its own.
/// `tonic` comes in only where generated services ask for it by a feature.
const PURE_CRATES: [&str; 11] = [
    "bytes",
    "crc32c",
    "imbl",
    "prost",
    "serde",
    "serde_json",
    "smallvec",
    "thiserror",
    "tonic",
    "tonic-prost",
    "tracing-core",
];

#[derive(Debug, Deserialize)]
struct Workspace {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    metadata: Option<Metadata>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    quorate: Option<Quorate>,
}

#[derive(Debug, Deserialize)]
struct Quorate {
    layer: u8,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `None`: a normal one.
    kind: Option<String>,
    /// `None`: it comes from a registry.
    path: Option<String>,
}

impl Package {
    fn layer(&self) -> Option<u8> {
        Some(self.metadata.as_ref()?.quorate.as_ref()?.layer)
    }

    fn is_ours(&self) -> bool {
        self.manifest_path.contains("/crates/")
    }
}

/// The layer of each of our crates.
pub(crate) fn layers() -> Result<BTreeMap<String, u8>> {
    let workspace = workspace()?;
    let layer = |package: &Package| Some((package.name.clone(), package.layer()?));
    Ok(workspace.packages.iter().filter_map(layer).collect())
}

/// Whether a crate of this layer is pure.
pub(crate) fn is_pure(layer: u8) -> bool {
    layer <= PURE_LAYER_MAX
}

/// Checks every arrow.
pub(crate) fn check() -> Result<()> {
    let workspace = workspace()?;
    let layers = layers()?;
    let ours = workspace.packages.iter().filter(|package| package.is_ours());
    let problems: Vec<String> = ours.flat_map(|package| problems(package, &layers)).collect();
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n")) }
}

fn workspace() -> Result<Workspace> {
    Ok(serde_json::from_str(&cargo::metadata()?)?)
}

fn problems(package: &Package, layers: &BTreeMap<String, u8>) -> Vec<String> {
    let name = &package.name;
    let Some(layer) = package.layer() else {
        return vec![format!("{name}: its Cargo.toml has no package.metadata.quorate.layer")];
    };
    let mut problems = Vec::new();
    if !package.manifest_path.ends_with(&format!("/crates/{name}/Cargo.toml")) {
        problems.push(format!("{name}: stands in another folder than crates/{name}"));
    }
    let shipped = package.dependencies.iter().filter(|dependency| dependency.kind.is_none());
    problems.extend(shipped.filter_map(|to| arrow_problem(name, layer, to, layers)));
    problems
}

fn arrow_problem(
    from: &str,
    layer: u8,
    to: &Dependency,
    layers: &BTreeMap<String, u8>,
) -> Option<String> {
    let name = to.name.as_str();
    if to.path.is_none() {
        let wrong = is_pure(layer) && !PURE_CRATES.contains(&name);
        return wrong.then(|| format!("{from} (layer {layer}) is pure and may not use {name}"));
    }
    match layers.get(name) {
        None => Some(format!("{from} uses {name}, which has no layer")),
        Some(below) if *below < layer => None,
        Some(same) if *same == layer && WITHIN_LAYER.contains(&(from, name)) => None,
        Some(other) => Some(format!("{from} (layer {layer}) may not use {name} (layer {other})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrow(from: &str, layer: u8, to: &str, path: Option<&str>) -> Option<String> {
        let layers = [("quorate-engine", 0), ("quorate-kv", 0), ("quorate-net", 2)];
        let layers = layers.map(|(name, layer)| (name.to_owned(), layer)).into();
        let path = path.map(str::to_owned);
        let dependency = Dependency { name: to.to_owned(), kind: None, path };
        arrow_problem(from, layer, &dependency, &layers)
    }

    #[test]
    fn arrows_go_down_or_are_named() {
        let here = Some("/somewhere");
        assert_eq!(arrow("quorate-net", 2, "quorate-kv", here), None);
        assert_eq!(arrow("quorate-kv", 0, "quorate-engine", here), None);
        assert!(arrow("quorate-engine", 0, "quorate-kv", here).is_some());
        assert!(arrow("quorate-kv", 0, "quorate-net", here).is_some());
        assert!(arrow("quorate-kv", 0, "quorate-unknown", here).is_some());
    }

    #[test]
    fn pure_crates_take_little_from_outside() {
        assert_eq!(arrow("quorate-kv", 0, "bytes", None), None);
        assert!(arrow("quorate-kv", 0, "tokio", None).is_some());
        assert_eq!(arrow("quorate-net", 2, "tokio", None), None);
    }
}
