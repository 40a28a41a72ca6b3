//! Which tokens cannot be guessed.

use std::collections::{BTreeMap, BTreeSet};

/// The least that a token must tell whoever does not know it, in bits. Of 400,000 times 32 random hexadecimal digits, none had
/// less than 85. `comet-node token` makes tokens of 256 bits.
const TOKEN_BITS_MIN: f64 = 80.0;

/// What a person puts behind a word that was typed again and again, in characters at most.
const TAIL_MAX: usize = 4;

/// Different characters that a token has at least; 32 random hexadecimal digits have fewer once in a hundred million times.
const DIFFERENT_MIN: usize = 8;

/// True for a token that is too regular to be a secret: few different characters, or one piece again and again.
///
/// Counting cannot prove that a text was chosen by chance; it finds those that were certainly not.
pub(super) fn is_guessable(token: &str) -> bool {
    let different: BTreeSet<u8> = token.bytes().collect();
    let without_tail =
        (0..=TAIL_MAX).filter_map(|tail| token.as_bytes().split_at_checked(token.len().checked_sub(tail)?));
    let mut told = without_tail.map(|(start, tail)| bits(&[piece(start), tail].concat()));
    different.len() < DIFFERENT_MIN || told.any(|bits| bits < TOKEN_BITS_MIN)
}

/// The shortest text of which `token` is a repetition, whole or cut off at the end.
fn piece(token: &[u8]) -> &[u8] {
    let repeats = |length: &usize| token.iter().zip(token.iter().skip(*length)).all(|(a, b)| a == b);
    let length = (1..token.len()).find(repeats).unwrap_or(token.len());
    token.get(..length).unwrap_or(token)
}

/// Shannon's entropy of the characters as they are distributed in `text`, times their number.
fn bits(text: &[u8]) -> f64 {
    let mut counts = BTreeMap::<u8, u32>::new();
    for byte in text {
        *counts.entry(*byte).or_default() += 1;
    }
    let all = text.len() as f64;
    counts.values().map(|&count| f64::from(count) * (all / f64::from(count)).log2()).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_person_types_to_get_past_a_length_is_guessable() {
        for token in [
            String::new(),
            "t".repeat(64),
            "sesame".repeat(10),
            "0123456789abcdef".repeat(4),
            "passwordpasswordpasswordpassword1".to_owned(),
            "01".repeat(50) + "2",
        ] {
            assert!(is_guessable(&token), "{token}");
        }
    }

    proptest! {
        #[test]
        fn random_digits_are_not(bytes in any::<[u8; 16]>(), more in any::<[u8; 32]>()) {
            // Bytes that a generator shrinks to are no random ones.
            let digits = |bytes: &[u8]| -> String {
                ring::digest::digest(&ring::digest::SHA256, bytes)
                    .as_ref()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect()
            };
            prop_assert!(!is_guessable(&digits(&more)));
            prop_assert!(!is_guessable(&digits(&bytes)[..32]));
        }
    }
}
