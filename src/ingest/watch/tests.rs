use std::sync::Mutex;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Router, extract::RawQuery};
use serde_json::json;

use super::*;
use crate::ingest::client::AddressPolicy;
use crate::ingest::objects::NamespaceObject;

#[test]
fn refusals_are_sorted_by_status() {
    assert!(matches!(refused(401, "x"), Failure::Unauthorized(_)));
    assert!(matches!(refused(403, "x"), Failure::Unauthorized(_)));
    assert_eq!(refused(410, "gone\n"), Failure::Refused("HTTP 410: gone".into()));
}

/// An API server that answers every list and gives each watch the next of `answers`, then silence.
async fn events(answers: Vec<axum::response::Response>) -> BoxStream<'static, SourceEvent<NamespaceObject>> {
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    let answer = move |RawQuery(query): RawQuery| {
        let watch = query.unwrap_or_default().contains("watch=true");
        let next = watch.then(|| answers.lock().unwrap().next());
        async move {
            match next {
                None => axum::Json(json!({"kind": "NamespaceList", "apiVersion": "v1",
                    "metadata": {"resourceVersion": "1"}, "items": []}))
                .into_response(),
                Some(Some(answer)) => answer,
                Some(None) => {
                    let silence = stream::pending::<Result<bytes::Bytes, std::io::Error>>();
                    ([("content-type", "application/json")], axum::body::Body::from_stream(silence))
                        .into_response()
                }
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    let config = kube::Config::new(url.parse().unwrap());
    let server = Arc::new(ApiServer::new(&config, AddressPolicy::Any).unwrap());
    let retry = RetryPolicy { first: Duration::from_millis(1), ..RetryPolicy::default() };
    ObjectSource::events(KubeSource::new(server, retry))
}

/// The events up to the moment a watch stays up.
async fn story(answers: Vec<axum::response::Response>) -> Vec<String> {
    let mut events = events(answers).await;
    let mut story = Vec::new();
    while story.last().is_none_or(|last| last != "connected") {
        let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
        story.push(match event.expect("an event in time").expect("an endless stream") {
            SourceEvent::Init => "init".to_owned(),
            SourceEvent::InitDone => "done".to_owned(),
            SourceEvent::Connected => "connected".to_owned(),
            SourceEvent::Failed(failure) => format!("{failure:?}"),
            other => format!("{other:?}"),
        });
    }
    story
}

#[tokio::test]
async fn a_list_then_a_watch() {
    assert_eq!(story(Vec::new()).await, ["init", "done", "connected"]);
}

#[tokio::test]
async fn k_09_an_expired_revision_told_as_a_status_leads_to_a_new_list() {
    let story = story(vec![StatusCode::GONE.into_response()]).await;
    let expected =
        ["init", "done", "Refused(\"HTTP 410: the revision has expired\")", "init", "done", "connected"];
    assert_eq!(story, expected);
}

#[tokio::test]
async fn k_12_an_error_page_is_one_failure_and_the_next_attempt_follows_soon() {
    let page = "<html>\n<p>\nbad\n</p>\n</html>\n".repeat(10);
    let html = [("content-type", "text/html")];
    let bad_gateway = (StatusCode::BAD_GATEWAY, html, page.clone()).into_response();
    let captive = (StatusCode::OK, html, page).into_response();
    let story = story(vec![bad_gateway, captive]).await;
    let expected = [
        "init",
        "done",
        "Refused(\"HTTP 502: Bad Gateway\")",
        "Refused(\"the answer is not JSON but `text/html`\")",
        "connected",
    ];
    assert_eq!(story, expected);
}

#[tokio::test]
async fn k_15_refused_credentials_on_a_watch_are_told_apart() {
    let story = story(vec![StatusCode::FORBIDDEN.into_response()]).await;
    assert_eq!(story[2], "Unauthorized(\"HTTP 403: Forbidden\")");
}
