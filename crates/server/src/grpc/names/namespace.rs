//! Converts names of topics and consumer groups: in a namespace the full name is `namespace%name`, as in Apache RocketMQ.
//!
//! The namespace is in the resource of a request, or only in the header `x-mq-namespace`. The prefixes `%DLQ%`
//! and `%RETRY%` precede the namespace: the dead letters of group `dev%g` are in `%DLQ%dev%g`.

use std::borrow::Cow;

use grpc_api::v2::{Code, Resource};

use crate::access::without_prefix;
use crate::grpc::limits::{GROUP_BYTES_MAX, TOPIC_BYTES_MAX};
use crate::grpc::peer::Peer;
use crate::grpc::status::Problem;

impl Peer {
    /// Returns the full topic name of a request.
    pub(crate) fn topic_name<'a>(
        &self,
        resource: Option<&'a Resource>,
    ) -> Result<Cow<'a, str>, Problem> {
        full_name(resource, &self.namespace, TOPIC_BYTES_MAX)
            .map_err(|reason| Problem::new(Code::IllegalTopic, format!("the topic {reason}")))
    }

    /// Returns the full consumer group name of a request.
    pub(crate) fn group_name<'a>(
        &self,
        resource: Option<&'a Resource>,
    ) -> Result<Cow<'a, str>, Problem> {
        full_name(resource, &self.namespace, GROUP_BYTES_MAX).map_err(|reason| {
            Problem::new(
                Code::IllegalConsumerGroup,
                format!("the consumer group {reason}"),
            )
        })
    }

    /// Returns the namespace of a resource of a request; empty if it has none.
    pub(crate) fn namespace_of<'a>(&'a self, resource: Option<&'a Resource>) -> &'a str {
        match resource {
            Some(resource) if !resource.resource_namespace.is_empty() => {
                &resource.resource_namespace
            }
            _ => &self.namespace,
        }
    }
}

fn full_name<'a>(
    resource: Option<&'a Resource>,
    of_header: &str,
    bytes_max: usize,
) -> Result<Cow<'a, str>, String> {
    let (own, name) = resource.map_or(("", ""), |resource| {
        (resource.resource_namespace.as_str(), resource.name.as_str())
    });
    if name.trim().is_empty() {
        return Err("is missing or blank".to_owned());
    }
    let namespace = if own.is_empty() { of_header } else { own };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !namespace.bytes().all(is_plain) {
        return Err(format!(
            "has the namespace {namespace:?}, which may only contain letters, digits and _ -"
        ));
    }
    let full = within(namespace, name);
    if full.len() > bytes_max {
        let bytes = full.len();
        return Err(format!(
            "has a name of {bytes} bytes, including its namespace; at most {bytes_max} are allowed"
        ));
    }
    if !name
        .bytes()
        .all(|byte| is_plain(byte) || b"%|.".contains(&byte))
    {
        return Err(format!(
            "{name:?} may only contain letters, digits and _ - % | ."
        ));
    }
    Ok(full)
}

/// Returns the full name of `name` in a namespace; a name that already has the namespace is unchanged.
fn within<'a>(namespace: &str, name: &'a str) -> Cow<'a, str> {
    let has_it = short_name(namespace, name).len() < name.len();
    if namespace.is_empty() || has_it {
        return Cow::Borrowed(name);
    }
    let rest = without_prefix(name);
    let prefix = name.strip_suffix(rest).unwrap_or_default();
    Cow::Owned(format!("{prefix}{namespace}%{rest}"))
}

/// Returns the short form of a full name for clients of a namespace; a name of another namespace is unchanged.
pub(crate) fn short_name<'a>(namespace: &str, full: &'a str) -> Cow<'a, str> {
    let rest = without_prefix(full);
    let prefix = full.strip_suffix(rest).unwrap_or_default();
    let within = rest
        .strip_prefix(namespace)
        .and_then(|rest| rest.strip_prefix('%'));
    match within {
        Some(short) if !namespace.is_empty() && prefix.is_empty() => Cow::Borrowed(short),
        Some(short) if !namespace.is_empty() => Cow::Owned(format!("{prefix}{short}")),
        _ => Cow::Borrowed(full),
    }
}

/// Returns a full name as a resource for a client of a namespace.
pub(crate) fn resource_in(namespace: &str, full: &str) -> Resource {
    let name = short_name(namespace, full);
    let is_within = name.len() < full.len();
    Resource {
        resource_namespace: if is_within { namespace } else { "" }.to_owned(),
        name: name.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(namespace: &str, name: &str) -> Resource {
        Resource {
            resource_namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn full_names_contain_the_namespace_and_are_split_again() {
        for (namespace, of_header, name, full, short) in [
            ("", "", "orders", "orders", "orders"),
            ("dev", "", "orders", "dev%orders", "orders"),
            ("", "dev", "orders", "dev%orders", "orders"),
            ("dev", "prod", "orders", "dev%orders", "orders"),
            ("dev", "", "%DLQ%g", "%DLQ%dev%g", "%DLQ%g"),
            ("dev", "", "%RETRY%g", "%RETRY%dev%g", "%RETRY%g"),
            ("dev", "", "dev%orders", "dev%orders", "orders"),
            ("dev", "", "%DLQ%dev%g", "%DLQ%dev%g", "%DLQ%g"),
            ("dev", "", "device", "dev%device", "device"),
            ("dev", "", "a%b", "dev%a%b", "a%b"),
            ("", "", "dev%orders", "dev%orders", "dev%orders"),
        ] {
            let given = resource(namespace, name);
            let read = full_name(Some(&given), of_header, 127).unwrap();
            assert_eq!(read, full, "{namespace} {of_header} {name}");
            let namespace = if namespace.is_empty() {
                of_header
            } else {
                namespace
            };
            assert_eq!(short_name(namespace, full), short);
        }
        assert_eq!(resource_in("dev", "dev%t"), resource("dev", "t"));
        assert_eq!(resource_in("prod", "dev%t"), resource("", "dev%t"));
        assert_eq!(resource_in("", "dev%t"), resource("", "dev%t"));
    }

    #[test]
    fn invalid_names_are_refused_with_the_reason() {
        let long = "n".repeat(126);
        for (namespace, name, words) in [
            ("dev", "", "missing"),
            ("dev", " ", "missing"),
            ("d%v", "t", "namespace \"d%v\""),
            ("d v", "t", "namespace \"d v\""),
            ("dev", "t u", "\"t u\" may only contain"),
            ("d", &long, "128 bytes"),
        ] {
            let refused = full_name(Some(&resource(namespace, name)), "", 127).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
        assert!(full_name(None, "dev", 127).is_err());
    }
}
