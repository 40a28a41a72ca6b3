//! A node with a dead part inside ends itself, and what it acknowledged is there when it is started again.

use std::{path::Path, process::Command};

use comet_tests::process::NodeProcess;

/// The exit code after a bug.
const EXIT_BUG: i32 = 70;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_comet-node-under-test"))
}

/// Runs a node on `data`, one part of which fails; its exit code and what it said.
fn fail(data: &Path, part: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_comet-node-that-fails"));
    let output = command.arg(data).arg(part).output().expect("the program runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_panic_on_any_thread_ends_the_node_and_the_next_start_serves_what_was_acknowledged() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let mut node = NodeProcess::start(program(), top.path(), &[]);
    let put = node.command(&["put", "k", "kept"]);
    assert_eq!(put.code, Some(0), "{put:?}");
    for part in ["network", "objects", "store", "main", "task", "pool", "http"] {
        node.stop();
        let (code, said) = fail(top.path(), part);
        assert_eq!(code, Some(EXIT_BUG), "{part}: {said}");
        assert!(said.contains("this part was asked to fail"), "{part}: {said}");
        assert!(said.contains("this is a bug in Comet"), "{part}: {said}");
        node.restart();
        let got = node.command(&["get", "k"]);
        assert!(got.code == Some(0) && got.out.contains("kept"), "{part}: {got:?}");
    }
}

#[test]
fn a_thread_that_hangs_ends_the_node() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let (code, said) = fail(top.path(), "hanging");
    assert_eq!(code, Some(EXIT_BUG), "{said}");
    assert!(said.contains("the thread \"hanging\" does not answer any more"), "{said}");
}
