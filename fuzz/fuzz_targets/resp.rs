#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| comet_tests::fuzzing::feed("resp", bytes));
