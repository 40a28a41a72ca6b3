//! What fuzzers found worth keeping, on any toolchain: inputs that reach far, and those that once broke something.

use std::{fs, path::Path};

use comet_tests::{
    fuzzing::{TARGETS, feed},
    source::root,
};
use proptest::prelude::*;

/// Files of a folder; none if it is not there.
fn inputs(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| (path.display().to_string(), fs::read(path).expect("the file can be read")))
        .collect()
}

#[test]
fn every_door_takes_its_corpus() {
    for (name, _) in TARGETS {
        let inputs = inputs(&root().join("fuzz/corpus").join(name));
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for (path, bytes) in inputs {
            println!("{path}");
            feed(name, &bytes);
        }
    }
}

#[test]
fn what_once_broke_something_does_so_no_more() {
    for (name, _) in TARGETS {
        for (path, bytes) in inputs(&root().join("fuzz/regressions").join(name)) {
            println!("{path}");
            feed(name, &bytes);
        }
    }
}

#[test]
fn every_fuzz_target_is_a_door_and_every_door_has_one() {
    let mut files: Vec<_> = fs::read_dir(root().join("fuzz/fuzz_targets"))
        .expect("the targets are there")
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    files.sort();
    let names: Vec<_> = files.iter().map(|path| path.file_stem().expect("a name").to_owned()).collect();
    assert_eq!(names, TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).expect("the manifest is there");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_door_breaks_on_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for (name, _) in TARGETS {
            feed(name, &bytes);
        }
    }

    #[test]
    fn no_door_breaks_on_a_changed_input_of_its_corpus(
        at in any::<prop::sample::Index>(), spot in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        for (name, _) in TARGETS {
            let inputs = inputs(&root().join("fuzz/corpus").join(name));
            let (_, mut bytes) = inputs[at.index(inputs.len())].clone();
            if !bytes.is_empty() {
                let spot = spot.index(bytes.len());
                bytes[spot] = byte;
            }
            feed(name, &bytes);
        }
    }
}
