//! Defines the enums that the database stores as small integers: number, name and JSON text in one list.

/// A value that the database stores as a small integer.
pub(crate) trait Stored: Copy + PartialEq + 'static {
    /// What the number of a row is, for the error about an unknown one.
    const WHAT: &'static str;

    /// Every value with its number.
    const NUMBERS: &'static [(Self, i64)];

    /// Its number in the database.
    fn stored(self) -> i64 {
        let mut pairs = Self::NUMBERS.iter();
        let found = pairs.find(|(value, _)| *value == self);
        found.expect("every value has its number").1
    }

    /// The value of a number from the database; `None` if the number is unknown.
    fn from_stored(number: i64) -> Option<Self> {
        let mut pairs = Self::NUMBERS.iter();
        pairs
            .find(|(_, stored)| *stored == number)
            .map(|(value, _)| *value)
    }
}

/// Defines enums whose values are stored as numbers.
///
/// A public enum also gets its list of values, its names, and a JSON form that is the name.
macro_rules! stored_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident ($what:literal) {
            $($(#[$doc:meta])* $variant:ident = $number:literal $text:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord,
            serde::Serialize, serde::Deserialize,
        )]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of their numbers in the database.
            pub const ALL: [Self; [$($number),+].len()] = [$(Self::$variant),+];

            /// Its name in the API, in events and in metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl $crate::model::stored::Stored for $name {
            const WHAT: &'static str = $what;
            const NUMBERS: &'static [(Self, i64)] = &[$((Self::$variant, $number)),+];
        }
    };
    (
        $(#[$meta:meta])*
        pub(crate) enum $name:ident ($what:literal) {
            $($(#[$doc:meta])* $variant:ident = $number:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $crate::model::stored::Stored for $name {
            const WHAT: &'static str = $what;
            const NUMBERS: &'static [(Self, i64)] = &[$((Self::$variant, $number)),+];
        }
    };
}
pub(crate) use stored_enum;
