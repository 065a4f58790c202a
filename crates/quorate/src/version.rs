//! Which version this is, to people and to programs that expect etcd.

/// The version of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What kind of build it is, when it is not one for data that anybody needs.
#[cfg(feature = "breakable")]
pub(crate) const BUILD: &str = ", breakable: a build for tests, which can break its promises";
/// What kind of build it is: the usual one.
#[cfg(not(feature = "breakable"))]
pub(crate) const BUILD: &str = "";

/// One line for people.
pub(crate) fn own() -> String {
    format!("quorate {VERSION}{BUILD}")
}

/// The four lines that `etcd --version` prints. Programs read the first; none of them is false.
pub(crate) fn as_etcd(reported: &str) -> String {
    let system = std::env::consts::OS;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "etcd Version: {reported}\nGit SHA: none\nGo Version: none (quorate {VERSION}, Rust{BUILD})\nGo OS/Arch: {system}/{architecture}"
    )
}
