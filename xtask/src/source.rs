//! The repository's Rust files, and which of their lines are shipped.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Folders that hold Rust code written by hand.
const FOLDERS: [&str; 4] = ["crates", "xtask", "bench", "fuzz"];

/// One file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the repository's root.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files, in the order of their paths; generated ones are left out.
pub(crate) fn all() -> Result<Vec<Source>> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        let folder = root().join(folder);
        if folder.exists() {
            collect(&folder, &mut files).with_context(|| format!("read {}", folder.display()))?;
        }
    }
    files.sort();
    files.iter().map(|path| read(path)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "target" && name != "generated" {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Source> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let path = path.strip_prefix(root()).unwrap_or(path).display().to_string();
    Ok(Source { path, text })
}

impl Source {
    /// The crate it belongs to, if it is one of `crates`.
    pub(crate) fn package(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    /// Whether all of it is a test.
    pub(crate) fn is_test(&self) -> bool {
        let folders = ["/tests/", "/benches/", "/examples/"];
        folders.iter().any(|folder| self.path.contains(folder))
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("/props.rs")
    }

    /// Its lines with their numbers from 1, without comments, up to the tests at its foot.
    pub(crate) fn shipped(&self) -> Vec<(usize, &str)> {
        if self.is_test() {
            return Vec::new();
        }
        let end = self.tests_begin();
        self.code().into_iter().take_while(|(number, _)| *number < end).collect()
    }

    /// Lines of tests, without comments.
    pub(crate) fn tests(&self) -> Vec<(usize, &str)> {
        let begin = if self.is_test() { 0 } else { self.tests_begin() };
        self.code().into_iter().filter(|(number, _)| *number >= begin).collect()
    }

    /// The line where the module of tests at the foot begins; behind the end, when there is none.
    fn tests_begin(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let is_module = |pair: &&[&str]| {
            matches!(pair, [attribute, module]
                if attribute.trim() == "#[cfg(test)]"
                    && module.starts_with("mod ")
                    && module.ends_with('{'))
        };
        let begin = lines.windows(2).zip(1..).find(|(pair, _)| is_module(pair));
        begin.map_or(lines.len() + 1, |(_, number)| number)
    }

    fn code(&self) -> Vec<(usize, &str)> {
        let without_comment = |line: &'_ str| line.find("//").map_or(line.len(), |start| start);
        let lines = (1..).zip(self.text.lines());
        lines
            .map(|(number, line)| (number, line.get(..without_comment(line)).unwrap_or_default()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn tests_at_the_foot_are_told_from_what_is_shipped() {
        let text = "one // why\ntwo\n#[cfg(test)]\nmod tests {\n    three\n}\n";
        let source = source("crates/a/src/lib.rs", text);
        assert_eq!(source.shipped(), [(1, "one "), (2, "two")]);
        assert_eq!(source.tests().len(), 4);
        assert_eq!(source.package(), Some("a"));
    }

    #[test]
    fn files_of_tests_ship_nothing() {
        for path in ["crates/a/tests/b.rs", "crates/a/src/b/tests.rs", "crates/a/src/tests/b.rs"] {
            assert_eq!(source(path, "one\n").shipped(), []);
            assert_eq!(source(path, "one\n").tests(), [(1, "one")]);
        }
    }
}
