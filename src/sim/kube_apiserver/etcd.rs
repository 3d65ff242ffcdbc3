//! What is asked of etcd directly, past the API server.

use http::Request;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Its socket in the directory it runs in.
pub(super) const SOCKET: &str = "etcd:0";

/// Forgets all history before `revision` in the etcd that runs as process `pid`.
///
/// # Errors
/// What it answered instead of yes.
pub(super) async fn compact(pid: u32, revision: u64) -> Result<(), String> {
    // By way of the process: the directory's own path may be longer than a socket's may be.
    let socket = format!("/proc/{pid}/cwd/{SOCKET}");
    let stream = UnixStream::connect(&socket).await.map_err(|error| format!("{socket}: {error}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("{socket}: {error}"))?;
    let body = serde_json::json!({"revision": revision.to_string(), "physical": true}).to_string();
    let request = Request::post("/v3/kv/compaction")
        .header(HOST, "etcd")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::<bytes::Bytes>::from(body))
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        if status.is_success() {
            return Ok(());
        }
        Err(format!("{status} {}", String::from_utf8_lossy(&body)))
    };
    // Biased to neither: the connection only ends when the exchange has, or for an error that it reports.
    tokio::select! {
        answer = exchange => answer,
        ended = connection => Err(ended.err().map_or_else(|| "it hung up".to_owned(), |error| error.to_string())),
    }
}
