//! Provides the JSON API of the broker: messages, timers, and everything an operator asks for.
