//! Service accounts as identities: their tokens, and who a bearer token speaks for.
//!
//! There is no authorisation: whoever has a valid token may do everything.

use std::time::Duration;

use serde_json::{Value, json};

use super::error::ApiError;
use super::identity;
use super::kinds::{self, BuiltIn, Kind};
use super::object::ObjectKey;
use super::store::Store;
use super::tokens::{Bound, Claims, ISSUER, Reference, TokenError, TokenKey, Unsigned};

/// How long a token lasts when its request names no time, in seconds.
const DEFAULT_LIFETIME: i64 = 3600;
/// The shortest and the longest time a request may name, in seconds.
const LIFETIMES: std::ops::RangeInclusive<i64> = 600..=1 << 32;
/// The group of everybody with a valid token.
const AUTHENTICATED: &str = "system:authenticated";

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) username: String,
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
    /// Further facts: name and values.
    pub(super) extra: Vec<(String, String)>,
}

impl Identity {
    /// The owner of the server's own token.
    pub(super) fn administrator() -> Self {
        Self {
            username: "kubernetes-admin".into(),
            uid: String::new(),
            groups: vec!["system:masters".into(), AUTHENTICATED.into()],
            extra: Vec::new(),
        }
    }

    /// A request without a token.
    pub(super) fn anonymous() -> Self {
        Self {
            username: "system:anonymous".into(),
            uid: String::new(),
            groups: vec!["system:unauthenticated".into()],
            extra: Vec::new(),
        }
    }

    fn of(claims: Claims) -> Self {
        let bound = claims.kubernetes;
        let mut extra =
            vec![("authentication.kubernetes.io/credential-id".to_owned(), format!("JTI={}", claims.jti))];
        for (what, reference) in [("node", &bound.node), ("pod", &bound.pod)] {
            if let Some(reference) = reference {
                extra.push((format!("authentication.kubernetes.io/{what}-name"), reference.name.clone()));
                extra.push((format!("authentication.kubernetes.io/{what}-uid"), reference.uid.clone()));
            }
        }
        Self {
            username: claims.sub,
            uid: bound.serviceaccount.uid,
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{}", bound.namespace),
                AUTHENTICATED.into(),
            ],
            extra,
        }
    }

    /// As `UserInfo` in reviews.
    pub(super) fn user_info(&self) -> Value {
        let mut info = json!({"username": self.username, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        for (name, value) in &self.extra {
            info["extra"][name] = json!([value]);
        }
        info
    }
}

/// The accounts of a store and the key that signs for them.
pub(super) struct Accounts<'a> {
    pub(super) store: &'a Store,
    pub(super) key: &'a TokenKey,
}

/// What a token is to say.
struct Order {
    audiences: Vec<String>,
    lifetime: i64,
    pod: Option<Reference>,
    secret: Option<Reference>,
    node: Option<Reference>,
}

