//! Signed bearer tokens: JSON Web Tokens by ES256 with a key of the server's own.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Who issues tokens, and the audience of the API server itself.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Signs and checks tokens. Clones share the key.
#[derive(Clone)]
pub(super) struct TokenKey {
    pair: Arc<EcdsaKeyPair>,
    id: String,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a token is not believed. *Fatal* for the request that brought it; none says anything of the token's
/// content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum TokenError {
    /// *Fatal*: not a token of this server: another form, key or issuer.
    #[error("invalid bearer token")]
    Invalid,
    /// *Fatal*: its time is over.
    #[error("service account token has expired")]
    Expired,
    /// *Fatal*: its time has not come.
    #[error("service account token is not valid yet")]
    Early,
    /// *Fatal*: it is meant for others.
    #[error("token audiences are invalid for the target audiences")]
    Audience,
    /// *Fatal*: the account, or the object it is bound to, is gone.
    #[error("service account token has been invalidated")]
    Revoked,
}

/// The randomness to make a key or a signature is missing. *Fatal* for what was to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("cannot sign tokens: the operating system gives no randomness")]
pub(super) struct Unsigned;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) aud: Vec<String>,
    /// Seconds since 1970: from then on it is void.
    pub(super) exp: i64,
    /// Seconds since 1970: when it was issued.
    pub(super) iat: i64,
    pub(super) iss: String,
    /// Identifies the token.
    pub(super) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(super) kubernetes: Bound,
    /// Seconds since 1970: void before.
    pub(super) nbf: i64,
    pub(super) sub: String,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bound {
    pub(super) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Reference>,
    pub(super) serviceaccount: Reference,
}

/// One object, not a later one of its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) uid: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

const ALGORITHM: &str = "ES256";

impl TokenKey {
    /// A fresh key.
    pub(super) fn generate() -> Result<Self, Unsigned> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| Unsigned)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).map_err(|_| Unsigned)?;
        let id = BASE64.encode(ring::digest::digest(&ring::digest::SHA256, pair.public_key().as_ref()));
        Ok(Self { pair: Arc::new(pair), id })
    }

    /// The token that says `claims`.
    pub(super) fn sign(&self, claims: &Claims) -> Result<String, Unsigned> {
        let header = Header { alg: ALGORITHM.to_owned(), kid: self.id.clone() };
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).map_err(|_| Unsigned)?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }

    /// What `token` says at `now`, in seconds since 1970, if this key signed it and it is valid then. For whom
    /// it is meant and whose it is, is left to the caller.
    pub(super) fn verify(&self, token: &str, now: i64) -> Result<Claims, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Invalid)?;
        let header: Header = read(header)?;
        if header.alg != ALGORITHM || header.kid != self.id {
            return Err(TokenError::Invalid);
        }
        let signature = BASE64.decode(signature).map_err(|_| TokenError::Invalid)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| TokenError::Invalid)?;
        let claims: Claims = read(claims)?;
        match claims {
            claims if claims.iss != ISSUER => Err(TokenError::Invalid),
            claims if claims.exp <= now => Err(TokenError::Expired),
            claims if claims.nbf > now => Err(TokenError::Early),
            claims => Ok(claims),
        }
    }
}

fn part(value: &impl Serialize) -> String {
    BASE64.encode(serde_json::to_vec(value).expect("text and numbers are serialisable"))
}

fn read<T: for<'a> Deserialize<'a>>(part: &str) -> Result<T, TokenError> {
    let json = BASE64.decode(part).map_err(|_| TokenError::Invalid)?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        let reference = || Reference { name: "web".into(), uid: "u".into() };
        Claims {
            aud: vec![ISSUER.into()],
            exp: 2000,
            iat: 1000,
            iss: ISSUER.into(),
            jti: "j".into(),
            kubernetes: Bound {
                namespace: "n".into(),
                node: None,
                pod: Some(reference()),
                secret: None,
                serviceaccount: reference(),
            },
            nbf: 1000,
            sub: "system:serviceaccount:n:web".into(),
        }
    }

    #[test]
    fn a_token_is_valid_within_its_time() {
        let key = TokenKey::generate().unwrap();
        let token = key.sign(&claims()).unwrap();
        assert_eq!(key.verify(&token, 1000), Ok(claims()));
        assert_eq!(key.verify(&token, 1999), Ok(claims()));
        assert_eq!(key.verify(&token, 2000), Err(TokenError::Expired));
        assert_eq!(key.verify(&token, 999), Err(TokenError::Early));
    }

    #[test]
    fn another_key_another_form_and_every_changed_letter_are_refused() {
        let key = TokenKey::generate().unwrap();
        let token = key.sign(&claims()).unwrap();
        assert_eq!(TokenKey::generate().unwrap().verify(&token, 1000), Err(TokenError::Invalid));
        for other in ["", ".", "..", "a.b.c", "hush", &token[1..], &format!("{token}.")] {
            assert_eq!(key.verify(other, 1000), Err(TokenError::Invalid), "{other}");
        }
        // The last letter of an unpadded text has bits that do not count.
        for at in (0..token.len() - 1).step_by(7) {
            let letter = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            let changed = [&token[..at], letter, &token[at + 1..]].concat();
            assert_eq!(key.verify(&changed, 1000), Err(TokenError::Invalid), "letter {at}");
        }
    }

    #[test]
    fn an_unsigned_token_is_refused_whatever_it_says() {
        let key = TokenKey::generate().unwrap();
        let header = Header { alg: "none".into(), kid: key.id.clone() };
        let token = format!("{}.{}.", part(&header), part(&claims()));
        assert_eq!(key.verify(&token, 1000), Err(TokenError::Invalid));
    }

    #[test]
    fn claims_are_named_as_everywhere() {
        let json = serde_json::to_value(claims()).unwrap();
        assert_eq!(json["kubernetes.io"]["serviceaccount"], serde_json::json!({"name": "web", "uid": "u"}));
        assert_eq!(json["kubernetes.io"].get("secret"), None);
    }
}
