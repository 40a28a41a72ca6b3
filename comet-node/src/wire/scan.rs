//! The structure of a frame, checked before anything is decoded.
//!
//! One pass over the bytes without recursion and without allocation: the frame is a map of one entry, every
//! declared length fits the bytes that are left, the nesting and the number of values are bounded, map keys
//! are strings, and the frame ends where the map ends. What decodes afterwards cannot be made to recurse
//! deeply or to reserve more memory than the frame itself takes.

use super::{DEPTH_MAX, DecodeError, ELEMENTS_MAX, FRAME_BYTES_MAX};

/// Checks a frame and returns the name of its message.
pub(super) fn name_of(frame: &[u8]) -> Result<&str, DecodeError> {
    if frame.len() > FRAME_BYTES_MAX {
        return Err(DecodeError::TooLarge { size: frame.len() });
    }
    let malformed = |reason: &str| DecodeError::Malformed(reason.to_owned());
    check(frame).map_err(malformed)?;
    let mut rest = Rest(frame);
    let Some(0x81) = rest.byte() else { return Err(malformed("not a map of one entry")) };
    let name = match rest.byte() {
        Some(marker @ 0xa0..=0xbf) => rest.take(u64::from(marker & 0x1f)),
        _ => None,
    };
    name.and_then(|name| std::str::from_utf8(name).ok()).ok_or_else(|| malformed("no name"))
}

/// An open list or map.
#[derive(Clone, Copy, Default)]
struct Open {
    /// Values that are still to come; a map's keys and values each count.
    values_left: u64,
    is_map: bool,
}

/// What a marker announces.
enum Item {
    /// A value without content, its bytes skipped.
    Scalar,
    /// As above, and allowed as the key of a map.
    Str,
    List(u64),
    Map(u64),
}

fn check(frame: &[u8]) -> Result<(), &'static str> {
    let mut rest = Rest(frame);
    let mut open = [Open::default(); DEPTH_MAX];
    let mut depth = 0_usize;
    let mut values_seen = 0_usize;
    loop {
        values_seen = values_seen.saturating_add(1);
        if values_seen > ELEMENTS_MAX {
            return Err("too many values");
        }
        let item = rest.item()?;
        if let Some(parent) = depth.checked_sub(1).and_then(|at| open.get_mut(at)) {
            if parent.is_map && parent.values_left.is_multiple_of(2) && !matches!(item, Item::Str) {
                return Err("a field's name is not a string");
            }
            parent.values_left = parent.values_left.saturating_sub(1);
        }
        let opened = match item {
            Item::Scalar | Item::Str => None,
            Item::List(count) => Some(Open { values_left: count, is_map: false }),
            Item::Map(count) => Some(Open { values_left: count.saturating_mul(2), is_map: true }),
        };
        if let Some(opened) = opened {
            // Every value takes at least one byte.
            if opened.values_left > rest.len() {
                return Err("a declared length exceeds the frame");
            }
            *open.get_mut(depth).ok_or("nested too deeply")? = opened;
            depth = depth.saturating_add(1);
        }
        while let Some(last) = depth.checked_sub(1)
            && open.get(last).is_none_or(|container| container.values_left == 0)
        {
            depth = last;
        }
        if depth == 0 {
            return if rest.len() == 0 { Ok(()) } else { Err("bytes follow the message") };
        }
    }
}

