//! Values as JSON, without loss in either direction.
//!
//! | value | JSON |
//! |---|---|
//! | nil, boolean | `null`, `true`, `false` |
//! | integer within ±2^53 | a number without a fraction |
//! | other integer | `{"$int": "9223372036854775807"}`, since most JSON readers compute in doubles |
//! | finite float | a number with a fraction or an exponent |
//! | other float | `{"$float": "nan"}`, `"inf"`, `"-inf"` |
//! | UTF-8 string | a string |
//! | other string | `{"$bytes": "<base64>"}` |
//! | list | an array |
//! | map whose keys are UTF-8 strings without a leading `$` | an object |
//! | other map | `{"$map": [[key, value], …]}` |
//! | node | `{"$node": {"id": "<64 hexadecimal digits>", "addr": "192.0.2.1:7400"}}` |
//!
//! Integers of any size within 64 bits are read as plain numbers, too.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use comet_routing::{Contact, NodeId};
use comet_runtime::Value;
use serde_json::{Map, Number, Value as Json, json};

/// The largest whole number up to which every double is exact, 2^53.
const EXACT_MAX: u64 = 1 << 53;

/// Why a JSON document is not a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Arrays and objects nest too deeply.
    #[error("the value nests deeper than {depth_max} levels")]
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
    /// A whole number does not fit.
    #[error("{0} does not fit a signed 64-bit integer")]
    TooLarge(String),
    /// An object has a field with a leading `$` that means nothing here.
    #[error(
        "fields that begin with $ are reserved and {0:?} is not one of $bytes, $float, $int, $map, $node"
    )]
    Reserved(String),
    /// A reserved field holds the wrong thing.
    #[error("{field} wants {wants}")]
    Malformed {
        /// The reserved field.
        field: &'static str,
        /// What it should hold.
        wants: &'static str,
    },
}

/// The JSON form of a value.
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(n) if n.unsigned_abs() <= EXACT_MAX => Json::from(*n),
        Value::Int(n) => json!({ "$int": n.to_string() }),
        Value::Float(n) => float_to_json(*n),
        Value::Str(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Json::from(text),
            Err(_) => json!({ "$bytes": BASE64_STANDARD.encode(bytes) }),
        },
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => map_to_json(entries),
        Value::Node(node) => {
            json!({ "$node": { "id": node.id.to_string(), "addr": node.addr.to_string() } })
        }
    }
}

/// The value of a JSON document whose arrays and objects, as a value, nest at most `depth_max` deep; a
/// scalar has depth 0.
pub fn from_json(json: &Json, depth_max: usize) -> Result<Value, JsonError> {
    Reader { depth_max }.read(json, depth_max)
}

fn float_to_json(n: f64) -> Json {
    match Number::from_f64(n) {
        Some(number) => Json::Number(number),
        None if n.is_nan() => json!({ "$float": "nan" }),
        None if n > 0.0 => json!({ "$float": "inf" }),
        None => json!({ "$float": "-inf" }),
    }
}

fn map_to_json(entries: &[(Value, Value)]) -> Json {
    let object: Option<Map<String, Json>> = entries
        .iter()
        .map(|(key, value)| {
            let name = key.as_text().filter(|name| !name.starts_with('$'))?;
            Some((name.to_owned(), to_json(value)))
        })
        .collect();
    match object {
        Some(object) => Json::Object(object),
        None => {
            let pairs: Vec<Json> =
                entries.iter().map(|(key, value)| json!([to_json(key), to_json(value)])).collect();
            json!({ "$map": pairs })
        }
    }
}

struct Reader {
    depth_max: usize,
}

impl Reader {
    /// Reads one document that may nest `depth_left` levels.
    fn read(&self, json: &Json, depth_left: usize) -> Result<Value, JsonError> {
        match json {
            Json::Null => Ok(Value::Nil),
            Json::Bool(b) => Ok(Value::Bool(*b)),
            Json::Number(number) => read_number(number),
            Json::String(text) => Ok(Value::str(text)),
            Json::Array(items) => {
                let depth_left = self.deeper(depth_left)?;
                let items: Result<_, _> = items.iter().map(|item| self.read(item, depth_left)).collect();
                Ok(Value::List(items?))
            }
            Json::Object(object) => match object.keys().find(|name| name.starts_with('$')) {
                None => {
                    let depth_left = self.deeper(depth_left)?;
                    let entries: Result<Vec<_>, _> = object
                        .iter()
                        .map(|(name, value)| Ok((Value::str(name), self.read(value, depth_left)?)))
                        .collect();
                    Ok(Value::map(entries?))
                }
                Some(field) if object.len() == 1 => self.read_reserved(field, &object[field], depth_left),
                Some(field) => Err(JsonError::Reserved(field.clone())),
            },
        }
    }

