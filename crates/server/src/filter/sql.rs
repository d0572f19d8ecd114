//! Parses SQL92 filters over the properties of messages, with the semantics of Apache RocketMQ.
//!
//! ```text
//! amount BETWEEN 100 AND 200 AND (region IN ('eu', 'uk') OR vip = TRUE) AND note IS NOT NULL
//! ```
//!
//! Properties are text. Compared with a number they are read as one, compared with TRUE or FALSE as a truth value.
//! The names `TAGS` and `KEYS` are the tag and the keys of the message. The logic has three values: a condition
//! on a missing property is unknown, except `IS NULL`; a message passes only if the whole
//! expression is true. It does not pass either if a property that is compared with a number is not one, which ends
//! the evaluation there. `CONTAINS`, `STARTSWITH` and `ENDSWITH` are supported too.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use broker::{Message, MessageFilter};
use sqlparser::ast::{BinaryOperator, Expr, InTarget, UnaryOperator, Value as Literal};
use sqlparser::dialect::{Dialect, Precedence};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::rule::{Comparison, Look, Number, Operand, Rule};

/// Longest expression, in bytes.
const EXPRESSION_BYTES_MAX: usize = 4_096;
/// Deepest nesting of parentheses and NOTs.
const DEPTH_MAX: usize = 48;
/// Most values of one list.
const LIST_MAX: usize = 256;

/// Why an expression is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter is not valid: {reason}")]
pub struct FilterError {
    reason: String,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError {
        reason: reason.into(),
    })
}

/// A parsed filter.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlFilter {
    rule: Rule,
    /// A hash of the expression.
    fingerprint: u64,
}

impl SqlFilter {
    /// Parses an expression.
    pub fn parse(expression: &str) -> Result<Self, FilterError> {
        let mut hasher = DefaultHasher::new();
        expression.hash(&mut hasher);
        let fingerprint = hasher.finish();
        if expression.len() > EXPRESSION_BYTES_MAX {
            return refuse(format!(
                "it has {} bytes; at most {EXPRESSION_BYTES_MAX} are allowed",
                expression.len()
            ));
        }
        let parsed = Parser::new(&Words)
            .with_recursion_limit(DEPTH_MAX)
            .try_with_sql(expression)
            .and_then(|mut parser| {
                let parsed = parser.parse_expr()?;
                match parser.peek_token().token {
                    Token::EOF => Ok(parsed),
                    rest => parser_fails(&format!("`{rest}` was not expected")),
                }
            });
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(ParserError::RecursionLimitExceeded) => {
                return refuse(format!("it is nested more than {DEPTH_MAX} deep"));
            }
            Err(ParserError::TokenizerError(reason) | ParserError::ParserError(reason)) => {
                return refuse(reason);
            }
        };
        Ok(Self {
            rule: rule_of(parsed)?,
            fingerprint,
        })
    }
}

fn parser_fails<T>(reason: &str) -> Result<T, ParserError> {
    Err(ParserError::ParserError(reason.to_owned()))
}

impl MessageFilter for SqlFilter {
    fn passes(&self, message: &Message) -> bool {
        self.rule.holds(message) == Ok(Some(true))
    }

    fn fingerprint(&self) -> Option<u64> {
        Some(self.fingerprint)
    }
}

/// The dialect: SQL92, and three operators that search text.
#[derive(Debug)]
struct Words;

const INFIX: &[(&str, Look)] = &[
    ("CONTAINS", Look::Contains),
    ("STARTSWITH", Look::Begins),
    ("ENDSWITH", Look::Ends),
];

fn look_of(word: &str) -> Option<Look> {
    INFIX
        .iter()
        .find_map(|(name, look)| word.eq_ignore_ascii_case(name).then_some(*look))
}

/// Returns the next operator that searches text, and whether NOT precedes it.
fn infix_ahead(parser: &Parser<'_>) -> Option<(bool, String)> {
    let word = |index| match parser.peek_nth_token(index).token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value),
        _ => None,
    };
    let first = word(0)?;
    if look_of(&first).is_some() {
        return Some((false, first));
    }
    let second = first
        .eq_ignore_ascii_case("NOT")
        .then(|| word(1))
        .flatten()?;
    look_of(&second).is_some().then_some((true, second))
}

impl Dialect for Words {
    fn is_identifier_start(&self, letter: char) -> bool {
        letter.is_ascii_alphabetic() || letter == '_' || letter == '$'
    }

    fn is_identifier_part(&self, letter: char) -> bool {
        self.is_identifier_start(letter) || letter.is_ascii_digit() || letter == '-'
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        infix_ahead(parser).map(|_| Ok(self.prec_value(Precedence::Like)))
    }

