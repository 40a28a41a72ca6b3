//! Bytes that one decoder takes.

use comet_node::{
    config::Layers,
    http::is_put_body,
    json::{from_json, to_json},
    key_text::KeyText,
    resp::{
        command::{self, Rules},
        request::{Intake, RequestError, RequestLimits},
    },
    tracker,
    wire::{Request, decode_answer, encode_answer},
};
use comet_runtime::{Limits, Value};

/// A frame from a peer that asks. What was understood means the same when it is said again.
pub(super) fn request(frame: &[u8]) {
    if let Ok(request) = Request::decode(frame) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
}

/// A frame from a peer that answers.
pub(super) fn answer(frame: &[u8]) {
    if let Ok(answer) = decode_answer(frame) {
        assert_eq!(decode_answer(&encode_answer(&answer)), Ok(answer));
    }
}

/// A value, also as JSON and back.
pub(super) fn value(bytes: &[u8]) {
    let bounds = Limits::default().value_bounds();
    let Ok(value) = Value::decode(bytes, bounds) else { return };
    let encoded = value.encode();
    // Compared as bytes: what is not a number is not equal to itself.
    let again = Value::decode(&encoded, bounds).map(|value| value.encode());
    assert!(encoded.len() > bounds.bytes || again.as_ref() == Ok(&encoded), "{value:?}");
    let told = from_json(&to_json(&value), bounds.depth).expect("what a node tells it also takes");
    // As JSON again: JSON knows one value that is not a number, doubles have many.
    assert_eq!(to_json(&told), to_json(&value));
}

/// The body of a put over HTTP.
pub(super) fn put_body(body: &[u8]) {
    is_put_body(body, &Limits::default());
}

/// A key as people write it.
pub(super) fn key_text(text: &[u8]) {
    let (Ok(text), limits) = (std::str::from_utf8(text), Limits::default()) else { return };
    if let Ok(key) = KeyText::parse(text, limits.name_bytes) {
        let said = key.to_string();
        let again = KeyText::parse(&said, limits.name_bytes).map(|again| again.key());
        assert_eq!(again, Ok(key.key()), "{said:?}");
    }
}

/// The query of an announce or of a scrape.
pub(super) fn announce(query: &[u8]) {
    let Ok(query) = std::str::from_utf8(query) else { return };
    tracker::is_announce(query);
    tracker::is_scrape(query);
}

/// What a Redis client sends. However it is cut, the same requests are in it.
pub(super) fn resp(bytes: &[u8]) {
    let rules = Rules { limits: Limits::default(), ttl_seconds_max: 2_592_000 };
    let read = |piece: usize| -> Result<Vec<Vec<Vec<u8>>>, RequestError> {
        let (mut intake, mut requests) = (Intake::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            intake.buffer().extend_from_slice(piece);
            while let Some(words) = intake.next(RequestLimits::CLIENT)? {
                // Whatever it asks for, or does not, is an outcome.
                drop(command::parse(&words, &rules));
                requests.push(words.from(0).map(<[u8]>::to_vec).collect());
            }
        }
        Ok(requests)
    };
    let (whole, cut) = (read(bytes.len().max(1)), read(3));
    assert!(whole == cut || whole.is_err() && cut.is_err(), "{whole:?} is {cut:?} in pieces");
}

/// A configuration file.
pub(super) fn config(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    // Only that it ends, with a configuration or with a sentence.
    drop(Layers::default().file("fuzz.toml", text).assemble());
}
