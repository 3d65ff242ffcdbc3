//! API servers in, model out.
