//! What is asked of an API server, and when again.

use std::collections::VecDeque;
use std::sync::Mutex;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::*;
use crate::ingest::client::{Presented, TransportError};

/// Answers with these codes, then with 201; remembers what was asked and when.
#[derive(Default)]
struct Script {
    codes: Mutex<VecDeque<u16>>,
    asked: Mutex<Vec<(Instant, String)>>,
}

impl Script {
    fn answering(codes: &[u16]) -> Arc<Self> {
        Arc::new(Self { codes: Mutex::new(codes.iter().copied().collect()), ..Self::default() })
    }

    fn reply(&self, asked: String) -> BoxFuture<'static, Result<Answer, TransportError>> {
        self.asked.lock().unwrap().push((Instant::now(), asked));
        let code = self.codes.lock().unwrap().pop_front().unwrap_or(201);
        let body = Bytes::from_static(br#"{"metadata": {"uid": "u-1"}}"#);
        let status = StatusCode::from_u16(code).unwrap();
        let body = futures::stream::iter([Ok(body)]).boxed();
        Box::pin(std::future::ready(Ok(Answer {
            status,
            headers: http::HeaderMap::new(),
            body,
            presented: Presented::default(),
        })))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().drain(..).map(|(_, asked)| asked).collect()
    }
}

impl Exchange for Script {
    fn get(&self, path: String, _: &'static str) -> BoxFuture<'static, Result<Answer, TransportError>> {
        self.reply(format!("GET {path}"))
    }

    fn post(&self, path: String, body: Bytes) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let owner = &body["metadata"]["ownerReferences"][0];
        self.reply(format!("POST {path} {} of {} {}", body["metadata"]["name"], owner["name"], owner["uid"]))
    }
}

const GET: &str = "GET /api/v1/namespaces/ns/services/a";
const POST: &str =
    r#"POST /apis/multicluster.x-k8s.io/v1alpha1/namespaces/ns/serviceexports "a" of "a" "u-1""#;

fn exports(script: &Arc<Script>) -> Exports {
    let exchange: Arc<dyn Exchange> = Arc::clone(script) as _;
    Exports::start(exchange, ("multicluster.x-k8s.io".into(), "v1alpha1".into()))
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn r4_40_an_export_is_owned_by_its_service_and_asked_for_once() {
    for codes in [[200, 201], [200, 409]] {
        let script = Script::answering(&codes);
        let exports = exports(&script);
        exports.want(vec![ObjectKey::new("ns", "a"), ObjectKey::new("ns", "a")]);
        pass(3600).await;
        assert_eq!(script.asked(), [GET, POST], "{codes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn r4_40_what_may_pass_is_tried_again_and_a_refusal_is_not() {
    for (codes, asked) in [
        (vec![503, 200, 500, 200, 201], vec![GET, GET, POST, GET, POST]),
        (vec![401, 429], vec![GET, GET, GET, POST]),
        (vec![404], vec![GET]),
        (vec![403], vec![GET]),
        (vec![200, 403], vec![GET, POST]),
        (vec![200, 404], vec![GET, POST]),
    ] {
        let script = Script::answering(&codes);
        let exports = exports(&script);
        exports.want(vec![ObjectKey::new("ns", "a")]);
        pass(3600).await;
        assert_eq!(script.asked(), asked, "{codes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn r4_40_exports_are_paced_and_end_with_their_cluster() {
    let script = Script::answering(&[]);
    let exports = exports(&script);
    let many = |from: usize| (from..from + 50).map(|n| ObjectKey::new("ns", format!("s{n}"))).collect();
    exports.want(many(0));
    exports.want(many(50));
    pass(1).await;
    assert!((8..=12).contains(&(script.asked().len() / 2)));
    pass(10).await;
    assert_eq!(script.asked().len() / 2, 100 - 10);
    exports.want(many(100));
    drop(exports);
    pass(10).await;
    assert_eq!(script.asked().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_would_lead_elsewhere_is_not_asked_for() {
    let script = Script::answering(&[]);
    let exports = exports(&script);
    exports.want(vec![
        ObjectKey::new("ns", "../../x"),
        ObjectKey::new("..", "a"),
        ObjectKey::new("n?s", "a"),
    ]);
    pass(10).await;
    assert!(script.asked().is_empty());
}