    fn parse_infix(
        &self,
        parser: &mut Parser<'_>,
        left: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        let (negated, word) = infix_ahead(parser)?;
        // The left side is copied, and the copy of a very deep one would overflow the stack.
        if !matches!(left, Expr::Identifier(_)) {
            return Some(parser_fails(&format!(
                "a property is expected before {word}"
            )));
        }
        for _ in 0..=usize::from(negated) {
            parser.next_token();
        }
        let right = match parser.parse_subexpr(precedence) {
            Ok(right) => right,
            Err(error) => return Some(Err(error)),
        };
        let looked = Expr::BinaryOp {
            left: Box::new(left.clone()),
            op: BinaryOperator::Custom(word),
            right: Box::new(right),
        };
        Some(Ok(if negated {
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: Box::new(looked),
            }
        } else {
            looked
        }))
    }
}

fn rule_of(parsed: Expr) -> Result<Rule, FilterError> {
    match parsed {
        Expr::Nested(inner) => rule_of(*inner),
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr,
        } => Ok(Rule::Not(Box::new(rule_of(*expr)?))),
        Expr::BinaryOp { left, op, right } => match op {
            BinaryOperator::And | BinaryOperator::Or => junction(*left, &op, *right),
            BinaryOperator::Custom(word) => look(*left, &word, *right),
            op => comparison(*left, &op, *right),
        },
        Expr::IsNull(inner) => Ok(Rule::IsMissing(property(*inner)?)),
        Expr::IsNotNull(inner) => {
            let missing = Rule::IsMissing(property(*inner)?);
            Ok(Rule::Not(Box::new(missing)))
        }
        Expr::Between {
            expr,
            negated,
            low,
            high,
        } => {
            let (low, high) = (number(*low)?, number(*high)?);
            let middle = operand(*expr)?;
            let within = Rule::All(vec![
                Rule::Compare(middle.clone(), Comparison::GreaterOrEqual, low),
                Rule::Compare(middle, Comparison::LessOrEqual, high),
            ]);
            Ok(maybe_not(negated, within))
        }
        Expr::In {
            expr,
            target: InTarget::List(list),
            negated,
            global: false,
        } => {
            if list.len() > LIST_MAX {
                return refuse(format!(
                    "a list has {} values; at most {LIST_MAX} are allowed",
                    list.len()
                ));
            }
            let values: Result<Vec<String>, FilterError> = list.into_iter().map(text).collect();
            Ok(maybe_not(negated, Rule::In(property(*expr)?, values?)))
        }
        other => match operand(other)? {
            truth @ (Operand::Property(_) | Operand::Truth(_)) => Ok(Rule::IsTrue(truth)),
            Operand::Number(_) | Operand::Text(_) => {
                refuse("a number or a text alone is not a condition")
            }
        },
    }
}

fn maybe_not(negated: bool, rule: Rule) -> Rule {
    if negated {
        Rule::Not(Box::new(rule))
    } else {
        rule
    }
}

/// Splits a chain of the same operator, of any length, without recursion.
fn junction(left: Expr, operator: &BinaryOperator, right: Expr) -> Result<Rule, FilterError> {
    let mut parts = vec![rule_of(right)?];
    let mut rest = left;
    loop {
        match rest {
            Expr::BinaryOp { left, op, right } if op == *operator => {
                parts.push(rule_of(*right)?);
                rest = *left;
            }
            last => {
                parts.push(rule_of(last)?);
                break;
            }
        }
    }
    parts.reverse();
    Ok(if *operator == BinaryOperator::And {
        Rule::All(parts)
    } else {
        Rule::Any(parts)
    })
}

fn look(left: Expr, word: &str, right: Expr) -> Result<Rule, FilterError> {
    match look_of(word) {
        Some(look) => Ok(Rule::Looks(property(left)?, look, text(right)?)),
        None => refuse(format!("the operator `{word}` is not supported")),
    }
}

fn comparison(left: Expr, operator: &BinaryOperator, right: Expr) -> Result<Rule, FilterError> {
    let Some(comparison) = Comparison::of(operator) else {
        return refuse(format!("the operator `{operator}` is not supported"));
    };
    let (left, right) = (operand(left)?, operand(right)?);
    let orders = |operand: &Operand| matches!(operand, Operand::Property(_) | Operand::Number(_));
    let ordered = orders(&left) && orders(&right);
    if !comparison.is_equality() && !ordered {
        return refuse(format!("`{operator}` compares numbers only"));
    }
    Ok(Rule::Compare(left, comparison, right))
}

