//! Users who are known by a token: one of their tokens is as good as another (K-30).

use std::fmt;
use std::time::SystemTime;

#[cfg(test)]
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::header::HeaderValue;
use http::{HeaderMap, Uri};
use secrecy::ExposeSecret;

use super::authorization::{bearer, begin, claims, expiry};
use super::credentials::is_brief;

/// A user of one API server with a token that was given once. Another token of the same user may do what this one
/// may. Secret: never shown.
#[derive(Clone)]
pub struct TokenUser {
    whom: Whom,
    pub(super) header: HeaderValue,
    pub(super) expires: Option<SystemTime>,
    pub(super) is_brief: bool,
}

/// Who asks whom, and how they know each other: everything but the token.
#[derive(Clone, PartialEq, Eq)]
struct Whom {
    url: Uri,
    server_name: Option<String>,
    ca: Option<Vec<Vec<u8>>>,
    verifies: bool,
    headers: HeaderMap,
    issuer: String,
    subject: String,
}

impl fmt::Debug for TokenUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenUser").field("subject", &self.whom.subject).finish_non_exhaustive()
    }
}

impl TokenUser {
    /// The user of a kubeconfig whose requests have these headers; `None` if anything else says who it is too, or
    /// may change, or if the token does not say whose it is. What it says is not verified here: who accepts the
    /// token has done so.
    pub(super) fn of(config: &kube::Config, headers: &HeaderMap) -> Option<Self> {
        let auth = &config.auth_info;
        let others = [
            auth.username.is_some() || auth.password.is_some(),
            auth.token_file.is_some() || config.root_cert_file.is_some(),
            auth.client_certificate.is_some() || auth.client_certificate_data.is_some(),
            auth.client_key.is_some() || auth.client_key_data.is_some(),
            auth.exec.is_some() || auth.auth_provider.is_some(),
        ];
        if others.contains(&true) {
            return None;
        }
        let token = auth.token.as_ref()?.expose_secret();
        let (issuer, subject) = whose(token)?;
        let whom = Whom {
            url: config.cluster_url.clone(),
            server_name: config.tls_server_name.clone(),
            ca: config.root_cert.clone(),
            verifies: !config.accept_invalid_certs,
            headers: headers.clone(),
            issuer,
            subject,
        };
        let expires = expiry(token);
        let is_brief = is_brief(begin(token), expires);
        Some(Self { whom, header: bearer(token).ok()?, expires, is_brief })
    }

    /// A service account's token, the `n`th.
    #[cfg(test)]
    pub(in crate::ingest) fn example(subject: &str, n: usize) -> Self {
        let mut config = kube::Config::new("https://192.0.2.1".parse().unwrap());
        let claims = serde_json::json!({"iss": "https://issuer", "sub": subject, "jti": n});
        let token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string()));
        config.auth_info.token = Some(token.into());
        Self::of(&config, &HeaderMap::new()).unwrap()
    }

    /// The token itself.
    #[cfg(test)]
    pub(in crate::ingest) fn header(&self) -> &str {
        self.header.to_str().unwrap()
    }

    /// Whether the other one is the same user of the same API server.
    pub fn is_same_user(&self, other: &Self) -> bool {
        self.whom == other.whom
    }
}

/// Issuer and subject of a JWT.
fn whose(token: &str) -> Option<(String, String)> {
    #[derive(serde::Deserialize)]
    struct Claims {
        iss: String,
        sub: String,
    }
    let _signature = token.split('.').nth(2)?;
    let claims: Claims = claims(token)?;
    (!claims.iss.is_empty() && !claims.sub.is_empty()).then_some((claims.iss, claims.sub))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(change: impl FnOnce(&mut kube::Config)) -> kube::Config {
        let mut config = kube::Config::new("https://192.0.2.1".parse().unwrap());
        config.auth_info.token = Some(token("sa", 1).into());
        change(&mut config);
        config
    }

    fn token(subject: &str, n: u32) -> String {
        let claims = json!({"iss": "https://issuer", "sub": subject, "jti": n, "exp": 2_000_000_000});
        format!("e30.{}.signature", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn user(change: impl FnOnce(&mut kube::Config)) -> Option<TokenUser> {
        TokenUser::of(&config(change), &HeaderMap::new())
    }

    #[test]
    fn k30_another_token_of_the_same_user_is_told_from_any_other_difference() {
        let now = user(|_| ()).expect("a service account's");
        let is_same = |change: &dyn Fn(&mut kube::Config)| {
            user(|config| change(config)).map(|next| now.is_same_user(&next))
        };
        let to = |text: &str| Some(text.to_owned().into());
        assert_eq!(is_same(&|config| config.auth_info.token = Some(token("sa", 2).into())), Some(true));
        assert_eq!(is_same(&|config| config.auth_info.token = Some(token("other", 1).into())), Some(false));
        assert_eq!(is_same(&|config| config.cluster_url = "https://192.0.2.2".parse().unwrap()), Some(false));
        assert_eq!(is_same(&|config| config.root_cert = Some(vec![vec![1]])), Some(false));
        assert_eq!(is_same(&|config| config.tls_server_name = Some("x".to_owned())), Some(false));
        assert_eq!(is_same(&|config| config.accept_invalid_certs = true), Some(false));
        for none in [
            is_same(&|config| config.auth_info.token = to("opaque")),
            is_same(&|config| config.auth_info.token = to("e30.e30.x")),
            is_same(&|config| config.auth_info.token = None),
            is_same(&|config| config.auth_info.token_file = Some("/t".to_owned())),
            is_same(&|config| config.auth_info.client_certificate_data = Some("x".to_owned())),
            is_same(&|config| config.auth_info.username = Some("x".to_owned())),
            is_same(&|config| config.root_cert_file = Some("/ca".into())),
        ] {
            assert_eq!(none, None);
        }
        let mut headers = HeaderMap::new();
        headers.insert("impersonate-user", HeaderValue::from_static("x"));
        let other = TokenUser::of(&config(|_| ()), &headers).unwrap();
        assert!(!now.is_same_user(&other));
        assert!(!format!("{now:?}").contains("signature"));
    }
}