    fn read_reserved(&self, field: &str, json: &Json, depth_left: usize) -> Result<Value, JsonError> {
        match field {
            "$bytes" => {
                let bytes = json.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
                let malformed = JsonError::Malformed { field: "$bytes", wants: "a base64 string" };
                Ok(Value::Str(Bytes::from(bytes.ok_or(malformed)?)))
            }
            "$float" => match json.as_str() {
                Some("nan") => Ok(Value::Float(f64::NAN)),
                Some("inf") => Ok(Value::Float(f64::INFINITY)),
                Some("-inf") => Ok(Value::Float(f64::NEG_INFINITY)),
                _ => Err(JsonError::Malformed { field: "$float", wants: "\"nan\", \"inf\" or \"-inf\"" }),
            },
            "$int" => {
                let number = json.as_str().and_then(|text| text.parse().ok());
                let wants = "a decimal string that fits a signed 64-bit integer";
                Ok(Value::Int(number.ok_or(JsonError::Malformed { field: "$int", wants })?))
            }
            "$map" => {
                let depth_left = self.deeper(depth_left)?;
                self.read_pairs(json, depth_left)
            }
            "$node" => read_node(json).ok_or(JsonError::Malformed {
                field: "$node",
                wants: "{\"id\": 64 hexadecimal digits, \"addr\": \"address:port\"}",
            }),
            other => Err(JsonError::Reserved(other.to_owned())),
        }
    }

    fn read_pairs(&self, json: &Json, depth_left: usize) -> Result<Value, JsonError> {
        let malformed = |wants| JsonError::Malformed { field: "$map", wants };
        let pairs = json.as_array().ok_or(malformed("an array of [key, value] pairs"))?;
        let mut entries = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let Some([key, value]) = pair.as_array().map(Vec::as_slice) else {
                return Err(malformed("an array of [key, value] pairs"));
            };
            let key = self.read(key, depth_left)?;
            if key == Value::Nil || matches!(key, Value::Float(n) if n.is_nan()) {
                return Err(malformed("keys that are neither null nor NaN"));
            }
            entries.push((key, self.read(value, depth_left)?));
        }
        Ok(Value::map(entries))
    }

    fn deeper(&self, depth_left: usize) -> Result<usize, JsonError> {
        depth_left.checked_sub(1).ok_or(JsonError::TooDeep { depth_max: self.depth_max })
    }
}

fn read_number(number: &Number) -> Result<Value, JsonError> {
    if let Some(n) = number.as_i64() {
        return Ok(Value::Int(n));
    }
    match number.as_f64() {
        Some(n) if number.is_f64() => Ok(Value::Float(n)),
        _ => Err(JsonError::TooLarge(number.to_string())),
    }
}

fn read_node(json: &Json) -> Option<Value> {
    let object = json.as_object().filter(|object| object.len() == 2)?;
    let id: NodeId = object.get("id")?.as_str()?.parse().ok()?;
    let addr = object.get("addr")?.as_str()?.parse().ok()?;
    Some(Value::Node(Contact::new(id, addr)))
}

