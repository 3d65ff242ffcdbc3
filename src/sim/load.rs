//! A bounded load generator for the lab and its scenarios.
