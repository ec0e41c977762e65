"""The queue: delayed, prioritised, leased, aware of limits; over Redis or Valkey."""
