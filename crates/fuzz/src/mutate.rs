//! Changes inputs at random: bits, bytes, numbers, lengths, words, pieces of other inputs.

use rand::Rng as _;
use rand::rngs::SmallRng;

/// Most changes made to one input.
const CHANGES_MAX: u32 = 6;
/// Numbers at the edges of types, as they stand in records and in texts.
const EDGES: [&[u8]; 12] = [
    &[0],
    &[0x7f],
    &[0x80, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xff; 8],
    &[0x80; 12],
    b"-1",
    b"18446744073709551615",
    b"18446744073709551616",
    b"9223372036854775808",
    b"1e400",
];

/// A changed copy of one of `corpus`, which is not empty, no longer than `bytes_max`.
pub(crate) fn mutate(
    random: &mut SmallRng,
    corpus: &[Vec<u8>],
    tokens: &[&str],
    bytes_max: usize,
) -> Vec<u8> {
    let mut bytes = pick(random, corpus).clone();
    // One change alone is what most often leaves the rest in its place.
    let changes = if random.random() {
        1
    } else {
        random.random_range(2..=CHANGES_MAX)
    };
    for _ in 0..changes {
        change(random, &mut bytes, corpus, tokens);
        bytes.truncate(bytes_max);
    }
    bytes
}

fn pick<'a, T>(random: &mut SmallRng, items: &'a [T]) -> &'a T {
    let index = random.random_range(0..items.len());
    items.get(index).expect("the index is below the length")
}

/// A stretch of `bytes`, empty if they are.
fn stretch(random: &mut SmallRng, bytes: &[u8]) -> std::ops::Range<usize> {
    let start = random.random_range(0..=bytes.len());
    let end = random.random_range(start..=bytes.len());
    start..end
}

fn change(random: &mut SmallRng, bytes: &mut Vec<u8>, corpus: &[Vec<u8>], tokens: &[&str]) {
    match random.random_range(0..10) {
        0 => {
            if let Some(byte) = one_of(random, bytes) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
        1 => {
            let new = random.random();
            if let Some(byte) = one_of(random, bytes) {
                *byte = new;
            }
        }
        2 => {
            let gone = stretch(random, bytes);
            bytes.drain(gone);
        }
        3 => {
            let new: Vec<u8> = (0..random.random_range(1..9))
                .map(|_| random.random())
                .collect();
            put(random, bytes, &new);
        }
        4 => {
            let edge = *pick(random, &EDGES);
            put(random, bytes, edge);
        }
        5 => repeat(random, bytes),
        6 => {
            let other = pick(random, corpus);
            let piece = stretch(random, other);
            let piece = other.get(piece).unwrap_or_default();
            put(random, bytes, piece);
        }
        7 => {
            let end = random.random_range(0..=bytes.len());
            bytes.truncate(end);
        }
        _ if tokens.is_empty() => {
            if let Some(byte) = one_of(random, bytes) {
                *byte = byte.wrapping_add(1);
            }
        }
        _ => {
            let token = *pick(random, tokens);
            put(random, bytes, token.as_bytes());
        }
    }
}

fn one_of<'a>(random: &mut SmallRng, bytes: &'a mut [u8]) -> Option<&'a mut u8> {
    if bytes.is_empty() {
        return None;
    }
    let index = random.random_range(0..bytes.len());
    bytes.get_mut(index)
}

/// Puts a piece in between, or in place of as many bytes.
fn put(random: &mut SmallRng, bytes: &mut Vec<u8>, piece: &[u8]) {
    let start = random.random_range(0..=bytes.len());
    let end = if random.random() {
        start
    } else {
        std::cmp::min(start + piece.len(), bytes.len())
    };
    bytes.splice(start..end, piece.iter().copied());
}

/// Says a stretch many times: nesting, long lists, long texts.
fn repeat(random: &mut SmallRng, bytes: &mut Vec<u8>) {
    const ADDED_MAX: usize = 4_096;
    let stretch = stretch(random, bytes);
    let end = stretch.end;
    let piece = bytes.get(stretch).unwrap_or_default().to_vec();
    if piece.is_empty() {
        return;
    }
    let times_max = std::cmp::max(ADDED_MAX / piece.len(), 1);
    let times = random.random_range(1..=times_max);
    bytes.splice(end..end, piece.repeat(times));
}
