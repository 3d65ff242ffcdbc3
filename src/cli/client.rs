//! Asks a running server's debug pages.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// A server that takes longer is as good as none.
const LIMIT: Duration = Duration::from_secs(10);
/// The largest answer that is read.
const SIZE_LIMIT: usize = 256 << 20;

/// Which server is asked.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// The --http-addr (or --monitoring-addr) of a running server
    #[arg(long, env = "TOMBOLO_SERVER", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(super) server: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// *Fatal*: no URL of a server.
    #[error("--server {url:?}: {problem}; give one like http://127.0.0.1:8080")]
    Url { url: String, problem: String },
    /// *Fatal*: nobody answers.
    #[error(
        "cannot reach {url}: {problem}; is `tombolo serve` running there? --server names its --http-addr"
    )]
    Unreachable { url: String, problem: String },
    /// *Fatal*: the server refuses.
    #[error("{0}")]
    Refused(String),
    /// *Fatal*: what answers is no such server.
    #[error("{url} answers {problem}; is it a tombolo server?")]
    Odd { url: String, problem: String },
}

impl ClientError {
    /// Whether the arguments are at fault.
    pub(super) fn is_usage(&self) -> bool {
        matches!(self, Self::Url { .. })
    }
}

/// The JSON at `path`.
pub(super) async fn fetch(args: &ServerArgs, path: &str) -> Result<Value, ClientError> {
    let uri = page(&args.server, path)?;
    let url = uri.to_string();
    let unreachable = |problem: String| ClientError::Unreachable { url: args.server.clone(), problem };
    let answer = tokio::time::timeout(LIMIT, get(uri)).await;
    let (status, body) = answer
        .map_err(|_| unreachable(format!("no answer within {}", humantime::format_duration(LIMIT))))?
        .map_err(unreachable)?;
    let text = String::from_utf8_lossy(&body);
    match status {
        StatusCode::OK => serde_json::from_str(&text)
            .map_err(|error| ClientError::Odd { url, problem: format!("no JSON ({error})") }),
        StatusCode::BAD_REQUEST if is_message(&text) => {
            Err(ClientError::Refused(super::table::plain(text.trim())))
        }
        StatusCode::NOT_FOUND if !text.starts_with("no page") && is_message(&text) => {
            Err(ClientError::Refused(super::table::plain(text.trim())))
        }
        other => Err(ClientError::Odd { url, problem: other.to_string() }),
    }
}

/// One line for people, as our pages refuse; others answer whole documents.
fn is_message(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && !text.starts_with('<') && text.lines().count() == 1
}

fn page(server: &str, path: &str) -> Result<Uri, ClientError> {
    let wrong = |problem: &str| ClientError::Url { url: without_user(server), problem: problem.to_owned() };
    if server.contains('@') {
        return Err(wrong("it has a user or a password, and the server asks for none: leave them out"));
    }
    let uri: Uri = format!("{}{path}", server.trim_end_matches('/'))
        .parse()
        .map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
    match uri.scheme_str() {
        Some("http") if uri.host().is_some() => Ok(uri),
        Some("http") => Err(wrong("it names no host")),
        _ => Err(wrong("it does not begin with http://")),
    }
}

/// What comes before an `@` may be a secret.
fn without_user(url: &str) -> String {
    url.rsplit_once('@').map_or_else(|| url.to_owned(), |(_, rest)| format!("…@{rest}"))
}

async fn get(uri: Uri) -> Result<(StatusCode, Bytes), String> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let response = client.get(uri).await.map_err(|error| root_cause(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), SIZE_LIMIT).collect().await;
    let body = body.map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes()))
}

/// The innermost cause: `connection refused` rather than `client error (Connect)`.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// `text` for a query string.
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let encoded = text
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
    encoded.collect()
}

/// A text inside JSON; empty when absent.
pub(super) fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `address:port` of a row.
pub(super) fn socket(row: &Value) -> String {
    let (address, port) = (text(row, "address"), text(row, "port"));
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The rows of a list; none when it is something else.
pub(super) fn rows(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Ends a command: exit code and message.
pub(super) fn finish(result: anyhow::Result<()>) -> std::process::ExitCode {
    let Err(error) = result else {
        return std::process::ExitCode::SUCCESS;
    };
    let usage = error.downcast_ref().is_some_and(ClientError::is_usage);
    let code = if usage { super::EXIT_USAGE } else { super::EXIT_FAILURE };
    super::fail(code, &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_refused_and_never_repeated() {
        let error = page("http://user:canary@127.0.0.1:8080", "/").expect_err("refused");
        assert!(error.is_usage());
        let text = error.to_string();
        assert!(
            text.contains("127.0.0.1:8080") && !text.contains("canary") && !text.contains("user:"),
            "{text}"
        );
    }

    #[test]
    fn only_one_line_is_a_refusal_of_ours() {
        assert!(is_message("no service \"x\"; give NAME.NAMESPACE\n"));
        for other in ["", "\n", "<html></html>", "Not Found\nby another server\n"] {
            assert!(!is_message(other), "{other:?}");
        }
    }
}
