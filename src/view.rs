//! What one kind of proxy sees.
