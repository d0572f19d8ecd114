//! Converts between the values of SQL and those of the platform.

use uuid::Uuid;

use crate::ids::{
    ApiKeyId, AttemptId, CouponId, CouponRuleId, GatewayAccountId, OrderId, PaymentId, ProductId,
    RefundId, UnmatchedPaymentId, WebhookDeliveryId, WebhookId,
};

/// A value as the database knows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Value {
    /// The name of its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Integer(_) => "integer",
            Self::Real(_) => "real",
            Self::Text(_) => "text",
            Self::Blob(_) => "blob",
        }
    }
}

/// What can be bound to a statement.
pub(crate) trait IntoValue {
    /// The value that is bound.
    fn into_value(self) -> Value;
}

/// What a column can be read as.
pub(crate) trait FromValue: Sized {
    /// The value as this type; `None` if it is of another type or out of range.
    fn from_value(value: &Value) -> Option<Self>;
}

/// Implements both conversions for integers.
macro_rules! integers {
    ($($integer:ty),*) => {
        $(
            impl IntoValue for $integer {
                fn into_value(self) -> Value {
                    Value::Integer(i64::from(self))
                }
            }

            impl FromValue for $integer {
                fn from_value(value: &Value) -> Option<Self> {
                    match value {
                        Value::Integer(integer) => Self::try_from(*integer).ok(),
                        _ => None,
                    }
                }
            }
        )*
    };
}

integers!(i64, u32, u16);

impl IntoValue for bool {
    fn into_value(self) -> Value {
        Value::Integer(i64::from(self))
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).map(|integer| integer != 0)
    }
}

impl IntoValue for String {
    fn into_value(self) -> Value {
        Value::Text(self)
    }
}

impl IntoValue for &String {
    fn into_value(self) -> Value {
        Value::Text(self.clone())
    }
}

impl IntoValue for &str {
    fn into_value(self) -> Value {
        Value::Text(self.to_owned())
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl IntoValue for &[u8] {
    fn into_value(self) -> Value {
        Value::Blob(self.to_vec())
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Blob(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

impl<T: IntoValue> IntoValue for Option<T> {
    fn into_value(self) -> Value {
        self.map_or(Value::Null, T::into_value)
    }
}

impl<T> IntoValue for &Option<T>
where
    for<'v> &'v T: IntoValue,
{
    fn into_value(self) -> Value {
        self.as_ref().into_value()
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl IntoValue for Uuid {
    fn into_value(self) -> Value {
        Value::Blob(self.as_bytes().to_vec())
    }
}

impl FromValue for Uuid {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Blob(bytes) => Self::from_slice(bytes).ok(),
            _ => None,
        }
    }
}

/// Implements both conversions for ids: the database stores the UUID.
macro_rules! ids {
    ($($id:ty),*) => {
        $(
            impl IntoValue for $id {
                fn into_value(self) -> Value {
                    self.uuid().into_value()
                }
            }

            impl FromValue for $id {
                fn from_value(value: &Value) -> Option<Self> {
                    Uuid::from_value(value).map(Self::from_uuid)
                }
            }
        )*
    };
}

ids!(
    ApiKeyId,
    AttemptId,
    CouponId,
    CouponRuleId,
    GatewayAccountId,
    OrderId,
    PaymentId,
    ProductId,
    RefundId,
    UnmatchedPaymentId,
    WebhookDeliveryId,
    WebhookId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reads_as_what_was_bound() {
        let id = OrderId::new(7);
        assert_eq!(OrderId::from_value(&id.into_value()), Some(id));
        assert_eq!(i64::from_value(&Some(-3_i64).into_value()), Some(-3));
        assert_eq!(bool::from_value(&true.into_value()), Some(true));
        assert_eq!(
            String::from_value(&"tea".into_value()),
            Some("tea".to_owned())
        );
        let none: Option<String> = None;
        assert_eq!(
            Option::<String>::from_value(&(&none).into_value()),
            Some(None)
        );
    }

    #[test]
    fn a_value_of_another_type_or_out_of_range_is_not_read() {
        assert_eq!(String::from_value(&Value::Integer(1)), None);
        assert_eq!(i64::from_value(&Value::Null), None);
        assert_eq!(u16::from_value(&Value::Integer(65_536)), None);
        assert_eq!(Uuid::from_value(&Value::Blob(vec![0; 15])), None);
    }
}
