//! What pure code may not touch: clocks, files, sockets, threads, the environment, randomness, and maps whose order differs
//! from run to run.
//!
//! It reads the source and not the compiled program: a `use` is flattened first, and a path in the middle of code counts as
//! well. Something hidden behind a macro of another crate would pass; the list of crates in [`walls`] is the
//! answer to that.

use anyhow::{Result, bail};

use crate::{
    source::{self, Source},
    uses, walls,
};

/// A path that is not for pure code, and what to use instead.
struct Ban {
    path: &'static str,
    instead: &'static str,
}

const BANS: [Ban; 12] = [
    Ban { path: "std::time::Instant", instead: "take `Mono` as an argument" },
    Ban { path: "std::time::SystemTime", instead: "take the time as an argument" },
    Ban { path: "std::fs", instead: "a port, such as the log's or the engine's" },
    Ban { path: "std::net", instead: "effects that the runtime sends" },
    Ban { path: "std::thread", instead: "effects that the runtime carries out" },
    Ban { path: "std::process", instead: "an error for the caller" },
    Ban { path: "std::env", instead: "a field of the configuration" },
    Ban { path: "std::collections::HashMap", instead: "BTreeMap" },
    Ban { path: "std::collections::HashSet", instead: "BTreeSet" },
    Ban { path: "std::collections::hash_map", instead: "BTreeMap" },
    Ban { path: "std::hash::RandomState", instead: "BTreeMap" },
    Ban { path: "rand", instead: "a seed that is an argument" },
];

/// Checks every file of every pure crate.
pub(crate) fn check() -> Result<()> {
    let layers = walls::layers()?;
    let is_pure = |source: &&Source| {
        let layer = source.package().and_then(|package| layers.get(package));
        layer.is_some_and(|layer| walls::is_pure(*layer))
    };
    let sources = source::all()?;
    let problems: Vec<String> = sources.iter().filter(is_pure).flat_map(problems).collect();
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n")) }
}

fn problems(source: &Source) -> Vec<String> {
    let lines = source.shipped();
    let used = uses::paths(&lines);
    let used = used.iter().map(|(number, path)| (*number, path.as_str()));
    let mut problems: Vec<String> = used
        .chain(lines.iter().copied())
        .filter_map(|(number, text)| Some((number, ban(text)?)))
        .map(|(number, Ban { path, instead })| {
            format!("{}:{number}: {path} in a pure crate; instead: {instead}", source.path)
        })
        .collect();
    problems.dedup();
    problems
}

/// The ban that a path, or a line of code with paths in it, falls under.
fn ban(text: &str) -> Option<&'static Ban> {
    BANS.iter().find(|ban| names(text, ban.path))
}

/// Whether `path` stands in `text` as a whole, and is the beginning of a path there.
fn names(text: &str, path: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(path).any(|(start, _)| {
        let before = text.get(..start).unwrap_or_default();
        let behind = text.get(start + path.len()..).unwrap_or_default();
        let begins = !before.ends_with(is_word) && !before.ends_with("::");
        // A short name is a path only when something follows it.
        let ends = if path.contains("::") {
            !behind.starts_with(is_word)
        } else {
            behind.starts_with("::") || (before.is_empty() && behind.is_empty())
        };
        begins && ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> usize {
        let path = "crates/quorate-raft/src/lib.rs".to_owned();
        problems(&Source { path, text: text.to_owned() }).len()
    }

    #[test]
    fn clocks_files_and_random_order_are_found_however_they_are_named() {
        for text in [
            "use std::time::Instant;\n",
            "use std::{collections::BTreeMap, time::{Duration, SystemTime}};\n",
            "use std::{\n    fs,\n    io,\n};\n",
            "use std::collections::{HashMap, BTreeSet};\n",
            "let now = std::time::Instant::now();\n",
            "let seed = rand::random();\n",
            "use rand::Rng;\n",
            "std::thread::spawn(work);\n",
        ] {
            assert_eq!(found(text), 1, "{text}");
        }
    }

    #[test]
    fn other_things_are_let_pass() {
        for text in [
            "use std::time::Duration;\n",
            "// std::fs is not for us\n",
            "let random = operand + strand;\n",
            "let path = my_std::fs::read();\n",
            "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n",
        ] {
            assert_eq!(found(text), 0, "{text}");
        }
    }
}
