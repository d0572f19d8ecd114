//! Provides the "did you mean" hint for a mistyped name.

/// The candidate most similar to `word`, if one is similar enough.
pub(crate) fn closest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    // A third of the characters may be wrong; more would suggest unrelated names.
    let letters = word.chars().count();
    let distance_max = std::cmp::max(1, letters / 3);
    candidates
        // The difference in length is the least possible distance.
        .filter(|candidate| candidate.len().abs_diff(letters) <= distance_max)
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The number of insertions, deletions, changes and swaps of neighbours between two words.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (row, letter) in from.chars().enumerate() {
        let mut current = vec![row + 1];
        let mut beside = None;
        for (column, other) in to.iter().enumerate() {
            let at =
                |cells: &[usize], index: usize| cells.get(index).copied().unwrap_or(usize::MAX / 2);
            let changed = at(&last, column) + usize::from(letter != *other);
            let put_in = at(&current, column) + 1;
            let taken_out = at(&last, column + 1) + 1;
            let swapped = if previous == Some(*other) && beside == Some(letter) {
                at(&before_last, column.wrapping_sub(1)) + 1
            } else {
                usize::MAX
            };
            let best = [changed, put_in, taken_out, swapped]
                .into_iter()
                .min()
                .unwrap_or(changed);
            current.push(best);
            beside = Some(*other);
        }
        before_last = std::mem::replace(&mut last, current);
        previous = Some(letter);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_slips() {
        for (from, to, expected) in [
            ("", "", 0),
            ("retention", "retention", 0),
            ("retension", "retention", 1),
            ("retntion", "retention", 1),
            ("lisetn", "listen", 1),
            ("data", "", 4),
            ("abc", "xyz", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        let names = ["listen", "retention", "data"];
        assert_eq!(closest("retension", names.into_iter()), Some("retention"));
        assert_eq!(closest("port", names.into_iter()), None);
        assert_eq!(closest("dat", names.into_iter()), Some("data"));
    }
}
