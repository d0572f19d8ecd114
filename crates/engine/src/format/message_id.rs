//! Defines the ids the broker gives to messages whose producers gave none.

use crate::place::{LEVEL_MAX, Place};

const MADE_ID_PREFIX: &str = "D1";

/// The id the broker gives a message whose producer gave none: it names the place of the message,
/// which is thus found without an index row.
pub(crate) fn made_message_id(queue: u16, place: Place) -> String {
    format!(
        "{MADE_ID_PREFIX}{:02X}{:04X}{:012X}{:016X}",
        place.level, queue, place.due_ms, place.sequence
    )
}

/// Reads where a message with an id made by the broker was stored.
pub(crate) fn place_of_made_id(message_id: &str) -> Option<(u16, Place)> {
    let rest = message_id.strip_prefix(MADE_ID_PREFIX)?;
    if rest.len() != 34 || !rest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| u64::from_str_radix(rest.get(range)?, 16).ok();
    let level = u8::try_from(number(0..2)?)
        .ok()
        .filter(|level| *level <= LEVEL_MAX)?;
    let queue = u16::try_from(number(2..6)?).ok()?;
    Some((
        queue,
        Place {
            due_ms: number(6..18)?,
            sequence: number(18..34)?,
            level,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn made_ids_name_the_place(
            queue in any::<u16>(), due_ms in 0..1_u64 << 47, sequence in any::<u64>(), level in 0..=LEVEL_MAX,
        ) {
            let place = Place { due_ms, sequence, level };
            prop_assert_eq!(place_of_made_id(&made_message_id(queue, place)), Some((queue, place)));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,80}") {
            let _ = place_of_made_id(&text);
        }
    }
}
