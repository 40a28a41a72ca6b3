//! Text that leaves the sandbox: cut, escaped, without addresses.

use std::fmt::Write;

/// Cuts text to so many bytes and escapes what could forge a log line or a terminal sequence; host addresses
/// are struck out.
pub(crate) fn clean(text: &str, bytes_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(bytes_max));
    for c in strike_addresses(text, bytes_max.saturating_mul(4)).chars() {
        let mut piece = String::new();
        if c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            piece.extend(c.escape_default());
        } else {
            piece.push(c);
        }
        if out.len().saturating_add(piece.len()) > bytes_max {
            break;
        }
        out.push_str(&piece);
    }
    out
}

/// Replaces every `0x` followed by six or more hexadecimal digits.
fn strike_addresses(text: &str, look_at: usize) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("0x") {
        let (before, found) = rest.split_at(at);
        let digits = found.chars().skip(2).take_while(char::is_ascii_hexdigit).count();
        let (number, after) = found.split_at(digits.saturating_add(2));
        out.push_str(before);
        out.push_str(if digits >= 6 { "0x…" } else { number });
        rest = after;
        if out.len() > look_at {
            return out;
        }
    }
    out + rest
}

/// Lower-case hexadecimal digits of bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut out, byte| {
        write!(out, "{byte:02x}").ok();
        out
    })
}

/// `count` bytes given as twice as many hexadecimal digits; anything else is taken as it is.
pub(crate) fn unhex(text: &[u8], count: usize) -> Vec<u8> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).map(|digit| digit as u8);
    let digits: Option<Vec<u8>> = text.iter().map(digit).collect();
    match digits {
        Some(digits) if digits.len() == count.saturating_mul(2) => {
            digits.as_chunks().0.iter().map(|[high, low]| high << 4 | low).collect()
        }
        _ => text.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_addresses_and_length_are_tamed() {
        assert_eq!(clean("a\nb\u{1b}[31m", 100), "a\\nb\\u{1b}[31m");
        assert_eq!(clean("table: 0x00007f12ab34cd56!", 100), "table: 0x…!");
        assert_eq!(clean("0x1f is fine, 0x", 100), "0x1f is fine, 0x");
        assert_eq!(clean(&"é".repeat(1_000), 9), "éééé");
        assert!(clean(&"0x123456".repeat(10_000), 256).len() <= 256);
    }

    #[test]
    fn hexadecimal_is_understood_and_raw_bytes_pass() {
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
        assert_eq!(unhex(b"00ff10", 3), [0, 255, 16]);
        assert_eq!(unhex(b"abc", 3), b"abc");
    }
}
