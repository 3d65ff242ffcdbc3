//! Raw settings in, validated configuration out, all problems at once.
