//! Holds no code: the dependency is what counts.
