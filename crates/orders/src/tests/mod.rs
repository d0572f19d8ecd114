//! Tests of the platform as a whole, on a real database file and a clock moved by hand.

mod orders;
mod shop;
mod verify;
