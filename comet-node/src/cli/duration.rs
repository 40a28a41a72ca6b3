//! Times as people write them: `500ms`, `90s`, `15m`, `1h`, `7d`.

use std::time::Duration;

/// The longest time that makes sense anywhere, in milliseconds: a year.
const MS_MAX: u64 = 366 * 24 * 3600 * 1000;

/// A time above zero and up to a year.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a time is a whole number and ms, s, m, h or d, like 90s".to_owned()),
    };
    let ms = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    match ms {
        Some(ms @ 1..=MS_MAX) => Ok(Duration::from_millis(ms)),
        _ => Err("a time is from 1ms to 366d".to_owned()),
    }
}

/// The longest that a node takes for an operation.
const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// When an operation is given up.
pub(super) fn parse_deadline(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if time <= DEADLINE_MAX => Ok(time),
        _ => Err("a deadline is at most 1m".to_owned()),
    }
}

/// A lifetime in whole seconds.
pub(super) fn parse_ttl(text: &str) -> Result<u64, String> {
    match parse_duration(text)? {
        time if time.subsec_millis() == 0 => Ok(time.as_secs()),
        _ => Err("a lifetime is whole seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_unit_means_what_it_says() {
        for (text, seconds) in
            [("90s", 90), ("15m", 900), ("1h", 3_600), ("7d", 604_800), ("366d", 31_622_400)]
        {
            assert_eq!(parse_ttl(text), Ok(seconds));
        }
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
    }

    #[test]
    fn nothing_else_is_a_time() {
        for text in ["", "1", "s", "-1s", "1.5h", "1h30m", "1 h", "0s", "367d", "99999999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_ttl("500ms").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,24}|[0-9]{1,30}(ms|s|m|h|d)") {
            if let Ok(time) = parse_duration(&text) {
                prop_assert!(time > Duration::ZERO && time <= Duration::from_millis(MS_MAX));
            }
        }
    }
}
