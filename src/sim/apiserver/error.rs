//! What the API refuses, and the `Status` object that says so.

use serde_json::{Value, json};
use thiserror::Error;

/// A refused API operation. Over HTTP it becomes a `Status` object ([`ApiError::status`]); in process it
/// is returned as it is. Messages follow the wording clients know from a real API server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApiError {
    /// *Fatal* for the request: no token, or not the server's token.
    #[error("Unauthorized")]
    Unauthorized,
    /// *Fatal* for the request: the server does not serve this path.
    #[error("the server could not find the requested resource")]
    NoSuchPath,
    /// *Fatal* for the request: the object does not exist.
    #[error("{resource} {name:?} not found")]
    NotFound {
        /// Resource (plural), with its group when it has one.
        resource: String,
        /// Object name.
        name: String,
    },
    /// *Fatal* for the request: an object of that name exists.
    #[error("{resource} {name:?} already exists")]
    AlreadyExists {
        /// Resource (plural), with its group when it has one.
        resource: String,
        /// Object name.
        name: String,
    },
    /// *Retried* by the caller after a fresh read: the object changed meanwhile, or a precondition failed.
    #[error("Operation cannot be fulfilled on {resource} {name:?}: {why}")]
    Conflict {
        /// Resource (plural), with its group when it has one.
        resource: String,
        /// Object name.
        name: String,
        /// What did not match.
        why: String,
    },
    /// *Fatal* for the request: nobody may do this.
    #[error("{resource} {name:?} is forbidden: {why}")]
    Forbidden {
        /// Resource (plural), with its group when it has one.
        resource: String,
        /// Object name.
        name: String,
        /// The rule.
        why: String,
    },
    /// *Fatal* for the request: a field has a value the kind does not allow.
    #[error("{kind} {name:?} is invalid: {field}: {why}")]
    Invalid {
        /// The object's kind, with its group behind a dot when it has one.
        kind: String,
        /// Object name, perhaps empty.
        name: String,
        /// Path of the offending field.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// *Fatal* for the request: the request itself makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// *Fatal* for the request: this resource has no such verb.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// *Fatal* for the request: none of the accepted response types is served.
    #[error("only the following media types are accepted: {0}")]
    NotAcceptable(String),
    /// *Fatal* for the request: the body is in a form this server does not read.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// *Fatal* for the request: the patch is well formed but does not fit the object.
    #[error("the server rejected our request due to an error in our request: {0}")]
    Unprocessable(String),
    /// *Fatal* for the request: the body exceeds the limit, in bytes.
    #[error("Request entity too large: limit is {0}")]
    TooLarge(usize),
    /// *Retried* by the caller with a fresh list: the version asked for left the history.
    #[error("{0}")]
    Expired(String),
    /// *Retried* by the caller later: the version asked for lies in the future of this server.
    #[error("Timeout: Too large resource version: {asked}, current: {current}")]
    FutureVersion {
        /// The version asked for.
        asked: u64,
        /// The newest version there is.
        current: u64,
    },
}

impl ApiError {
    /// An option of a list or watch that is not allowed beside the others.
    pub(super) fn forbidden_option(field: &str, why: &str) -> Self {
        Self::Invalid {
            kind: "ListOptions.meta.k8s.io".into(),
            name: String::new(),
            field: field.to_owned(),
            why: format!("Forbidden: {why}"),
        }
    }

    /// Seconds after which the request may be sent again, where that is known.
    pub(super) fn retry_after(&self) -> Option<u64> {
        matches!(self, Self::FutureVersion { .. }).then_some(1)
    }

    /// HTTP status code.
    pub fn code(&self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::Forbidden { .. } => 403,
            Self::NoSuchPath | Self::NotFound { .. } => 404,
            Self::AlreadyExists { .. } | Self::Conflict { .. } => 409,
            Self::Invalid { .. } | Self::Unprocessable(_) => 422,
            Self::BadRequest(_) => 400,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable(_) => 406,
            Self::UnsupportedMediaType(_) => 415,
            Self::TooLarge(_) => 413,
            Self::Expired(_) => 410,
            Self::FutureVersion { .. } => 504,
        }
    }

    /// Machine-readable reason, as `Status.reason`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden { .. } => "Forbidden",
            Self::NoSuchPath | Self::NotFound { .. } => "NotFound",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Conflict { .. } => "Conflict",
            Self::Invalid { .. } | Self::Unprocessable(_) => "Invalid",
            Self::BadRequest(_) => "BadRequest",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable(_) => "NotAcceptable",
            Self::UnsupportedMediaType(_) => "UnsupportedMediaType",
            Self::TooLarge(_) => "RequestEntityTooLarge",
            Self::Expired(_) => "Expired",
            Self::FutureVersion { .. } => "Timeout",
        }
    }

    /// The `Status` object of this error.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.to_string(),
            "reason": self.reason(),
            "code": self.code(),
        });
        if let Some(details) = self.details() {
            status["details"] = details;
        }
        status
    }

    fn details(&self) -> Option<Value> {
        match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Conflict { resource, name, .. }
            | Self::Forbidden { resource, name, .. } => {
                let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
                let mut details = json!({"name": name, "kind": plural});
                if !group.is_empty() {
                    details["group"] = json!(group);
                }
                Some(details)
            }
            Self::Invalid { kind, name, field, why } => {
                let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
                let mut details = json!({
                    "name": name,
                    "kind": kind,
                    "causes": [{"reason": cause(why), "message": why, "field": field}],
                });
                if !group.is_empty() {
                    details["group"] = json!(group);
                }
                Some(details)
            }
            Self::FutureVersion { .. } => Some(json!({
                "retryAfterSeconds": 1,
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            })),
            _ => None,
        }
    }
}

/// The machine-readable form of what is wrong with a field; messages begin with it in words.
fn cause(why: &str) -> &'static str {
    match why.split(':').next().unwrap_or_default() {
        "Required value" => "FieldValueRequired",
        "Forbidden" => "FieldValueForbidden",
        "Unsupported value" => "FieldValueNotSupported",
        "Duplicate value" => "FieldValueDuplicate",
        _ => "FieldValueInvalid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_names_the_object_and_its_group() {
        let error = ApiError::NotFound { resource: "deployments.apps".into(), name: "web".into() };
        let status = error.status();
        assert_eq!(status["code"], 404);
        assert_eq!(status["reason"], "NotFound");
        assert_eq!(status["message"], "deployments.apps \"web\" not found");
        assert_eq!(status["details"], json!({"name": "web", "kind": "deployments", "group": "apps"}));
    }

    #[test]
    fn a_future_version_carries_the_cause_clients_look_for() {
        let status = ApiError::FutureVersion { asked: 9, current: 3 }.status();
        assert_eq!(status["code"], 504);
        assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    }
}
