//! `fieldValidation`: what happens to fields a built-in kind does not have.
//!
//! Unknown fields of built-in kinds are never stored. `Strict`, kubectl's default, refuses the write, `Warn`,
//! the default, answers with a warning for each, `Ignore` says nothing. Custom objects may have any field.

use http::{HeaderName, HeaderValue, Response};
use serde_json::Value;

use super::error::ApiError;
use super::kinds::Kind;
use super::openapi;

/// Most warnings one answer carries.
const MOST_WARNINGS: usize = 20;

/// What the client wants to know of unknown fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validation {
    Ignore,
    Warn,
    Strict,
}

impl Validation {
    /// Reads the `fieldValidation` parameter.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for anything but the three words.
    pub(super) fn parse(asked: &str) -> Result<Self, ApiError> {
        match asked {
            "Ignore" => Ok(Self::Ignore),
            "" | "Warn" => Ok(Self::Warn),
            "Strict" => Ok(Self::Strict),
            other => Err(ApiError::Invalid {
                kind: "CreateOptions.meta.k8s.io".into(),
                name: String::new(),
                field: "fieldValidation".into(),
                why: format!(
                    "Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
                ),
            }),
        }
    }

    /// Removes the fields `kind` does not have; the warnings for the answer.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] for values of another type than their field, and with `Strict` for unknown
    /// fields.
    pub(super) fn check(self, kind: &Kind, object: &mut Value) -> Result<Vec<String>, ApiError> {
        let findings = openapi::prune(kind, object);
        let refused = |why: String| {
            ApiError::BadRequest(format!(
                "{0} in version {1:?} cannot be handled as a {0}: {why}",
                kind.kind, kind.version
            ))
        };
        if let Some(why) = findings.mistyped {
            return Err(refused(format!("json: {why}")));
        }
        let unknown: Vec<String> =
            findings.unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
        match self {
            Self::Strict if !unknown.is_empty() => {
                Err(refused(format!("strict decoding error: {}", unknown.join(", "))))
            }
            Self::Warn => Ok(unknown),
            Self::Strict | Self::Ignore => Ok(Vec::new()),
        }
    }
}

/// Adds warnings to an answer; kubectl prints them.
pub(super) fn warn<B>(mut response: Response<B>, warnings: &[String]) -> Response<B> {
    for text in warnings.iter().take(MOST_WARNINGS) {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        // Text that cannot be a header is not worth failing for.
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(HeaderName::from_static("warning"), value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::kinds::SERVICES;
    use super::*;

    fn checked(validation: &str, spec: Value) -> Result<Vec<String>, ApiError> {
        let mut object = json!({"metadata": {"name": "a"}, "spec": spec});
        Validation::parse(validation).unwrap().check(&SERVICES, &mut object)
    }

    #[test]
    fn unknown_fields_are_refused_warned_of_or_dropped() {
        let typo = || json!({"prots": []});
        let refusal = checked("Strict", typo()).unwrap_err();
        assert!(refusal.code() == 400 && refusal.to_string().contains("unknown field \"spec.prots\""));
        assert_eq!(checked("", typo()).unwrap(), ["unknown field \"spec.prots\""]);
        assert!(checked("Ignore", typo()).unwrap().is_empty());
        assert_eq!(checked("Ignore", json!({"ports": 1})).unwrap_err().code(), 400);
        assert_eq!(Validation::parse("Perhaps").unwrap_err().code(), 422);
    }

    #[test]
    fn warnings_are_quoted() {
        let response = warn(Response::new(()), &["unknown field \"a\"".into()]);
        assert_eq!(response.headers()["warning"], "299 - \"unknown field \\\"a\\\"\"");
    }
}
