//! Checks JSON against a schema: the part of JSON Schema that the platform's own schemas use, and no unknown members.

use serde_json::Value;

/// What is wrong with the value; `None` if it is as the schema says.
pub(crate) fn wrong(schema: &Value, value: &Value) -> Option<String> {
    let known = [
        "type",
        "properties",
        "required",
        "items",
        "format",
        "description",
        "minimum",
        "enum",
    ];
    let members = schema.as_object().expect("a schema is an object");
    for name in members.keys() {
        assert!(
            known.contains(&name.as_str()),
            "the check does not know `{name}`"
        );
    }
    let types = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        other => panic!("a type is a name or several: {other}"),
    };
    if !types.contains(&type_of(value)) {
        return Some(format!("{value} is not one of {types:?}"));
    }
    if let Some(text) = value.as_str()
        && schema["format"] == "date-time"
        && text.parse::<edge::instant::Instant>().is_err()
    {
        return Some(format!("{text} is not an instant"));
    }
    match value {
        Value::Object(members) => {
            let required = schema["required"].as_array().into_iter().flatten();
            for name in required.filter_map(Value::as_str) {
                if !members.contains_key(name) {
                    return Some(format!("{name} is missing"));
                }
            }
            members
                .iter()
                .find_map(|(name, member)| match schema["properties"].get(name) {
                    Some(schema) => wrong(schema, member).map(|why| format!("{name}: {why}")),
                    None => Some(format!("{name} is not in the schema")),
                })
        }
        Value::Array(items) => items.iter().find_map(|item| wrong(&schema["items"], item)),
        _ => None,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[test]
fn what_a_schema_does_not_allow_is_found() {
    let schema = serde_json::json!({
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": { "type": ["string", "null"], "format": "date-time" },
            "b": { "type": "array", "items": { "type": "integer" } },
        },
    });
    let check = |text: &str| wrong(&schema, &serde_json::from_str(text).unwrap());
    for fits in [r#"{"a":null}"#, r#"{"a":"2026-11-24T09:00:00Z","b":[1,2]}"#] {
        assert_eq!(check(fits), None);
    }
    for wrong in [
        "[]",
        "{}",
        r#"{"a":"soon"}"#,
        r#"{"a":null,"b":[1,"x"]}"#,
        r#"{"a":null,"c":1}"#,
    ] {
        assert!(check(wrong).is_some(), "{wrong}");
    }
}
