//! What locks, wakes and swaps in `slot` and `watchers`. `tests/interleavings.rs` compiles those two rooms a second time
//! with others in this place, and tries every order in which their threads can run.

pub(super) use std::sync::{Mutex, MutexGuard};

pub(super) use arc_swap::ArcSwapOption as Pointer;
pub(super) use tokio::sync::Notify;