fn operand(parsed: Expr) -> Result<Operand, FilterError> {
    match parsed {
        Expr::Nested(inner) => operand(*inner),
        Expr::Identifier(name) => Ok(Operand::Property(name.value)),
        Expr::UnaryOp {
            op: op @ (UnaryOperator::Minus | UnaryOperator::Plus),
            expr,
        } => match operand(*expr)? {
            Operand::Number(number) if op == UnaryOperator::Minus => {
                Ok(Operand::Number(number.negated()))
            }
            Operand::Number(number) => Ok(Operand::Number(number)),
            _ => refuse("a sign precedes something that is not a number"),
        },
        Expr::Value(value) => match value.value {
            Literal::Number(digits, _) => match Number::read(&digits) {
                Some(number) => Ok(Operand::Number(number)),
                None => refuse(format!("the number {digits} is too large")),
            },
            Literal::SingleQuotedString(text) => Ok(Operand::Text(text)),
            Literal::Boolean(truth) => Ok(Operand::Truth(truth)),
            other => refuse(format!("`{other}` is not allowed here")),
        },
        other => refuse(format!("`{other}` is not supported")),
    }
}

fn property(parsed: Expr) -> Result<String, FilterError> {
    match operand(parsed)? {
        Operand::Property(name) => Ok(name),
        _ => refuse("a property was expected"),
    }
}

fn number(parsed: Expr) -> Result<Operand, FilterError> {
    match operand(parsed)? {
        number @ Operand::Number(_) => Ok(number),
        _ => refuse("BETWEEN compares numbers"),
    }
}

