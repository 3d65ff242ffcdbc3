//! Reading pages: control planes directly, Envoy's admin from where the Envoy is.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::LabError;
use super::place::{self, Place};

/// A page that takes longer is as good as none.
const LIMIT: Duration = Duration::from_secs(5);

/// Requests `url` with `method` from `place` and returns the body of a 200.
///
/// # Errors
/// [`LabError::Http`].
pub(super) async fn fetch(place: Place, method: &str, url: &str) -> Result<String, LabError> {
    let outcome = match place {
        Place::Here => tokio::time::timeout(LIMIT, direct(method, url))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}"))),
        Place::Namespace { .. } => within(place, method, url).await,
    };
    outcome.map_err(|problem| LabError::Http { method: method.to_owned(), url: url.to_owned(), problem })
}

async fn direct(method: &str, url: &str) -> Result<String, String> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = http::Request::builder()
        .method(method)
        .uri(url)
        .body(Full::default())
        .map_err(|error| error.to_string())?;
    let response = client.request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    if status == http::StatusCode::OK { Ok(text) } else { Err(format!("{status}: {}", text.trim())) }
}

async fn within(place: Place, method: &str, url: &str) -> Result<String, String> {
    let mut command = place.command("curl");
    let seconds = LIMIT.as_secs().to_string();
    command.args(["--silent", "--show-error", "--fail", "--max-time", &seconds, "--request", method, url]);
    place::run(command, "curl", None).await.map_err(|error| error.to_string())
}
