//! What fuzzers feed: every door through which bytes of strangers come in.
//!
//! A [`Target`] takes any bytes and promises to neither panic nor hang; where something comes out, it also checks
//! what must hold of it. `fuzz/` runs them under libFuzzer, and the test `fuzz_corpus` runs what was kept of that,
//! and random bytes, on any toolchain.

mod decoders;
mod handlers;
mod routing;

/// A door, by the name of its fuzz target.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, by name.
pub const TARGETS: &[Target] = &[
    ("announce", decoders::announce),
    ("answer", decoders::answer),
    ("config", decoders::config),
    ("handlers", handlers::handlers),
    ("key_text", decoders::key_text),
    ("lookup", routing::lookup),
    ("put_body", decoders::put_body),
    ("request", decoders::request),
    ("resp", decoders::resp),
    ("stored", comet_store::simulation::read_stored),
    ("table", routing::table),
    ("value", decoders::value),
    ("writes", comet_store::simulation::write_any),
];

/// Feeds the target of this name. The name must be one of [`TARGETS`].
pub fn feed(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(its, _)| *its == name).expect("a fuzz target has a door's name");
    target(bytes);
}