#[cfg(test)]
mod tests {
    use std::{cmp::Ordering, net::SocketAddr};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_values_look_like_plain_json() {
        let value = Value::map([
            (Value::str("n"), Value::Int(3)),
            (Value::str("x"), Value::Float(3.0)),
            (Value::str("list"), Value::List(vec![Value::Nil, Value::Bool(true), Value::str("é")])),
        ]);
        assert_eq!(to_json(&value).to_string(), r#"{"list":[null,true,"é"],"n":3,"x":3.0}"#);
    }

    #[test]
    fn what_json_lacks_has_a_form_of_its_own() {
        let node = Contact::new(NodeId::from_bytes([1; 32]), "192.0.2.1:7400".parse::<SocketAddr>().unwrap());
        let cases = [
            (Value::Str(Bytes::from_static(b"\xff\x00")), r#"{"$bytes":"/wA="}"#.to_owned()),
            (Value::Int(1 << 53), "9007199254740992".to_owned()),
            (Value::Int((1 << 53) + 1), r#"{"$int":"9007199254740993"}"#.to_owned()),
            (Value::Int(i64::MAX), r#"{"$int":"9223372036854775807"}"#.to_owned()),
            (Value::Float(f64::NEG_INFINITY), r#"{"$float":"-inf"}"#.to_owned()),
            (Value::map([(Value::Int(2), Value::Nil)]), r#"{"$map":[[2,null]]}"#.to_owned()),
            (Value::map([(Value::str("$a"), Value::Nil)]), r#"{"$map":[["$a",null]]}"#.to_owned()),
            (
                Value::Node(node),
                format!(r#"{{"$node":{{"addr":"192.0.2.1:7400","id":"{}"}}}}"#, "01".repeat(32)),
            ),
        ];
        for (value, text) in cases {
            assert_eq!(to_json(&value).to_string(), text);
            assert_eq!(from_json(&to_json(&value), 16), Ok(value));
        }
    }

    #[test]
    fn documents_that_are_not_values_are_refused_with_the_reason() {
        let reserved = |name: &str| JsonError::Reserved(name.to_owned());
        let malformed = |field, wants| JsonError::Malformed { field, wants };
        let pairs = "an array of [key, value] pairs";
        for (json, error) in [
            (json!(u64::MAX), JsonError::TooLarge("18446744073709551615".to_owned())),
            (json!({"$what": 1}), reserved("$what")),
            (json!({"$bytes": "", "a": 1}), reserved("$bytes")),
            (json!({"$bytes": "?"}), malformed("$bytes", "a base64 string")),
            (json!({"$float": "1"}), malformed("$float", "\"nan\", \"inf\" or \"-inf\"")),
            (json!({"$map": [[1]]}), malformed("$map", pairs)),
            (json!({"$map": [[null, 1]]}), malformed("$map", "keys that are neither null nor NaN")),
        ] {
            assert_eq!(from_json(&json, 16), Err(error), "{json}");
        }
    }

    #[test]
    fn nesting_is_bounded_in_every_form() {
        assert_eq!(from_json(&json!([[1]]), 2), Ok(Value::List(vec![Value::List(vec![Value::Int(1)])])));
        for json in [json!([[[1]]]), json!({"a": {"b": {}}}), json!({"$map": [[1, {"$map": [[2, []]]}]]})] {
            assert_eq!(from_json(&json, 2), Err(JsonError::TooDeep { depth_max: 2 }), "{json}");
        }
    }

    #[test]
    fn the_deepest_allowed_value_survives_the_json_parser() {
        let deep = (0..32).fold(Value::Int(1), |inner, n| Value::map([(Value::Int(n), inner)]));
        let json: Json = serde_json::from_str(&to_json(&deep).to_string()).unwrap();
        assert_eq!(from_json(&json, 32), Ok(deep));
    }

    fn values() -> impl Strategy<Value = Value> {
        let keys = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            "\\$?[a-z]{0,4}".prop_map(Value::str),
        ];
        let leaves = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_map(|n| Value::Float(if n.is_nan() { f64::NAN } else { n })),
            Just(Value::Float(f64::NAN)),
            "\\PC{0,8}".prop_map(Value::str),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::str),
            (any::<[u8; 32]>(), any::<SocketAddr>()).prop_map(|(id, addr)| Value::Node(Contact::new(
                NodeId::from_bytes(id),
                without_scope(addr)
            ))),
        ];
        leaves.prop_recursive(4, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
                prop::collection::vec((keys.clone(), inner), 0..6).prop_map(Value::map),
            ]
        })
    }

    /// Flow labels have no text form, and no peer address carries one.
    fn without_scope(addr: SocketAddr) -> SocketAddr {
        SocketAddr::new(addr.ip(), addr.port())
    }

    proptest! {
        #[test]
        fn every_value_survives_the_trip_through_json_text(value in values()) {
            let text = to_json(&value).to_string();
            let json: Json = serde_json::from_str(&text).unwrap();
            let back = from_json(&json, 16);
            prop_assert!(
                back.as_ref().is_ok_and(|back| back.order(&value) == Ordering::Equal),
                "{text}: {value:?} came back as {back:?}",
            );
        }
    }
}
