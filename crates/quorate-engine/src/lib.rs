//! The ordered key-value port under every replicated state machine, and an in-memory engine.