/// The bytes that were not looked at yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of `bytes` bytes, at most 8.
    fn number(&mut self, bytes: u64) -> Option<u64> {
        Some(self.take(bytes)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn skip(&mut self, count: u64) -> Option<Item> {
        self.take(count).map(|_| Item::Scalar)
    }

    fn skip_str(&mut self, count: u64) -> Option<Item> {
        self.take(count).map(|_| Item::Str)
    }

    /// Reads one marker with what belongs to it (MessagePack specification, "Formats").
    fn item(&mut self) -> Result<Item, &'static str> {
        let cut_short = "a declared length exceeds the frame";
        let marker = self.byte().ok_or(cut_short)?;
        let item = match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => Some(Item::Scalar),
            0x80..=0x8f => Some(Item::Map(u64::from(marker & 0x0f))),
            0x90..=0x9f => Some(Item::List(u64::from(marker & 0x0f))),
            0xa0..=0xbf => self.skip_str(u64::from(marker & 0x1f)),
            0xc4 => self.number(1).and_then(|length| self.skip(length)),
            0xc5 => self.number(2).and_then(|length| self.skip(length)),
            0xc6 => self.number(4).and_then(|length| self.skip(length)),
            0xcc | 0xd0 => self.skip(1),
            0xcd | 0xd1 => self.skip(2),
            0xce | 0xd2 | 0xca => self.skip(4),
            0xcf | 0xd3 | 0xcb => self.skip(8),
            0xd9 => self.number(1).and_then(|length| self.skip_str(length)),
            0xda => self.number(2).and_then(|length| self.skip_str(length)),
            0xdb => self.number(4).and_then(|length| self.skip_str(length)),
            0xdc => self.number(2).map(Item::List),
            0xdd => self.number(4).map(Item::List),
            0xde => self.number(2).map(Item::Map),
            0xdf => self.number(4).map(Item::Map),
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err("an extension or reserved type"),
        };
        item.ok_or(cut_short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(frame: &[u8]) -> String {
        name_of(frame).expect_err("not a frame").to_string()
    }

    #[test]
    fn a_frame_is_a_map_of_one_entry_with_a_name() {
        assert_eq!(name_of(b"\x81\xa4ping\x80"), Ok("ping"));
        assert!(reason(b"").contains("exceeds the frame"));
        assert!(reason(b"\x80").contains("one entry"));
        assert!(reason(b"\x82\xa1a\x80\xa1b\x80").contains("one entry"));
        assert!(reason(b"\x91\xa4ping").contains("one entry"));
        assert!(reason(b"\xa4ping").contains("one entry"));
        assert!(reason(b"\x81\xd9\x04ping\x80").contains("no name"));
        assert!(reason(b"\x81\xa1\xff\x80").contains("no name"));
    }

    #[test]
    fn nothing_follows_a_frame() {
        assert!(reason(b"\x81\xa4ping\x80\x00").contains("bytes follow"));
        assert!(reason(b"\x81\xa4ping\x80\x81\xa4ping\x80").contains("bytes follow"));
    }

    #[test]
    fn a_declared_length_must_fit_the_frame() {
        let headers: [&[u8]; 10] = [
            b"\xc4\xff",
            b"\xc5\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\xd9\xff",
            b"\xda\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            b"\xdc\xff\xff",
            b"\xdd\xff\xff\xff\xff",
            b"\xde\xff\xff",
            b"\xdf\xff\xff\xff\xff",
        ];
        for header in headers {
            let frame = [b"\x81\xa1a", header, b"abc"].concat();
            assert!(reason(&frame).contains("exceeds the frame"), "{header:x?}");
        }
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |levels: usize| [b"\x81\xa1a".to_vec(), vec![0x91; levels - 1], vec![0xc0]].concat();
        assert_eq!(name_of(&nested(DEPTH_MAX)), Ok("a"));
        assert!(reason(&nested(DEPTH_MAX + 1)).contains("too deeply"));
        assert!(reason(&vec![0x91; 100_000]).contains("too deeply"));
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        let list = |count: usize| {
            let header = [b"\x81\xa1a\xdc".to_vec(), (count as u16).to_be_bytes().to_vec()].concat();
            [header, vec![0xc0; count]].concat()
        };
        assert_eq!(name_of(&list(ELEMENTS_MAX - 3)), Ok("a"));
        assert!(reason(&list(ELEMENTS_MAX - 2)).contains("too many"));
    }

    #[test]
    fn names_of_fields_are_strings_and_types_are_the_known_ones() {
        assert!(reason(b"\x81\xa1a\x81\x00\x01").contains("not a string"));
        assert!(reason(b"\x81\xa1a\x81\xc4\x01k\x01").contains("not a string"));
        assert!(reason(b"\x81\xa1a\xd4\x01\x00").contains("reserved type"));
        assert!(reason(b"\x81\xa1a\xc1").contains("reserved type"));
    }

    #[test]
    fn a_frame_over_the_limit_is_not_looked_at() {
        let size = FRAME_BYTES_MAX + 1;
        assert_eq!(name_of(&vec![0; size]), Err(DecodeError::TooLarge { size }));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(frame in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = name_of(&frame);
        }

        #[test]
        fn a_sound_frame_is_unsound_when_cut_anywhere(cut in 0_usize..12) {
            let frame = b"\x81\xa1a\x82\xa1b\x92\x01\x02\xa1c\xc4\x01x";
            prop_assert_eq!(name_of(frame), Ok("a"));
            prop_assert!(name_of(&frame[..cut]).is_err());
        }
    }
}
