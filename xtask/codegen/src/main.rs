//! Writes `quorate-proto`'s Rust code from its protocol definitions, or with `--check` says whether it is current.
//!
//! Messages go to `src/generated/*.rs`; clients, which need tonic, go to `*.grpc.rs` beside them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

const FILES: [&str; 3] = ["etcdserverpb/rpc.proto", "grpc/health/v1/health.proto", "quorate/inspect.proto"];

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/quorate-proto");
    let fresh = generate(&root)?;
    let home = root.join("src/generated");
    if std::env::args().any(|argument| argument == "--check") { check(&home, &fresh) } else { write(&home, &fresh) }
}

/// File name to content.
type Generated = BTreeMap<String, String>;

fn generate(root: &Path) -> Result<Generated> {
    let descriptors = protox::compile(FILES, [root.join("proto")]).context("compile the protocol definitions")?;
    let messages = temporary("messages")?;
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(&messages)
        .compile_fds(descriptors.clone())
        .context("generate messages")?;
    let services = temporary("services")?;
    tonic_prost_build::configure()
        .build_server(false)
        .bytes(".")
        .out_dir(&services)
        .extern_path(".authpb", "crate::authpb")
        .extern_path(".etcdserverpb", "crate::etcdserverpb")
        .extern_path(".mvccpb", "crate::mvccpb")
        .extern_path(".grpc.health.v1", "crate::health")
        .extern_path(".quorate", "crate::inspect")
        .compile_fds(descriptors)
        .context("generate clients")?;
    let mut generated = read(&messages, ".rs")?;
    generated.extend(read(&services, ".grpc.rs")?);
    Ok(generated)
}

fn temporary(name: &str) -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("quorate-codegen-{}-{name}", std::process::id()));
    fs::create_dir_all(&path)?;
    Ok(path)
}

fn read(directory: &Path, ending: &str) -> Result<Generated> {
    let mut files = Generated::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let stem = path.file_stem().context("a file without a name")?.to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        if text.lines().any(|line| !line.starts_with("//") && !line.trim().is_empty()) {
            files.insert(format!("{stem}{ending}"), text);
        }
    }
    fs::remove_dir_all(directory)?;
    Ok(files)
}

fn write(home: &Path, fresh: &Generated) -> Result<()> {
    fs::create_dir_all(home)?;
    for (name, text) in fresh {
        fs::write(home.join(name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

fn check(home: &Path, fresh: &Generated) -> Result<()> {
    for (name, text) in fresh {
        if fs::read_to_string(home.join(name)).ok().as_ref() != Some(text) {
            bail!("{name} is not what the protocol definitions give: run `cargo xtask codegen`");
        }
    }
    Ok(())
}
