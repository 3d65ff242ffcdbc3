//! Whether a write that passes every check happens: `dryRun`.

use serde_json::Value;

use super::error::ApiError;
use super::route::Verb;

/// Whether a write that passes every check happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Effect {
    /// It is stored, under a new version, and watches tell of it.
    #[default]
    Stored,
    /// Only the answer is made (`dryRun=All`).
    Rehearsed,
}

impl Effect {
    /// Reads the `dryRun` parameter of a request.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for anything but nothing and `All`.
    pub(super) fn of_query(verb: Verb, asked: &str) -> Result<Self, ApiError> {
        match verb {
            Verb::Create => Self::parse("CreateOptions", asked),
            Verb::Update => Self::parse("UpdateOptions", asked),
            Verb::Patch => Self::parse("PatchOptions", asked),
            Verb::Delete | Verb::DeleteCollection => Self::parse("DeleteOptions", asked),
            // Nothing to rehearse.
            Verb::Get | Verb::List | Verb::Watch => Ok(Self::Stored),
        }
    }

    /// Reads `dryRun` of a `DeleteOptions` body.
    ///
    /// # Errors
    /// As [`Self::of_query`].
    pub(super) fn of_options(options: &Value) -> Result<Self, ApiError> {
        Self::parse("DeleteOptions", options["dryRun"][0].as_str().unwrap_or_default())
    }

    fn parse(kind: &str, asked: &str) -> Result<Self, ApiError> {
        match asked {
            "" => Ok(Self::Stored),
            "All" => Ok(Self::Rehearsed),
            other => Err(ApiError::Invalid {
                kind: format!("{kind}.meta.k8s.io"),
                name: String::new(),
                field: "dryRun".into(),
                why: format!("Unsupported value: [{other:?}]: supported values: \"All\""),
            }),
        }
    }
}
