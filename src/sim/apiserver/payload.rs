//! Request bodies: bounded, and as JSON values whatever they were sent as.

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;

use super::error::ApiError;
use super::protobuf;

/// Largest accepted request body, in bytes: what a real API server accepts.
const LIMIT: usize = 3 * 1024 * 1024;

/// The body of a request, as it comes in.
pub(super) trait Incoming: http_body::Body<Data = Bytes, Error: Into<BoxError>> {}

impl<B: http_body::Body<Data = Bytes, Error: Into<BoxError>>> Incoming for B {}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The media type of the body, without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Reads the whole body.
///
/// # Errors
/// [`ApiError::TooLarge`] above 3 MiB, [`ApiError::BadRequest`] when the client breaks off.
pub(super) async fn bytes(body: impl Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(ApiError::TooLarge(LIMIT)),
        Err(error) => Err(ApiError::BadRequest(format!("the request body could not be read: {error}"))),
    }
}

/// Reads one object, in JSON or in protobuf.
///
/// # Errors
/// As [`bytes`], [`ApiError::UnsupportedMediaType`] for other types, and [`ApiError::BadRequest`] for a body that
/// is not what its type says.
pub(super) async fn object(headers: &HeaderMap, body: impl Incoming) -> Result<Value, ApiError> {
    parse(media_type(headers), &bytes(body).await?)
}

/// Reads the options of a delete; `null` if there are none.
///
/// # Errors
/// As [`object`].
pub(super) async fn options(headers: &HeaderMap, body: impl Incoming) -> Result<Value, ApiError> {
    let bytes = bytes(body).await?;
    if bytes.is_empty() { Ok(Value::Null) } else { parse(media_type(headers), &bytes) }
}

fn parse(media_type: &str, body: &[u8]) -> Result<Value, ApiError> {
    let object = match media_type {
        "" | "application/json" => serde_json::from_slice(body).map_err(|error| error.to_string()),
        protobuf::MEDIA_TYPE => protobuf::parse(body).map_err(|error| error.to_string()),
        _ => {
            return Err(ApiError::UnsupportedMediaType(format!(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json, {}",
                protobuf::MEDIA_TYPE
            )));
        }
    };
    match object {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err(ApiError::BadRequest("the request body must be one object".into())),
        Err(problem) => Err(ApiError::BadRequest(format!("the request body cannot be read: {problem}"))),
    }
}

/// Checks that a body is what is posted here, as far as it says what it is.
///
/// # Errors
/// [`ApiError::BadRequest`] naming what it says.
pub(super) fn check_type(object: &Value, api_version: &str, kind: &str) -> Result<(), ApiError> {
    for (field, wanted) in [("apiVersion", api_version), ("kind", kind)] {
        if let Some(given) = object[field].as_str().filter(|given| *given != wanted) {
            return Err(ApiError::BadRequest(format!(
                "the {field} of the object ({given}) does not match the expected {field} ({wanted})"
            )));
        }
    }
    Ok(())
}
