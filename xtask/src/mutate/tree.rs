//! The copy of the repository in which faults are planted.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::faults::Fault;
use crate::source;

/// How long the tests of a crate may take, in seconds: a fault that makes them hang is noticed.
const TEST_SECONDS: &str = "900";
/// With what `timeout` ends when the time was over.
const TIMED_OUT: i32 = 124;

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A test failed.
    Noticed,
    /// The tests did not end.
    Hung,
    /// All tests passed.
    Unnoticed,
    /// It does not compile.
    NoFault,
}

/// The copy.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Makes the copy the same as the repository; files that are so already stay untouched, so that little is built again.
    pub(super) fn copy() -> Result<Self> {
        let whole = source::root().canonicalize().context("find the repository")?;
        let folder = whole.join("target/mutate");
        let tree = Self { root: folder.join("tree"), target: folder.join("target") };
        let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&whole).output();
        let listed = listed.context("list the files with git")?;
        ensure!(listed.status.success(), "git ls-files: {}", listed.status);
        for name in String::from_utf8(listed.stdout)?.split('\0').filter(|name| !name.is_empty()) {
            let content = fs::read(whole.join(name));
            // A file that was removed and not yet committed.
            let Ok(content) = content else { continue };
            tree.write(name, &content)?;
        }
        Ok(tree)
    }

    /// Plants a fault, runs the tests of its crate, and takes it out again.
    pub(super) fn plant(&self, fault: &Fault) -> Result<Verdict> {
        let path = self.root.join(&fault.path);
        let whole =
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut lines: Vec<&str> = whole.split('\n').collect();
        let line = fault.number.checked_sub(1).and_then(|number| lines.get_mut(number));
        let line = line.filter(|line| **line == fault.before).context("the copy is another one")?;
        *line = &fault.after;
        self.write(&fault.path, lines.join("\n").as_bytes())?;
        let verdict = self.test(&fault.package);
        self.write(&fault.path, whole.as_bytes())?;
        verdict
    }

    /// Builds and runs the tests of a crate.
    pub(super) fn test(&self, package: &str) -> Result<Verdict> {
        let mut build = self.cargo(&["test", "--quiet", "--no-run", "-p", package]);
        if !build.status().context("run cargo")?.success() {
            return Ok(Verdict::NoFault);
        }
        let mut test = self.cargo(&["test", "--quiet", "-p", package]);
        let status = test.status().context("run cargo")?;
        Ok(match status.code() {
            Some(0) => Verdict::Unnoticed,
            Some(TIMED_OUT) => Verdict::Hung,
            _ => Verdict::Noticed,
        })
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new("timeout");
        command.arg(TEST_SECONDS).arg(cargo).args(arguments).current_dir(&self.root);
        command.env("CARGO_TARGET_DIR", &self.target).env("CARGO_PROFILE_DEV_DEBUG", "0");
        command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Writes a file of the copy, if it is another one.
    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.root.join(name);
        if fs::read(&path).is_ok_and(|known| known == content) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))
    }
}
