//! Evaluates the rules of an SQL filter for a message.

use std::cmp::Ordering;

use broker::Message;
use sqlparser::ast::BinaryOperator;

use crate::carried::CARRIED_PREFIX;

/// A condition on a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rule {
    All(Vec<Rule>),
    Any(Vec<Rule>),
    Not(Box<Rule>),
    Compare(Operand, Comparison, Operand),
    In(String, Vec<String>),
    IsMissing(String),
    Looks(String, Look, String),
    IsTrue(Operand),
}

/// How text is searched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Look {
    Contains,
    Begins,
    Ends,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub(super) fn of(operator: &BinaryOperator) -> Option<Self> {
        Some(match operator {
            BinaryOperator::Eq => Self::Equal,
            BinaryOperator::NotEq => Self::Unequal,
            BinaryOperator::Lt => Self::Less,
            BinaryOperator::LtEq => Self::LessOrEqual,
            BinaryOperator::Gt => Self::Greater,
            BinaryOperator::GtEq => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    pub(super) fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::Unequal)
    }

    fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// A property, or a literal of the expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    Property(String),
    Number(Number),
    Text(String),
    Truth(bool),
}

/// A number; an integer if it is written as one and fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Whole(i64),
    Broken(f64),
}

impl Number {
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(whole) = text.parse() {
            return Some(Self::Whole(whole));
        }
        let broken: f64 = text.parse().ok()?;
        broken.is_finite().then_some(Self::Broken(broken))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "integers beyond 2^53 are compared with fractions in the precision of f64"
    )]
    fn order(self, other: Self) -> Option<Ordering> {
        let broken = |number| match number {
            Self::Whole(whole) => whole as f64,
            Self::Broken(broken) => broken,
        };
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => Some(one.cmp(&other)),
            _ => broken(self).partial_cmp(&broken(other)),
        }
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Self::Whole(whole) => whole.checked_neg().map_or(self, Self::Whole),
            Self::Broken(broken) => Self::Broken(-broken),
        }
    }
}

/// A property that is compared with a number is not a number: the message does not pass, whatever the other conditions
/// are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NotANumber;

/// Whether a condition holds; `None` means unknown, since a property is missing.
pub(super) type Holds = Result<Option<bool>, NotANumber>;

/// The value of an operand for one message.
enum Value<'a> {
    Text(std::borrow::Cow<'a, str>),
    Number(Number),
    Truth(bool),
}

impl Rule {
    pub(super) fn holds(&self, message: &Message) -> Holds {
        match self {
            Self::All(rules) => junction_holds(rules, message, false),
            Self::Any(rules) => junction_holds(rules, message, true),
            Self::Not(rule) => Ok(rule.holds(message)?.map(|holds| !holds)),
            Self::Compare(left, comparison, right) => {
                match (left.value(message), right.value(message)) {
                    (Some(left), Some(right)) => compare(left, *comparison, right).map(Some),
                    _ => Ok(None),
                }
            }
            Self::In(name, values) => Ok(lookup(message, name).map(|text| {
                let mut values = values.iter();
                values.any(|value| *value == text)
            })),
            Self::IsMissing(name) => Ok(Some(lookup(message, name).is_none())),
            Self::Looks(name, look, part) => Ok(lookup(message, name).map(|text| match look {
                Look::Contains => text.contains(part.as_str()),
                Look::Begins => text.starts_with(part.as_str()),
                Look::Ends => text.ends_with(part.as_str()),
            })),
            Self::IsTrue(operand) => Ok(operand.value(message).map(|value| match value {
                Value::Text(text) => is_true(&text),
                Value::Truth(truth) => truth,
                Value::Number(_) => false,
            })),
        }
    }
}

/// AND and OR in three-valued logic: the value `decides` determines the result, otherwise unknown stays unknown.
fn junction_holds(rules: &[Rule], message: &Message, decides: bool) -> Holds {
    let mut unknown = false;
    for rule in rules {
        match rule.holds(message)? {
            Some(holds) if holds == decides => return Ok(Some(decides)),
            Some(_) => {}
            None => unknown = true,
        }
    }
    Ok((!unknown).then_some(!decides))
}

impl Operand {
    fn value<'a>(&'a self, message: &'a Message) -> Option<Value<'a>> {
        Some(match self {
            Self::Property(name) => Value::Text(lookup(message, name)?),
            Self::Number(number) => Value::Number(*number),
            Self::Text(text) => Value::Text(text.into()),
            Self::Truth(truth) => Value::Truth(*truth),
        })
    }
}

fn lookup<'a>(message: &'a Message, name: &str) -> Option<std::borrow::Cow<'a, str>> {
    match name {
        "TAGS" => message.tag.as_deref().map(Into::into),
        "KEYS" if message.keys.is_empty() => None,
        "KEYS" => Some(message.keys.join(" ").into()),
        _ if name.starts_with(CARRIED_PREFIX) => None,
        _ => {
            let mut properties = message.properties.iter();
            properties.find_map(|(key, value)| (key == name).then(|| value.as_str().into()))
        }
    }
}

fn is_true(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}

fn compare(left: Value<'_>, comparison: Comparison, right: Value<'_>) -> Result<bool, NotANumber> {
    let order = match (left, right) {
        (Value::Text(left), Value::Text(right)) => {
            // Two properties are ordered as numbers if both are numbers.
            let numbers = (!comparison.is_equality())
                .then(|| Some((Number::read(&left)?, Number::read(&right)?)))
                .flatten();
            match numbers {
                Some((left, right)) => left.order(right),
                None => Some(left.cmp(&right)),
            }
        }
        (Value::Number(left), Value::Number(right)) => left.order(right),
        (Value::Text(left), Value::Number(right)) => {
            Number::read(&left).ok_or(NotANumber)?.order(right)
        }
        (Value::Number(left), Value::Text(right)) => {
            left.order(Number::read(&right).ok_or(NotANumber)?)
        }
        (Value::Truth(left), Value::Truth(right)) => Some(left.cmp(&right)),
        (Value::Text(left), Value::Truth(right)) => Some(is_true(&left).cmp(&right)),
        (Value::Truth(left), Value::Text(right)) => Some(left.cmp(&is_true(&right))),
        (Value::Truth(_), Value::Number(_)) | (Value::Number(_), Value::Truth(_)) => None,
    };
    Ok(order.map_or(comparison == Comparison::Unequal, |order| {
        comparison.accepts(order)
    }))
}
