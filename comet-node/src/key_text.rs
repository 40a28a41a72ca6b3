//! Keys as people write them, on the command line and percent-encoded in URLs.
//!
//! | text | key |
//! |---|---|
//! | `hello`, `user:42`, `a/b` | the public name, [`Key::of`] |
//! | `hex:` and 64 digits | exactly these 32 bytes |
//! | `owned:` and 64 digits, `/`, a name | the name in the space of that public key, [`Key::owned`] |
//!
//! A public name therefore cannot begin with `hex:` or `owned:`, and no name holds control characters, so
//! that a key can be printed and logged as it stands.

use std::{fmt, str::FromStr};

use comet_routing::Key;
use comet_runtime::Limits;

const HEX_PREFIX: &str = "hex:";
const OWNED_PREFIX: &str = "owned:";

/// A key in its text form; [`KeyText::key`] is the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyText {
    /// A public name.
    Name(String),
    /// The key's own bytes.
    Raw(Key),
    /// A name in the space of one owner.
    Owned {
        /// The owner's Ed25519 public key.
        public_key: [u8; 32],
        /// The name, which replicas see only as its salt.
        name: String,
    },
}

/// Why a text is not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// Nothing there.
    #[error("the key is empty")]
    Empty,
    /// A name is too long.
    #[error("the key's name has {size} bytes and the limit is {limit}")]
    TooLong {
        /// Bytes of the name.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A name holds a control character.
    #[error("the key's name holds the control character {0:?}")]
    Control(char),
    /// What follows `hex:` is not a key.
    #[error("after hex: come 64 hexadecimal digits, and {0:?} is not that")]
    BadHex(String),
    /// What follows `owned:` is not a public key and a name.
    #[error("an owned key is owned:<64 hexadecimal digits of the public key>/<name>, and {0:?} is not that")]
    BadOwned(String),
}

impl KeyText {
    /// Reads a key whose name has at most `name_bytes_max` bytes.
    pub fn parse(text: &str, name_bytes_max: usize) -> Result<Self, KeyTextError> {
        if let Some(digits) = text.strip_prefix(HEX_PREFIX) {
            return match parse_hex(digits) {
                Some(bytes) => Ok(Self::Raw(Key::from_bytes(bytes))),
                None => Err(KeyTextError::BadHex(shortened(digits))),
            };
        }
        if let Some(rest) = text.strip_prefix(OWNED_PREFIX) {
            let refuse = || KeyTextError::BadOwned(shortened(text));
            let (digits, name) = rest.split_once('/').ok_or_else(refuse)?;
            let public_key = parse_hex(digits).ok_or_else(refuse)?;
            return Ok(Self::Owned { public_key, name: checked_name(name, name_bytes_max)? });
        }
        Ok(Self::Name(checked_name(text, name_bytes_max)?))
    }

    /// The key that a text names, as [`KeyText::parse`] and [`KeyText::key`] find it, without keeping a name.
    pub fn key_of(text: &str, name_bytes_max: usize) -> Result<Key, KeyTextError> {
        if text.starts_with(HEX_PREFIX) || text.starts_with(OWNED_PREFIX) {
            return Self::parse(text, name_bytes_max).map(|parsed| parsed.key());
        }
        check_name(text, name_bytes_max)?;
        Ok(Key::of(text))
    }

    /// The key that the text names.
    pub fn key(&self) -> Key {
        match self {
            Self::Name(name) => Key::of(name),
            Self::Raw(key) => *key,
            Self::Owned { public_key, name } => Key::owned(public_key, name),
        }
    }

    /// The same name in the space of one owner. Raw keys and names that already have an owner stay.
    pub fn in_space_of(self, public_key: [u8; 32]) -> Self {
        match self {
            Self::Name(name) => Self::Owned { public_key, name },
            other => other,
        }
    }
}

impl FromStr for KeyText {
    type Err = KeyTextError;

    /// As [`KeyText::parse`] with the default limit; the node applies its own again.
    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        Self::parse(text, Limits::default().name_bytes)
    }
}

