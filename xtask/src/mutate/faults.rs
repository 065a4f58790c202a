//! The faults that can be planted in a line.

use std::fmt;

use crate::source::Source;

/// A line of a file, and what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) package: String,
    /// From the repository's root.
    pub(super) path: String,
    /// From 1.
    pub(super) number: usize,
    pub(super) before: String,
    pub(super) after: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, number, before, after, .. } = self;
        let after = if after.trim().is_empty() { "(nothing)" } else { after.trim() };
        write!(f, "{path}:{number}: `{}` becomes `{after}`", before.trim())
    }
}

impl Fault {
    /// The same for the same fault wherever its line moves within the file.
    pub(super) fn fingerprint(&self) -> u64 {
        let bytes =
            [&self.path, &self.before, &self.after].into_iter().flat_map(|text| text.bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// Words and what each becomes. A word here stands between spaces or brackets, so that nothing else is taken for it.
const SWAPS: [(&str, &str); 22] = [
    (" < ", " <= "),
    (" <= ", " < "),
    (" > ", " >= "),
    (" >= ", " > "),
    (" == ", " != "),
    (" != ", " == "),
    (" && ", " || "),
    (" + 1", ""),
    (" - 1", ""),
    (" += ", " -= "),
    (" -= ", " += "),
    (".max(", ".min("),
    (".min(", ".max("),
    (".any(", ".all("),
    (".all(", ".any("),
    ("if !", "if "),
    ("(!", "("),
    ("&& !", "&& "),
    (" true", " false"),
    (" false", " true"),
    ("(true", "(false"),
    ("(false", "(true"),
];

/// Lines that begin so are no place for a fault: their words mean something else there, or the compiler wants them as they are.
const SPARED: [&str; 12] = [
    "#",
    "use ",
    "pub use",
    "mod ",
    "impl",
    "where",
    "fn ",
    "pub fn",
    "debug_assert",
    "assert",
    "type ",
    "tracing::",
];

/// Everything that can be planted in a file's shipped lines.
pub(super) fn in_source(source: &Source) -> Vec<Fault> {
    let Some(package) = source.package() else { return Vec::new() };
    let whole: Vec<&str> = source.text.lines().collect();
    let mut faults = Vec::new();
    for (number, code) in source.shipped() {
        let Some(before) = whole.get(number - 1) else { continue };
        let fault = |after: String| Fault {
            package: package.to_owned(),
            path: source.path.clone(),
            number,
            before: (*before).to_owned(),
            after,
        };
        faults.extend(in_line(code).into_iter().map(fault));
    }
    faults
}

/// What a line may become.
fn in_line(code: &str) -> Vec<String> {
    let words = code.trim_start();
    let inside_text = words.contains('"');
    if words.is_empty() || inside_text || SPARED.iter().any(|start| words.starts_with(start)) {
        return Vec::new();
    }
    let mut after = Vec::new();
    for (word, instead) in SWAPS {
        after.extend(code.match_indices(word).filter_map(|(at, _)| {
            let (head, rest) = (code.get(..at)?, code.get(at + word.len()..)?);
            let digits_go_on =
                word.ends_with('1') && rest.starts_with(|c: char| c.is_ascii_digit());
            (!digits_go_on).then(|| format!("{head}{instead}{rest}"))
        }));
    }
    after.extend(without_call(code));
    after.extend(other_constant(code));
    after
}

/// A statement that calls something for its effect is left out.
fn without_call(code: &str) -> Option<String> {
    let words = code.trim();
    let name = words.split('(').next()?;
    let is_call = words.ends_with(");")
        && name.contains('.')
        && name.chars().all(|c| c.is_alphanumeric() || "._".contains(c));
    is_call.then(String::new)
}

/// A number that has a name is one more.
fn other_constant(code: &str) -> Option<String> {
    let (head, value) = code.split_once(" = ")?;
    let is_constant = head.trim_start().trim_start_matches("pub(crate) ").starts_with("const ");
    let value: u64 =
        value.strip_suffix(';')?.replace('_', "").parse().ok().filter(|_| is_constant)?;
    Some(format!("{head} = {};", value.checked_add(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_swapped_where_it_stands() {
        assert_eq!(in_line("if a < b && c {"), ["if a <= b && c {", "if a < b || c {"]);
        assert_eq!(in_line("let x = y + 1;"), ["let x = y;"]);
        assert_eq!(in_line("let x = y + 10;"), Vec::<String>::new());
        assert_eq!(in_line("if !done {"), ["if done {"]);
        assert_eq!(in_line("    self.log.sync();"), [""]);
        assert_eq!(in_line("const ROWS_MAX: u64 = 1_000;"), ["const ROWS_MAX: u64 = 1001;"]);
    }

    #[test]
    fn what_means_something_else_is_spared() {
        for line in [
            "#[cfg(a == b)]",
            "use a::b;",
            "fn a() -> bool {",
            "tracing::info!(a < b);",
            "a(\" < \");",
        ] {
            assert_eq!(in_line(line), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn tests_are_no_place_for_faults() {
        let text =
            "//! A.\nlet a = b + 1; // why + 1\n#[cfg(test)]\nmod tests {\n    let a = b + 1;\n}\n";
        let source = Source { path: "crates/a/src/b.rs".to_owned(), text: text.to_owned() };
        let faults = in_source(&source);
        assert_eq!(faults.len(), 1);
        assert_eq!((faults[0].number, faults[0].after.as_str()), (2, "let a = b; "));
    }
}
