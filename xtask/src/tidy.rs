//! What a reviewer would otherwise say twice: long files, skipped tests, tests that wait, notes left behind.

use anyhow::{Result, bail};

use crate::source::{self, Source};

/// A file with more lines than this, without its tests, has a second idea in it.
const FILE_LINES_MAX: usize = 600;

/// Files that were longer when the limit came, and how long they may be: a number here may only become smaller.
const LONGER_FILES: [(&str, usize); 0] = [];

/// Words that no line of code may hold, with the reason.
const NOWHERE: [(&str, &str); 5] = [
    ("#[ignore", "a test that is skipped proves nothing: mend or remove it"),
    ("todo!(", "finish it, or leave it out"),
    ("unimplemented!(", "return an error that says so"),
    ("dbg!(", "use tracing"),
    ("unsafe {", "no crate here needs it"),
];

/// Words that no test may hold, with the reason.
const NOT_IN_TESTS: [(&str, &str); 2] = [
    ("thread::sleep", "wait for what must happen, not for a time"),
    ("time::sleep(", "wait for what must happen, not for a time"),
];

/// Words that mark something unfinished, in comments too.
const MARKS: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Checks every file.
pub(crate) fn check() -> Result<()> {
    // This file names what it looks for.
    let sources = source::all()?.into_iter().filter(|source| source.path != "xtask/src/tidy.rs");
    let problems: Vec<String> = sources.flat_map(|source| problems(&source)).collect();
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n")) }
}

fn problems(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    problems.extend(length_problem(source));
    problems.extend(head_problem(source));
    problems.extend(words(&source.path, &source.shipped(), &NOWHERE));
    problems.extend(words(&source.path, &source.tests(), &NOWHERE));
    problems.extend(words(&source.path, &source.tests(), &NOT_IN_TESTS));
    problems.extend(marks(source));
    problems
}

fn length_problem(source: &Source) -> Option<String> {
    let lines = if source.is_test() { source.tests().len() } else { source.shipped().len() };
    let allowed = LONGER_FILES.iter().find(|(path, _)| *path == source.path);
    let limit = allowed.map_or(FILE_LINES_MAX, |(_, lines)| *lines);
    (lines > limit).then(|| {
        format!("{}: {lines} lines are more than {limit}: look for its second idea", source.path)
    })
}

/// Every file begins by saying what it is.
fn head_problem(source: &Source) -> Option<String> {
    let good = source.is_test() || source.text.starts_with("//!");
    (!good).then(|| format!("{}: does not begin with a line of `//!`", source.path))
}

fn words(path: &str, lines: &[(usize, &str)], banned: &[(&str, &str)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in lines {
        for (word, reason) in banned.iter().filter(|(word, _)| line.contains(word)) {
            problems.push(format!("{path}:{number}: {word}: {reason}"));
        }
    }
    problems
}

fn marks(source: &Source) -> Vec<String> {
    let is_word = |line: &str, mark: &str| {
        line.split(|c: char| !c.is_alphanumeric()).any(|word| word == mark)
    };
    let lines = (1..).zip(source.text.lines());
    lines
        .filter(|(_, line)| MARKS.iter().any(|mark| is_word(line, mark)))
        .map(|(number, _)| format!("{}:{number}: a note that something is unfinished", source.path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        problems(&Source { path: path.to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn tests_neither_wait_nor_are_skipped() {
        let waits = "//! A test.\n#[test]\nfn waits() {\n    thread::sleep(LONG);\n}\n";
        assert_eq!(found("crates/a/tests/a.rs", waits), 1);
        assert_eq!(found("crates/a/src/a.rs", waits), 0);
        assert_eq!(found("crates/a/src/a.rs", "//! A.\n#[ignore]\n"), 1);
    }

    #[test]
    fn long_files_and_files_without_a_head_are_found() {
        let long = "//! A.\n".to_owned() + &"line\n".repeat(FILE_LINES_MAX);
        assert_eq!(found("crates/a/src/a.rs", &long), 1);
        assert_eq!(found("crates/a/src/a.rs", "use a;\n"), 1);
        assert_eq!(found("crates/a/src/a.rs", "//! A.\n"), 0);
    }

    #[test]
    fn notes_of_something_unfinished_are_found_in_comments_too() {
        assert_eq!(found("crates/a/src/a.rs", "//! A.\n// FIXME later\n"), 1);
        assert_eq!(found("crates/a/src/a.rs", "//! A.\n// FIXMEs are other words\n"), 0);
    }
}
