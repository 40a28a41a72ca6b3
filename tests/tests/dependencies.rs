//! What may be built into Comet: licences, sources and versions of all dependencies, as cargo resolved them.
//!
//! `deny.toml` says the same, and more, to whoever has `cargo deny`. This needs neither that nor a network.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// Licences that ask for no more than that their text comes along.
const LICENCES: [&str; 8] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Where packages come from; those of the workspace come from nowhere.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Packages of which two incompatible versions are built, because others still want the older one.
const TWICE: [&str; 5] = ["base64", "getrandom", "hashbrown", "http", "syn"];

/// One TLS library and one set of primitives: rustls on ring.
const BANNED: [&str; 3] = ["aws-lc-rs", "native-tls", "openssl-sys"];

/// What cargo says, asked for what this machine builds.
fn ask(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo speaks UTF-8")
}

/// All packages, those of the workspace included.
fn packages() -> Vec<Value> {
    let version = ask(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo knows its host");
    let metadata =
        ask(&["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo speaks JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages").clone();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    packages
}

/// What is wrong with these packages, in words.
fn faults(packages: &[Value]) -> Vec<String> {
    let mut versions = BTreeMap::<&str, BTreeSet<&str>>::new();
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        versions.entry(name).or_default().insert(compatible(package["version"].as_str().unwrap_or_default()));
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_allowed(licence) {
            faults.push(format!("{name} has the licence {licence:?}"));
        }
        if package["source"].as_str().is_some_and(|source| source != SOURCE) {
            faults.push(format!("{name} comes from {}", package["source"]));
        }
        if BANNED.contains(&name) {
            faults.push(format!("{name} is not to be built in"));
        }
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let any_version = |dependency: &&Value| dependency["req"] == "*" && dependency["path"].is_null();
        // What a published package asks for is not ours to choose, and the lockfile holds it.
        if package["source"].is_null() {
            let wildcards = dependencies.filter(any_version);
            faults.extend(wildcards.map(|wanted| format!("{name} takes any version of {}", wanted["name"])));
        }
    }
    let twice = versions.iter().filter(|(name, versions)| versions.len() > 1 && !TWICE.contains(name));
    faults.extend(twice.map(|(name, versions)| format!("{name} is built in versions {versions:?}")));
    faults
}

/// The part of a version that changes with its interface.
fn compatible(version: &str) -> &str {
    let is_first_release = |(at, _): &(usize, &str)| !version[..*at].trim_matches(['0', '.']).is_empty();
    version.match_indices('.').find(is_first_release).map_or(version, |(at, _)| &version[..at])
}

/// True if a licence expression of SPDX lets us choose among licences that are allowed.
fn is_allowed(expression: &str) -> bool {
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = text.split_whitespace().peekable();
    let allowed = either(&mut words);
    allowed && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>) -> bool {
    let mut allowed = both(words);
    while words.next_if_eq(&"OR").is_some() {
        // Both sides are read to their ends.
        allowed |= both(words);
    }
    allowed
}

fn both(words: &mut Words<'_>) -> bool {
    let mut allowed = one(words);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words);
    }
    allowed
}

fn one(words: &mut Words<'_>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let allowed = either(words);
        return words.next_if_eq(&")").is_some() && allowed;
    }
    let mut licence = words.next().unwrap_or_default().to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", words.next().unwrap_or_default());
    }
    LICENCES.contains(&licence.as_str())
}

#[test]
fn every_dependency_has_an_allowed_licence_and_comes_from_the_registry_in_one_version() {
    assert_eq!(faults(&packages()), Vec::<String>::new());
}

#[test]
fn a_dependency_that_breaks_a_rule_is_found() {
    let package = |name: &str, version: &str, change: fn(&mut Value)| {
        let mut package = serde_json::json!({
            "name": name, "version": version, "license": "MIT", "source": SOURCE,
            "dependencies": [{ "name": "any", "req": "*", "path": null }],
        });
        change(&mut package);
        package
    };
    let fine = package("fine", "1.0.0", |_| {});
    let found = |bad: Value| faults(&[fine.clone(), bad]);
    assert_eq!(found(package("fine", "1.9.0", |_| {})), Vec::<String>::new(), "the control");
    assert_eq!(found(package("fine", "2.0.0", |_| {})), [r#"fine is built in versions {"1", "2"}"#]);
    assert_eq!(found(package("openssl-sys", "0.9.1", |_| {})), ["openssl-sys is not to be built in"]);
    assert_eq!(
        found(package("free", "1.0.0", |package| package["license"] = "MIT AND GPL-3.0".into())),
        [r#"free has the licence "MIT AND GPL-3.0""#]
    );
    assert_eq!(
        found(package("forked", "1.0.0", |package| package["source"] = "git+https://example.org/a".into())),
        [r#"forked comes from "git+https://example.org/a""#]
    );
    assert_eq!(
        found(package("ours", "1.0.0", |package| package["source"] = Value::Null)),
        [r#"ours takes any version of "any""#]
    );
}

#[test]
fn licences_are_chosen_from_an_expression() {
    for allowed in ["MIT", "GPL-3.0 OR MIT", "Unlicense/MIT", "(GPL-2.0 OR ISC) AND Zlib"] {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT ISC", "Apache-2.0 WITH Commons-Clause"] {
        assert!(!is_allowed(refused), "{refused}");
    }
}

#[test]
fn versions_are_compatible_up_to_their_first_number_that_is_not_zero() {
    for (version, part) in [("1.2.3", "1"), ("0.2.17", "0.2"), ("0.0.4", "0.0.4"), ("10.0.0", "10")] {
        assert_eq!(compatible(version), part);
    }
}
