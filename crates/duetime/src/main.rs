//! The duetime command.

fn main() {}
