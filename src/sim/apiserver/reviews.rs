//! Reviews: questions posted to the server and answered at once; nothing of them is kept.
//!
//! TokenReview and SelfSubjectReview say who somebody is. The access reviews always say yes: there is no
//! authorisation.

use serde_json::{Value, json};

use super::accounts::{self, Accounts, Identity};
use super::error::ApiError;
use super::identity;

/// A kind of review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Review {
    pub(super) group: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
}

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Every kind of review; all are of version `v1` and cluster-scoped.
pub(super) const REVIEWS: [Review; 5] = [
    Review { group: AUTHENTICATION, plural: "selfsubjectreviews", kind: "SelfSubjectReview" },
    Review { group: AUTHENTICATION, plural: "tokenreviews", kind: "TokenReview" },
    Review { group: AUTHORIZATION, plural: "selfsubjectaccessreviews", kind: "SelfSubjectAccessReview" },
    Review { group: AUTHORIZATION, plural: "selfsubjectrulesreviews", kind: "SelfSubjectRulesReview" },
    Review { group: AUTHORIZATION, plural: "subjectaccessreviews", kind: "SubjectAccessReview" },
];
/// The version of every review.
pub(super) const VERSION: &str = "v1";

/// Why every access is allowed.
const REASON: &str = "this server has no authorization: whoever is authenticated may do everything";

impl Review {
    /// The review of this resource, if there is one.
    pub(super) fn find(group: &str, version: &str, plural: &str) -> Option<Self> {
        REVIEWS.into_iter().find(|r| r.group == group && r.plural == plural && version == VERSION)
    }

    /// Answers a review that `asker` posted at `now`, in seconds since 1970. `known` tells who a token that
    /// is no account's speaks for.
    ///
    /// # Errors
    /// A review without the field it is about.
    pub(super) fn answer(
        self,
        mut review: Value,
        asker: &Identity,
        accounts: &Accounts<'_>,
        known: impl Fn(&str) -> Option<Identity>,
        now: i64,
    ) -> Result<Value, ApiError> {
        review["apiVersion"] = json!(format!("{}/{VERSION}", self.group));
        review["kind"] = json!(self.kind);
        review["metadata"] = json!({"creationTimestamp": identity::timestamp()});
        review["status"] = match self.kind {
            "TokenReview" => token_status(&review["spec"], accounts, known, now)?,
            "SelfSubjectReview" => json!({"userInfo": asker.user_info()}),
            "SelfSubjectRulesReview" => json!({
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                "incomplete": false,
            }),
            _ => access_status(self, &review["spec"])?,
        };
        Ok(review)
    }
}

fn token_status(
    spec: &Value,
    accounts: &Accounts<'_>,
    known: impl Fn(&str) -> Option<Identity>,
    now: i64,
) -> Result<Value, ApiError> {
    let token = spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::BadRequest("token is required for TokenReview in authentication".into()));
    }
    let audiences = accounts::audiences(spec);
    let answer = match known(token) {
        Some(identity) => Ok((identity, audiences)),
        None => accounts.authenticate(token, &audiences, now),
    };
    Ok(match answer {
        Ok((identity, audiences)) => {
            json!({"authenticated": true, "user": identity.user_info(), "audiences": audiences})
        }
        Err(error) => json!({"user": {}, "error": error.to_string()}),
    })
}

fn access_status(review: Review, spec: &Value) -> Result<Value, ApiError> {
    if spec["resourceAttributes"].is_null() == spec["nonResourceAttributes"].is_null() {
        return Err(ApiError::Invalid {
            kind: review.kind.into(),
            name: String::new(),
            field: "spec.resourceAttributes".into(),
            why:
                "Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified"
                    .into(),
        });
    }
    Ok(json!({"allowed": true, "reason": REASON}))
}
