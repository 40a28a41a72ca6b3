//! The invariants of ARCHITECTURE.md that text can show.

use comet_tests::source::{Source, files, root, without_tests};

const CRATES: [&str; 6] =
    ["comet-routing", "comet-store", "comet-runtime", "comet-apps", "comet-node", "tests"];

/// Longest source file, tests included.
const LINES_MAX: usize = 700;

fn sources() -> Vec<Source> {
    let found: Vec<_> = CRATES.iter().flat_map(|dir| files(dir, "rs")).collect();
    assert!(found.len() > 50, "only {} source files were found: the walk is broken", found.len());
    found
}

fn offenders(rule: impl Fn(&Source) -> Option<String>) -> Vec<String> {
    sources()
        .iter()
        .filter_map(|source| rule(source).map(|what| format!("{}: {what}", source.path)))
        .collect()
}

#[test]
fn a_file_has_one_subject_and_under_700_lines() {
    let long = offenders(|source| {
        let lines = source.text.lines().count();
        (lines > LINES_MAX).then(|| format!("{lines} lines"))
    });
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn crates_depend_in_one_direction() {
    for (at, name) in CRATES.iter().enumerate() {
        let manifest =
            std::fs::read_to_string(root().join(name).join("Cargo.toml")).expect("each crate has a manifest");
        for later in &CRATES[at + 1..] {
            assert!(!manifest.contains(&format!("{later}.workspace")), "{name} must not depend on {later}");
        }
    }
}

#[test]
fn only_actors_name_actix() {
    let allowed = |path: &str| {
        path.contains("/actors/")
            || path.ends_with("/actor.rs")
            || path.contains("/actor/")
            || path.starts_with("comet-node/src/transport/")
            || path.starts_with("comet-node/src/http/")
            || path == "comet-node/src/tracker/mod.rs"
            || ["bootstrap", "client", "node", "swarm", "threads", "process"]
                .iter()
                .any(|part| path.starts_with(&format!("comet-node/src/{part}")))
            || path.starts_with("tests/")
            || path.contains("/tests")
            || path.contains("/benches/")
            || path.contains("/examples/")
    };
    let naming = offenders(|source| {
        let names = ["actix::", "use actix", "actix_rt::spawn"];
        let hit = names.iter().find(|name| without_tests(&source.text).contains(*name));
        hit.filter(|_| !allowed(&source.path)).map(|name| format!("names {name}"))
    });
    assert_eq!(naming, Vec::<String>::new());
}

#[test]
fn pure_crates_read_no_clock() {
    let allowed = ["comet-routing/src/clock.rs", "comet-runtime/src/sandbox/mod.rs"];
    let reading = offenders(|source| {
        let pure = ["comet-routing/src", "comet-store/src", "comet-runtime/src", "comet-apps/src"];
        let is_pure =
            pure.iter().any(|dir| source.path.starts_with(dir)) && !allowed.contains(&source.path.as_str());
        let calls = ["Instant::now()", "SystemTime::now()", "rand::rng()", "thread_rng"];
        let hit = calls.iter().find(|call| without_tests(&source.text).contains(*call));
        hit.filter(|_| is_pure).map(|call| format!("calls {call}"))
    });
    assert_eq!(reading, Vec::<String>::new());
}

#[test]
fn the_store_does_not_know_lua_and_routing_knows_neither_sockets_nor_messagepack() {
    let knowing = offenders(|source| {
        let forbidden: &[&str] = if source.path.starts_with("comet-store/src") {
            &["mlua", "onGet"]
        } else if source.path.starts_with("comet-routing/src") {
            &["mlua", "rmp", "UdpSocket", "TcpListener"]
        } else if source.path.starts_with("comet-runtime/src") {
            &["UdpSocket", "TcpListener", "std::fs", "quinn"]
        } else {
            &[]
        };
        let hit = forbidden.iter().find(|word| without_tests(&source.text).contains(*word));
        hit.map(|word| format!("mentions {word}"))
    });
    assert_eq!(knowing, Vec::<String>::new());
}

#[test]
fn unsafe_code_is_in_three_modules() {
    let allowed = ["memory", "pace", "seen"].map(|module| format!("comet-runtime/src/sandbox/{module}.rs"));
    let with_unsafe = offenders(|source| {
        let block = ["unsafe ", "{"].concat();
        (source.text.contains(&block) && !allowed.contains(&source.path))
            .then(|| "has unsafe code".to_owned())
    });
    assert_eq!(with_unsafe, Vec::<String>::new());
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let words = ["TO.DO", "FIX.ME", "XX.X", "todo.!(", "unimplemented.!(", "#[ig.nore", "dbg.!("];
    let words: Vec<_> = words.iter().map(|word| word.replacen('.', "", 1)).collect();
    let left = offenders(|source| words.iter().find(|word| source.text.contains(*word)).cloned());
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn no_test_waits_for_real_time() {
    // Under a paused clock an async sleep takes no time; a thread's sleep always does.
    let (thread, paused) = ("thread::sle.ep".replacen('.', "", 1), "time::sle.ep(".replacen('.', "", 1));
    let sleeping = offenders(|source| {
        // The one place where measurements over real processes let time pass.
        if source.path == "tests/src/resilience/real_time.rs" {
            return None;
        }
        let is_test = source.path.contains("/tests") || source.path.starts_with("tests/");
        let tests = source.text.split("#[cfg(test)]").nth(1).unwrap_or("");
        let text = if is_test { source.text.as_str() } else { tests };
        let in_real_time = text.contains(&paused) && !text.contains("time::pause()");
        (text.contains(&thread) || in_real_time).then(|| "waits for real time".to_owned())
    });
    assert_eq!(sleeping, Vec::<String>::new());
}

#[test]
fn every_dependency_is_justified_in_the_architecture() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let table = manifest.split("[workspace.dependencies]").nth(1).expect("it lists dependencies");
    let table = table.split("\n[").next().unwrap_or(table);
    let names = table.lines().filter_map(|line| line.split_once(" = ").map(|(name, _)| name.trim()));
    let architecture =
        std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("there is an ARCHITECTURE.md");
    let missing: Vec<_> = names
        .filter(|name| !name.starts_with("comet-") && !name.starts_with('#'))
        .filter(|name| !architecture.contains(&format!("`{name}`")))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}
