//! Defines which messages of a topic a consumer wants.

use grpc_api::v2::{FilterExpression, FilterType};

/// Which messages of a topic a consumer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(FilterExpression);

impl Filter {
    /// All of them.
    pub fn all() -> Self {
        Self::tags("*")
    }

    /// Those with one of the tags: `paid`, or `paid || refunded`.
    pub fn tags(expression: impl Into<String>) -> Self {
        Self(FilterExpression {
            r#type: FilterType::Tag.into(),
            expression: expression.into(),
        })
    }

    /// Those whose properties satisfy an SQL92 condition: `amount > 100 AND country IN ('NO', 'SE')`.
    /// The tag is the property `TAGS`.
    pub fn sql(condition: impl Into<String>) -> Self {
        Self(FilterExpression {
            r#type: FilterType::Sql.into(),
            expression: condition.into(),
        })
    }

    pub(crate) fn expression(&self) -> FilterExpression {
        self.0.clone()
    }
}