fn text(parsed: Expr) -> Result<String, FilterError> {
    match operand(parsed)? {
        Operand::Text(text) => Ok(text),
        _ => refuse("a text in single quotes was expected"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::{Holds, NotANumber};
    use super::*;
    use broker::Place;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn message() -> Message {
        let property = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Message {
            place: Place {
                due_ms: 1,
                sequence: 1,
                level: 0,
            },
            identity: 1,
            message_id: "m".into(),
            tag: Some("paid".into()),
            keys: vec!["k1".into(), "k2".into()],
            properties: [
                ("amount", "150"),
                ("rate", "2.5"),
                ("region", "eu"),
                ("vip", "TRUE"),
                ("big", "9007199254740993"),
                ("date", "2026"),
                ("order-id", "a"),
                ("__dt_host", "hidden"),
            ]
            .map(property)
            .into(),
            message_group: None,
            born_ms: 0,
            stored_ms: 0,
            body: Bytes::new(),
            digest: broker::BodyDigest::default(),
        }
    }

    fn holds(expression: &str) -> Holds {
        let filter = SqlFilter::parse(expression).expect(expression);
        filter.rule.holds(&message())
    }

    #[test]
    fn conditions_are_evaluated() {
        for (expression, expected) in [
            ("amount = 150", true),
            ("amount = 150.0", true),
            ("amount <> 150", false),
            ("amount != 150", false),
            ("150 <= amount", true),
            ("amount > -1", true),
            ("rate > 2 AND rate < 3", true),
            ("big = 9007199254740993", true),
            ("big = 9007199254740992", false),
            ("amount BETWEEN 100 AND 150", true),
            ("amount NOT BETWEEN 100 AND 150", false),
            ("region = 'eu'", true),
            ("region in ('us', 'eu')", true),
            ("region NOT IN ('us', 'eu')", false),
            ("vip = true", true),
            ("vip", true),
            ("NOT vip", false),
            ("TRUE", true),
            ("TAGS = 'paid'", true),
            ("TAGS is not null and TAGS in ('paid', 'closed')", true),
            ("KEYS CONTAINS 'k2'", true),
            ("region startswith 'e'", true),
            ("region ENDSWITH 'e'", false),
            ("region NOT CONTAINS 'x'", true),
            ("amount > rate", true),
            ("region = region", true),
            ("date = 2026", true),
            ("order-id = 'a'", true),
            ("region = 'eu' OR amount = 1 AND amount = 2", true),
            ("(region = 'eu' OR amount = 1) AND amount = 2", false),
            ("NOT region = 'us' AND vip", true),
            ("region = 'it''s'", false),
        ] {
            assert_eq!(holds(expression), Ok(Some(expected)), "{expression}");
        }
    }

    #[test]
    fn missing_properties_make_it_unknown() {
        for (expression, expected) in [
            ("missing = 1", None),
            ("missing <> 1", None),
            ("NOT missing = 1", None),
            ("missing IN ('a')", None),
            ("missing NOT IN ('a')", None),
            ("missing BETWEEN 1 AND 2", None),
            ("missing CONTAINS 'a'", None),
            ("missing", None),
            ("missing IS NULL", Some(true)),
            ("missing IS NOT NULL", Some(false)),
            ("missing = 1 OR vip", Some(true)),
            ("missing = 1 AND vip", None),
            ("missing = 1 AND NOT vip", Some(false)),
            ("missing = 1 OR NOT vip", None),
            ("__dt_host IS NULL", Some(true)),
        ] {
            assert_eq!(holds(expression), Ok(expected), "{expression}");
        }
        let filter = SqlFilter::parse("missing <> 1").unwrap();
        assert!(!filter.passes(&message()));
    }

    #[test]
    fn a_property_that_is_not_a_number_ends_the_evaluation() {
        assert_eq!(holds("region > 3"), Err(NotANumber));
        assert_eq!(holds("NOT region > 3"), Err(NotANumber));
        assert_eq!(holds("vip OR region > 3"), Ok(Some(true)), "not evaluated");
        assert!(
            !SqlFilter::parse("NOT region > 3")
                .unwrap()
                .passes(&message())
        );
    }

    #[test]
    fn invalid_expressions_are_refused_with_a_reason() {
        for (expression, expected) in [
            ("", "nd"),
            ("amount >", "nd"),
            ("amount = 1 amount", "amount"),
            ("'a'", "not a condition"),
            ("5", "not a condition"),
            ("region > 'eu'", "numbers only"),
            ("amount BETWEEN 'a' AND 'b'", "numbers"),
            ("region IN (1)", "single quotes"),
            ("1 IN ('a')", "property"),
            ("1 IS NULL", "property"),
            ("amount + 1 = 2", "not supported"),
            ("f(amount)", "not supported"),
            ("a.b = 1", "not supported"),
            ("amount = (SELECT 1)", "not supported"),
            ("region LIKE 'e%'", "not supported"),
            ("amount = NULL", "is not allowed"),
            ("region = 'eu", "nterminated"),
        ] {
            let error = SqlFilter::parse(expression).expect_err(expression);
            assert!(
                error.to_string().contains(expected),
                "{expression}: {error}"
            );
        }
    }

    #[test]
    fn size_is_bounded_in_every_direction() {
        let long = format!("region = '{}'", "x".repeat(EXPRESSION_BYTES_MAX));
        let deep = format!("{}vip{}", "(".repeat(500), ")".repeat(500));
        let nots = format!("{} vip", "NOT ".repeat(500));
        let list = format!("region IN ({}'a')", "'a',".repeat(LIST_MAX));
        for expression in [&long, &deep, &nots, &list] {
            assert!(SqlFilter::parse(expression).is_err());
        }
        let chain = vec!["a=1"; 500].join(" OR ");
        assert!(SqlFilter::parse(&chain).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(expression in "[a-z0-9 ()='<>,.!\u{e9}\"-]{0,60}|(not |a |in \\(|\\)|'b'|, |and |or |= |1 |between |is |null |contains ){0,30}") {
            if let Ok(filter) = SqlFilter::parse(&expression) {
                filter.passes(&message());
            }
        }
    }

    #[test]
    fn expressions_of_any_text_are_parsed_or_refused() {
        let target = fuzz::Target::new(env!("CARGO_MANIFEST_DIR"), "sql-filter");
        let target = target
            .seed("amount BETWEEN 1 AND 2.5 OR (region IN ('eu', 'us') AND NOT vip IS NULL)")
            .seed(format!("a{}", " NOT CONTAINS 'x'".repeat(200)))
            .seed(format!("f(a{})", "=b".repeat(2_000)))
            .seed(format!("a{}", " OR b AND c".repeat(370)))
            .seed(format!("a{}", " IS NULL".repeat(500)))
            .seed("TAGS NOT CONTAINS 'x' AND -amount >= +1e3 AND date STARTSWITH '2'")
            .tokens(&[
                " AND ",
                " OR ",
                " NOT ",
                " IS NULL",
                " BETWEEN ",
                " IN (",
                " CONTAINS ",
                "((((((((",
                "))))",
                "''",
                "--",
                "/*",
                "1e309",
                "9223372036854775808",
                "-",
                "CASE WHEN ",
                "\"",
            ])
            .runs(10_000)
            // The parser's tree takes about 400 bytes for each byte of an expression, whose length is limited.
            .heap_bytes(2 << 20);
        let message = message();
        target.check(|input| {
            let text = String::from_utf8_lossy(input);
            if let Ok(filter) = SqlFilter::parse(&text) {
                filter.passes(&message);
            }
        });
    }
}
