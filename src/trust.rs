//! The CA, identities and SDS material.
