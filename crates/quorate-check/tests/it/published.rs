//! Histories of a real etcd whose verdicts are published; see `testdata/porcupine/README.md`.

use std::{fs, path::Path};

use quorate_check::{linear, read_lines, register::Operation, timeline_html, write_lines};

#[test]
fn published_histories_are_judged_as_published() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/porcupine");
    let mut judged = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) =
            path.file_stem().filter(|_| path.extension().is_some_and(|end| end == "jsonl"))
        else {
            continue;
        };
        let history: Vec<Operation> = read_lines(&fs::read_to_string(&path).unwrap()).unwrap();
        let verdict = linear::check(&history).unwrap();
        let good = name.to_str().unwrap().ends_with("ok");
        assert_eq!(verdict.holds(), good, "{name:?}: {verdict}");
        assert_eq!(verdict.findings().is_empty(), good, "{name:?}: {verdict}");
        judged += 1;
    }
    assert_eq!(judged, 16);
}

#[test]
fn a_failing_window_is_drawn_and_named() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/porcupine");
    let bad = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let bad = bad.filter(|path| path.to_str().unwrap().ends_with("bad.jsonl")).min().unwrap();
    let text = fs::read_to_string(bad).unwrap();
    let history: Vec<Operation> = read_lines(&text).unwrap();
    let verdict = linear::check(&history).unwrap();
    let [finding] = verdict.findings() else { panic!("one finding: {verdict}") };
    let page = timeline_html(&history, &verdict);
    assert_eq!(page.matches("<g>").count(), finding.operations.len());
    assert_eq!(page.matches(" ends\"").count(), 1);
    assert!(finding.operations.len() < history.len());
    assert!(
        !page.contains("http") || page.matches("http").count() == 1,
        "only the namespace of SVG"
    );
    // What was read is what is written.
    let again: Vec<Operation> = read_lines(&write_lines(&history).unwrap()).unwrap();
    assert_eq!(again, history);
}

#[test]
fn labels_cannot_escape_into_the_page() {
    let line = r#"{"client":1,"invoke":1,"return":2,"request":{"get":{"key":"<script>"}},"outcome":{"ok":{"value":null}}}"#;
    let history: Vec<Operation> = read_lines(line).unwrap();
    let page = timeline_html(&history, &linear::check(&history).unwrap());
    assert!(!page.contains("<script>"));
    assert!(page.contains("&lt;script&gt;"));
}

#[test]
fn lines_that_are_no_operations_are_named() {
    let error = read_lines::<Operation>("\n{}\n").unwrap_err();
    assert_eq!(error.to_string(), "line 2 is not an operation");
    let line = r#"{"client":1,"invoke":3,"return":2,"request":{"get":{"key":"a"}},"outcome":{"ok":{"value":null}}}"#;
    let backwards: Vec<Operation> = read_lines(line).unwrap();
    assert!(linear::check(&backwards).is_err());
    let line = r#"{"client":1,"invoke":1,"return":2,"request":{"get":{"key":"a"}},"outcome":{"ok":"done"}}"#;
    let mixed: Vec<Operation> = read_lines(line).unwrap();
    assert!(linear::check(&mixed).is_err());
}
