//! Reads JSON objects as objects only.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A value that is read from a JSON object and from nothing else.
///
/// serde reads a struct from an array as well, field by field in the order of the source: `["Tea", 500]` would be a
/// product. No document says so, and the order of fields may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonObject<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object(PhantomData))
    }
}

struct Object<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = JsonObject<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<JsonObject<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(JsonObject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tea {
        name: String,
        #[serde(default)]
        leaves: Vec<JsonObject<Leaf>>,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Leaf {
        size: u32,
    }

    fn read(text: &str) -> Result<JsonObject<Tea>, String> {
        serde_json::from_str(text).map_err(|error: serde_json::Error| error.to_string())
    }

    #[test]
    fn an_array_is_no_object_at_any_depth() {
        let tea = read(r#"{"name": "Assam", "leaves": [{"size": 3}]}"#).unwrap();
        assert_eq!(tea.0.leaves, [JsonObject(Leaf { size: 3 })]);
        for text in [
            r#"["Assam", []]"#,
            r#"{"name": "Assam", "leaves": [[3]]}"#,
            "\"Assam\"",
            "null",
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains("expected a JSON object"), "{text}: {error}");
        }
        assert!(
            read(r#"{"name": "Assam", "colour": 1}"#)
                .unwrap_err()
                .contains("colour")
        );
    }
}
