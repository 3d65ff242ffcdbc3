//! Who sends a request, and the requests about identities: tokens of service accounts, and reviews.

use http::{HeaderMap, Method, Response, StatusCode, header};
use serde_json::Value;

use super::accounts::{Accounts, Identity, audiences};
use super::body::Body;
use super::error::ApiError;
use super::handler::Context;
use super::media::{Media, Purpose};
use super::payload::{self, Incoming};
use super::reviews::{Review, VERSION};
use super::route::{Resource, Target};

/// Now, in seconds since 1970.
pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn accounts(context: &Context) -> Accounts<'_> {
    Accounts { store: &context.store, key: &context.token_key }
}

/// Who sends a request. Health and version are open to everybody, as on a real server; the rest needs the
/// server's token or a service account's.
///
/// # Errors
/// [`ApiError::Unauthorized`], whatever is wrong with the token.
pub(super) fn identify(
    context: &Context,
    target: &Result<Target, ApiError>,
    headers: &HeaderMap,
) -> Result<Identity, ApiError> {
    let Some(offered) = headers.get(header::AUTHORIZATION) else {
        let open = matches!(target, Ok(Target::Health | Target::Version));
        return if open { Ok(Identity::anonymous()) } else { Err(ApiError::Unauthorized) };
    };
    let bearer = offered.to_str().ok().and_then(|value| value.split_once(' '));
    let token =
        bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let token = token.ok_or(ApiError::Unauthorized)?;
    if let Some(identity) = known(context, token) {
        return Ok(identity);
    }
    let own = audiences(&Value::Null);
    let (identity, _) = accounts(context).authenticate(token, &own, now()).map_err(|error| {
        tracing::debug!(%error, "token refused");
        ApiError::Unauthorized
    })?;
    Ok(identity)
}

/// The owner of the server's own token.
fn known(context: &Context, token: &str) -> Option<Identity> {
    equal(context.token.reveal(), token).then(Identity::administrator)
}

/// Compares in a time that depends on the lengths only.
fn equal(secret: &str, offered: &str) -> bool {
    let (a, b) = (secret.as_bytes(), offered.as_bytes());
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}

/// Answers a posted review.
pub(super) async fn review(
    context: &Context,
    review: Review,
    method: &Method,
    headers: &HeaderMap,
    asker: &Identity,
    body: impl Incoming,
) -> Result<Response<Body>, ApiError> {
    if *method != Method::POST {
        return Err(ApiError::MethodNotAllowed);
    }
    let media = Media::negotiate(headers, Purpose::Document, "", true)?;
    let posted = payload::object(headers, body).await?;
    payload::check_type(&posted, &format!("{}/{VERSION}", review.group), review.kind)?;
    let known = |token: &str| known(context, token);
    let answer = review.answer(posted, asker, &accounts(context), known, now())?;
    Ok(media.document(StatusCode::CREATED, &answer))
}

/// Answers a TokenRequest for the account that `resource` names.
pub(super) async fn token(
    context: &Context,
    resource: &Resource,
    headers: &HeaderMap,
    body: impl Incoming,
) -> Result<Response<Body>, ApiError> {
    let media = Media::negotiate(headers, Purpose::Document, "", true)?;
    let request = payload::object(headers, body).await?;
    payload::check_type(&request, "authentication.k8s.io/v1", "TokenRequest")?;
    let name = resource.name.as_deref().unwrap_or_default();
    let answer = accounts(context).request(&resource.namespace, name, request, now())?;
    Ok(media.document(StatusCode::CREATED, &answer))
}
