//! Provides the JSON form of headers.

use std::collections::BTreeMap;
use std::fmt;

use bytes::{BufMut as _, BytesMut};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::{Header, HeaderError};
use crate::language::Language;

/// The members as they are read; others are passed by.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    code: i32,
    #[serde(default)]
    language: Option<String>,
    #[serde(default)]
    version: i32,
    #[serde(default)]
    opaque: i32,
    #[serde(default)]
    flag: i32,
    #[serde(default)]
    remark: Option<String>,
    #[serde(default)]
    ext_fields: Option<BTreeMap<String, Scalar>>,
}

/// The members as they are written. `extFields` is always an object: Java reads from it without looking for a null.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    code: i32,
    ext_fields: BTreeMap<&'a str, &'a str>,
    flag: i32,
    language: &'static str,
    opaque: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<&'a str>,
    #[serde(rename = "serializeTypeCurrentRPC")]
    form: &'static str,
    version: i32,
}

/// The text of a value. C++ clients write numbers and truth values as such; their signatures cover the decimal digits.
struct Scalar(Option<String>);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text, a number, a truth value or null")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(Some(text.to_owned())))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Scalar, E> {
        Ok(Scalar(Some(text)))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(Some(value.to_string())))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar(Some(number.to_string())))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar(Some(number.to_string())))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar(Some(number.to_string())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Scalar, E> {
        Ok(Scalar(None))
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
    let read: Read = serde_json::from_slice(bytes)?;
    let fields = read.ext_fields.unwrap_or_default().into_iter();
    Ok(Header {
        code: read.code,
        language: read
            .language
            .map_or(Language::Other, |name| Language::from_name(&name)),
        version: read.version,
        opaque: read.opaque,
        flags: read.flag,
        remark: read.remark,
        fields: fields
            .filter_map(|(name, value)| Some((name, value.0?)))
            .collect(),
    })
}

pub(super) fn encode(header: &Header, buffer: &mut BytesMut) -> Result<(), HeaderError> {
    let written = Written {
        code: header.code,
        ext_fields: header.fields.iter().collect(),
        flag: header.flags,
        language: header.language.name(),
        opaque: header.opaque,
        remark: header.remark.as_deref(),
        form: "JSON",
        version: header.version,
    };
    serde_json::to_writer(buffer.writer(), &written)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_a_cpp_client_is_read_with_its_numbers() {
        let bytes = br#"{"code":310,"extFields":{"e":0,"k":false,"i":null,"b":"orders","m":"0"},
            "flag":0,"language":"CPP","opaque":12,"version":63,"more":[{}]}"#;
        let header = decode(bytes).expect("it is well formed");
        assert_eq!((header.code, header.opaque, header.version), (310, 12, 63));
        assert_eq!(header.language, Language::Cpp);
        let fields: Vec<_> = header.fields.iter().collect();
        assert_eq!(
            fields,
            [("b", "orders"), ("e", "0"), ("k", "false"), ("m", "0")]
        );
    }

    #[test]
    fn a_value_with_members_is_refused() {
        let refused = decode(br#"{"code":10,"extFields":{"a":{"b":1}}}"#).unwrap_err();
        assert!(
            refused.to_string().contains("a text, a number"),
            "{refused}"
        );
        assert!(decode(br#"{"extFields":{}}"#).is_err(), "no code");
        assert!(decode(br#"[10,{},0,"JAVA",1]"#).is_err(), "no object");
    }

    #[test]
    fn a_response_has_an_object_of_fields_even_if_it_is_empty() {
        let mut buffer = BytesMut::new();
        encode(
            &Header::request(105, 3).reply(17).with_remark("no topic"),
            &mut buffer,
        )
        .expect("it can be written");
        assert_eq!(
            buffer.as_ref(),
            br#"{"code":17,"extFields":{},"flag":1,"language":"JAVA","opaque":3,"remark":"no topic","serializeTypeCurrentRPC":"JSON","version":479}"#
        );
    }
}
