//! The lock-free store, its writers and its change signal.
