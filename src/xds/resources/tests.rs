//! What the resources hold, decoded again.