impl fmt::Display for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Raw(key) => write!(f, "{HEX_PREFIX}{key}"),
            Self::Owned { public_key, name } => write!(f, "{OWNED_PREFIX}{}/{name}", hex(public_key)),
        }
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Exactly `N` bytes from hexadecimal digits of either case.
pub fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(high << 4 | low),
        _ => None,
    });
    let bytes: Vec<u8> = pairs.collect::<Option<_>>()?;
    bytes.try_into().ok()
}

fn checked_name(name: &str, limit: usize) -> Result<String, KeyTextError> {
    check_name(name, limit)?;
    Ok(name.to_owned())
}

fn check_name(name: &str, limit: usize) -> Result<(), KeyTextError> {
    if name.is_empty() {
        return Err(KeyTextError::Empty);
    }
    if name.len() > limit {
        return Err(KeyTextError::TooLong { size: name.len(), limit });
    }
    match name.chars().find(|c| c.is_control()) {
        Some(control) => Err(KeyTextError::Control(control)),
        None => Ok(()),
    }
}

/// Enough of a wrong text to recognise it in a message.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bare_word_is_a_public_name() {
        for name in ["hello", "user:42", "a/b", "../etc", "naïve key", "%2F", "hexagon", "ownedx"] {
            assert_eq!(name.parse::<KeyText>().map(|text| text.key()), Ok(Key::of(name)));
        }
    }

    #[test]
    fn hex_is_a_raw_key_of_64_digits() {
        let key = Key::of("x");
        assert_eq!(format!("hex:{key}").parse(), Ok(KeyText::Raw(key)));
        assert_eq!(format!("hex:{key}").to_uppercase().replace("HEX", "hex").parse(), Ok(KeyText::Raw(key)));
        assert_eq!("hex:12".parse::<KeyText>(), Err(KeyTextError::BadHex("12".into())));
        let signed = "+1".repeat(32);
        assert_eq!(format!("hex:{signed}").parse::<KeyText>(), Err(KeyTextError::BadHex(signed)));
    }

    #[test]
    fn owned_names_an_owner_and_a_name() {
        let text = format!("owned:{}/a/b", hex(&[7; 32]));
        assert_eq!(text.parse::<KeyText>().map(|text| text.key()), Ok(Key::owned(&[7; 32], "a/b")));
        assert_eq!("owned:7/a".parse::<KeyText>(), Err(KeyTextError::BadOwned("owned:7/a".into())));
        assert_eq!(format!("owned:{}/", hex(&[7; 32])).parse::<KeyText>(), Err(KeyTextError::Empty));
    }

    #[test]
    fn names_are_neither_empty_nor_too_long_nor_unprintable() {
        assert_eq!("".parse::<KeyText>(), Err(KeyTextError::Empty));
        assert_eq!(KeyText::parse("abcd", 4), Ok(KeyText::Name("abcd".into())));
        assert_eq!(KeyText::parse("abcde", 4), Err(KeyTextError::TooLong { size: 5, limit: 4 }));
        assert_eq!("a\nb".parse::<KeyText>(), Err(KeyTextError::Control('\n')));
        assert_eq!("a\0".parse::<KeyText>(), Err(KeyTextError::Control('\0')));
    }

    #[test]
    fn a_bare_name_moves_into_its_owners_space() {
        let name: KeyText = "a".parse().unwrap();
        assert_eq!(name.in_space_of([7; 32]).key(), Key::owned(&[7; 32], "a"));
        let raw = KeyText::Raw(Key::of("a"));
        assert_eq!(raw.clone().in_space_of([7; 32]), raw);
    }

    proptest! {
        #[test]
        fn any_text_parses_to_what_displays_as_an_equal_key(text in "\\PC{0,80}|(hex:|owned:)[0-9a-f]{64}/?\\PC{0,8}") {
            let found = KeyText::key_of(&text, Limits::default().name_bytes);
            prop_assert_eq!(found, text.parse::<KeyText>().map(|parsed| parsed.key()));
            if let Ok(parsed) = text.parse::<KeyText>() {
                prop_assert_eq!(parsed.to_string().parse::<KeyText>(), Ok(parsed));
            }
        }

        #[test]
        fn hex_digits_round_trip(bytes: [u8; 32]) {
            prop_assert_eq!(parse_hex(&hex(&bytes)), Some(bytes));
        }
    }
}
