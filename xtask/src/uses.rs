//! `use` declarations, flattened: `use std::{fs, io::{self, Read}};` names `std::fs`, `std::io` and `std::io::Read`.

/// Every path that a `use` in these lines brings in, with the line where its declaration begins.
pub(crate) fn paths(lines: &[(usize, &str)]) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in lines {
        let line = line.trim();
        let begun = open.take().or_else(|| declaration(line).map(|_| (*number, String::new())));
        let Some((number, mut text)) = begun else { continue };
        let part = if text.is_empty() { declaration(line).unwrap_or(line) } else { line };
        text.push_str(part);
        match text.split_once(';') {
            Some((tree, _)) => flatten("", tree, &mut |path| paths.push((number, path))),
            None => open = Some((number, text)),
        }
    }
    paths
}

/// What follows `use`, when the line begins a declaration.
fn declaration(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(public) if public.starts_with('(') => public.split_once(')')?.1.trim_start(),
        Some(public) => public.trim_start(),
        None => line,
    };
    line.strip_prefix("use ")
}

fn flatten(prefix: &str, tree: &str, found: &mut impl FnMut(String)) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default().trim();
        return found(join(prefix, name));
    };
    let prefix = join(prefix, head.trim().trim_end_matches("::"));
    let group = group.strip_suffix('}').unwrap_or(group);
    for item in items(group) {
        flatten(&prefix, item, found);
    }
}

fn join(prefix: &str, name: &str) -> String {
    match (prefix, name) {
        ("", name) => name.to_owned(),
        (prefix, "self" | "") => prefix.to_owned(),
        (prefix, name) => format!("{prefix}::{name}"),
    }
}

/// Cuts a group at the commas outside of inner groups.
fn items(group: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let cut = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    group.split(cut).filter(|item| !item.trim().is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_flattened_over_lines() {
        let text = "use std::{\n    fs,\n    io::{self, Read as R},\n};\npub(crate) use a::b;\nlet used = 1;\n";
        let lines: Vec<(usize, &str)> = (1..).zip(text.lines()).collect();
        let expected = [(1, "std::fs"), (1, "std::io"), (1, "std::io::Read"), (5, "a::b")];
        assert_eq!(paths(&lines), expected.map(|(line, path)| (line, path.to_owned())));
    }
}
