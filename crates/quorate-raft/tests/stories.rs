//! The stories in `testdata/<topic>/<story>.txt`: scripts, and what came of them.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p quorate-raft stories` writes the output anew; read the difference before you keep it.

use std::path::Path;

use crate::script::Script;

fn run_topic(topic: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(topic);
    let mut paths: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        println!("{}", path.display());
        goldenscript::run(&mut Script::default(), &path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

macro_rules! topics {
    ($($topic:ident),*) => {
        $(#[test]
        fn $topic() {
            run_topic(stringify!($topic));
        })*
    };
}

topics!(commit, election, fault, read, recover, replication, snapshot, transfer);

// Runs in which a historical bug shows: with the feature `mutants`.
#[cfg(feature = "mutants")]
topics!(mutants);
