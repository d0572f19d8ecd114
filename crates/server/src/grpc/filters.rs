//! Keeps compiled filters: a consumer sends its expression with every call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use broker::{MessageFilter, TagFilter};
use grpc_api::v2::{Code, FilterExpression, FilterType};

use super::status::Problem;
use crate::filter::SqlFilter;

/// Most compiled filters that are kept; when there are more, all are dropped.
const FILTERS_MAX: usize = 1_024;

/// The compiled SQL filters, by their text.
///
/// A std mutex: it is held for a look-up, never across an await.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    compiled: Mutex<HashMap<String, Arc<dyn MessageFilter>>>,
}

impl Filters {
    /// Returns the filter of an expression; none means every message.
    pub(crate) fn compile(
        &self,
        expression: Option<&FilterExpression>,
    ) -> Result<TagFilter, Problem> {
        let Some(expression) = expression else {
            return Ok(TagFilter::All);
        };
        if expression.r#type() != FilterType::Sql {
            return Ok(TagFilter::parse(&expression.expression));
        }
        let text = expression.expression.trim();
        if text.is_empty() || text == "*" {
            return Ok(TagFilter::All);
        }
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = compiled.get(text) {
            return Ok(TagFilter::Matching(Arc::clone(filter)));
        }
        let filter = SqlFilter::parse(text)
            .map_err(|error| Problem::new(Code::IllegalFilterExpression, error.to_string()))?;
        let filter: Arc<dyn MessageFilter> = Arc::new(filter);
        if compiled.len() >= FILTERS_MAX {
            compiled.clear();
        }
        compiled.insert(text.to_owned(), Arc::clone(&filter));
        Ok(TagFilter::Matching(filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_both_languages_are_compiled_once() {
        let filters = Filters::default();
        let compile = |kind: FilterType, text: &str| {
            filters.compile(Some(&FilterExpression {
                r#type: kind.into(),
                expression: text.to_owned(),
            }))
        };
        assert_eq!(filters.compile(None).unwrap(), TagFilter::All);
        assert_eq!(compile(FilterType::Tag, "*").unwrap(), TagFilter::All);
        assert_eq!(
            compile(FilterType::Tag, "a || b").unwrap(),
            TagFilter::AnyOf(vec!["a".into(), "b".into()])
        );
        let first = compile(FilterType::Sql, "amount > 3").unwrap();
        assert!(matches!(first, TagFilter::Matching(_)));
        assert_eq!(compile(FilterType::Sql, " amount > 3 ").unwrap(), first);
        let problem = compile(FilterType::Sql, "amount >").unwrap_err();
        assert_eq!(problem.code, Code::IllegalFilterExpression);
        for index in 0..=FILTERS_MAX {
            compile(FilterType::Sql, &format!("amount > {index}")).unwrap();
        }
        assert!(filters.compiled.lock().unwrap().len() <= FILTERS_MAX);
    }
}
