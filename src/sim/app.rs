//! The echo application of the lab.
