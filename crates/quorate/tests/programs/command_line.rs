//! What is wrong is said at once, with exit code 2; what is asked is answered.

use std::{os::unix::fs::symlink, process::Command};

use crate::process::{quorate, text};

/// Exit code, standard output and standard error of one call.
fn called(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn wrong_use_names_what_is_wrong() {
    for (line, named) in [
        ("", "Usage: quorate"),
        ("serve", "unknown command serve"),
        ("server --no-such-flag", "unknown flag --no-such-flag"),
        ("server --break=stale-reads", "unknown flag --break"),
        ("server --power-cut=true", "unknown flag --power-cut"),
        ("server --snapshot-count=many", "invalid value \"many\" for --snapshot-count"),
        ("server --config-file /nowhere", "--config-file /nowhere"),
        ("demo --nodes many", "many"),
        ("demo --nodes 10", "10"),
        ("ctl frobnicate", "frobnicate"),
    ] {
        let (code, stdout, stderr) = called(quorate().args(line.split_whitespace()));
        assert_eq!(code, Some(2), "{line}: {stderr}");
        assert_eq!(stdout, "", "{line}");
        assert!(stderr.contains(named), "{line}: {stderr}");
    }
}

#[test]
fn a_link_named_etcd_is_a_server_with_four_lines_of_version() {
    let home = tempfile::tempdir().unwrap();
    let link = home.path().join("etcd");
    symlink(env!("CARGO_BIN_EXE_quorate"), &link).unwrap();
    for flag in ["--version", "-version"] {
        let (code, stdout, _) = called(Command::new(&link).arg(flag));
        let lines: Vec<&str> = stdout.lines().collect();
        assert_eq!(code, Some(0));
        assert_eq!(lines.len(), 4, "{stdout}");
        assert_eq!(lines[0], "etcd Version: 3.7.1");
        for (line, begin) in
            lines.iter().zip(["etcd ", "Git SHA: ", "Go Version: ", "Go OS/Arch: "])
        {
            assert!(line.starts_with(begin), "{line}");
        }
    }
    let mut other = Command::new(&link);
    let (_, stdout, _) = called(other.arg("--version").env("ETCD_REPORTED_VERSION", "3.6.5"));
    assert!(stdout.starts_with("etcd Version: 3.6.5\n"), "{stdout}");
    let (code, _, stderr) = called(Command::new(&link).arg("--no-such-flag"));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--no-such-flag"), "{stderr}");
    let (code, stdout, _) = called(Command::new(&link).arg("--help"));
    assert_eq!(code, Some(0));
    assert!(stdout.contains("--initial-cluster "), "{stdout}");
}

#[test]
fn a_server_that_can_not_start_says_why() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let data_dir = format!("--data-dir={}", text(&file));
    let (code, _, stderr) = called(quorate().args(["server", &data_dir]));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(&format!("{} is not a directory", text(&file))), "{stderr}");
}