impl Accounts<'_> {
    /// Answers a TokenRequest for an account at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// No such account or bound object, or a request that makes no sense.
    pub(super) fn request(
        &self,
        namespace: &str,
        name: &str,
        mut request: Value,
        now: i64,
    ) -> Result<Value, ApiError> {
        let account = self.reference(&kinds::SERVICE_ACCOUNTS, namespace, name)?;
        let spec = &request["spec"];
        if !spec.is_object() && !spec.is_null() {
            return Err(ApiError::BadRequest("the spec of a TokenRequest must be an object".into()));
        }
        let audiences = audiences(spec);
        let lifetime = lifetime(spec, name)?;
        let mut order = Order { audiences, lifetime, pod: None, secret: None, node: None };
        self.bind(namespace, name, &spec["boundObjectRef"], &mut order)?;
        let expires = now.saturating_add(order.lifetime);
        request["spec"]["audiences"] = json!(order.audiences);
        request["spec"]["expirationSeconds"] = json!(order.lifetime);
        request["status"] = json!({
            "token": self.sign(namespace, account, order, now)?,
            "expirationTimestamp": jiff::Timestamp::from_second(expires).map_or(Value::Null, |t| json!(t.to_string())),
        });
        request["apiVersion"] = json!("authentication.k8s.io/v1");
        request["kind"] = json!("TokenRequest");
        request["metadata"] =
            json!({"namespace": namespace, "name": name, "creationTimestamp": identity::timestamp()});
        Ok(request)
    }

    /// A token of an account for the API server itself that lasts `lifetime`, also a shorter one than a
    /// request may name.
    ///
    /// # Errors
    /// No such account.
    pub(super) fn token(
        &self,
        namespace: &str,
        name: &str,
        lifetime: Duration,
        now: i64,
    ) -> Result<String, ApiError> {
        let account = self.reference(&kinds::SERVICE_ACCOUNTS, namespace, name)?;
        let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        let order = Order { audiences: vec![ISSUER.into()], lifetime, pod: None, secret: None, node: None };
        self.sign(namespace, account, order, now)
    }

    fn sign(&self, namespace: &str, account: Reference, order: Order, now: i64) -> Result<String, ApiError> {
        let claims = Claims {
            aud: order.audiences,
            exp: now.saturating_add(order.lifetime),
            iat: now,
            iss: ISSUER.to_owned(),
            jti: identity::uid()?,
            nbf: now,
            sub: format!("system:serviceaccount:{namespace}:{}", account.name),
            kubernetes: Bound {
                namespace: namespace.to_owned(),
                node: order.node,
                pod: order.pod,
                secret: order.secret,
                serviceaccount: account,
            },
        };
        self.key.sign(&claims).map_err(|Unsigned| ApiError::BadRequest(Unsigned.to_string()))
    }

    /// Notes in `order` what the token is bound to; a pod brings its node along.
    fn bind(&self, namespace: &str, account: &str, to: &Value, order: &mut Order) -> Result<(), ApiError> {
        if to.is_null() {
            return Ok(());
        }
        let text = |field: &str| to[field].as_str().unwrap_or_default();
        let found = match (text("apiVersion"), text("kind")) {
            ("v1", "Pod") => {
                let pod = self.store.stored(&kinds::PODS, &ObjectKey::new(namespace, text("name")))?.value();
                let runs_as = pod["spec"]["serviceAccountName"].as_str().filter(|name| !name.is_empty());
                if runs_as.unwrap_or("default") != account {
                    return Err(ApiError::BadRequest(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different \
                         serviceaccount name."
                    )));
                }
                let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
                order.node = self.reference(&kinds::NODES, "", node).ok();
                order.pod.insert(reference(&pod))
            }
            ("v1", "Secret") => {
                order.secret.insert(self.reference(&kinds::SECRETS, namespace, text("name"))?)
            }
            ("v1", "Node") => order.node.insert(self.reference(&kinds::NODES, "", text("name"))?),
            (version, kind) => {
                return Err(ApiError::BadRequest(format!(
                    "cannot bind token for serviceaccount {account:?} to object of type {version}, Kind={kind}"
                )));
            }
        };
        if !text("uid").is_empty() && text("uid") != found.uid {
            return Err(ApiError::Conflict {
                resource: "serviceaccounts/token".into(),
                name: account.to_owned(),
                why: format!(
                    "the UID in the bound object reference ({}) does not match the UID in record. The object might \
                     have been deleted and then recreated",
                    text("uid")
                ),
            });
        }
        Ok(())
    }

    /// Who `token` speaks for at `now`, and the audiences it has in common with `audiences`.
    pub(super) fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
    ) -> Result<(Identity, Vec<String>), TokenError> {
        let claims = self.key.verify(token, now)?;
        let common: Vec<String> = audiences.iter().filter(|a| claims.aud.contains(a)).cloned().collect();
        if common.is_empty() {
            return Err(TokenError::Audience);
        }
        let bound = &claims.kubernetes;
        let namespace = bound.namespace.as_str();
        let lives = |kind: &BuiltIn, namespace: &str, wanted: &Reference| {
            self.reference(kind, namespace, &wanted.name).is_ok_and(|found| found.uid == wanted.uid)
        };
        let all = lives(&kinds::SERVICE_ACCOUNTS, namespace, &bound.serviceaccount)
            && bound.pod.as_ref().is_none_or(|pod| lives(&kinds::PODS, namespace, pod))
            && bound.secret.as_ref().is_none_or(|secret| lives(&kinds::SECRETS, namespace, secret))
            // Of a pod's token the node is only told, not checked: it goes with its pod.
            && (bound.pod.is_some() || bound.node.as_ref().is_none_or(|node| lives(&kinds::NODES, "", node)));
        if all { Ok((Identity::of(claims), common)) } else { Err(TokenError::Revoked) }
    }

    fn reference(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Reference, ApiError> {
        self.store.stored(kind, &ObjectKey::new(namespace, name)).map(|object| reference(&object.value()))
    }
}

fn reference(object: &Value) -> Reference {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    Reference { name: text("name"), uid: text("uid") }
}

/// The audiences a specification names; the API server's own if it names none.
pub(super) fn audiences(spec: &Value) -> Vec<String> {
    let named = spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let named: Vec<String> = named.map(str::to_owned).collect();
    if named.is_empty() { vec![ISSUER.to_owned()] } else { named }
}

fn lifetime(spec: &Value, name: &str) -> Result<i64, ApiError> {
    let seconds = match &spec["expirationSeconds"] {
        Value::Null => Some(DEFAULT_LIFETIME),
        value => value.as_i64(),
    };
    let why = match seconds {
        Some(seconds) if LIFETIMES.contains(&seconds) => return Ok(seconds),
        Some(seconds) if seconds < *LIFETIMES.start() => "may not specify a duration less than 10 minutes",
        Some(_) => "may not specify a duration larger than 2^32 seconds",
        None => "must be a number of seconds",
    };
    Err(ApiError::Invalid {
        kind: "TokenRequest".into(),
        name: name.to_owned(),
        field: "spec.expirationSeconds".into(),
        why: format!("Invalid value: {}: {why}", spec["expirationSeconds"]),
    })
}
