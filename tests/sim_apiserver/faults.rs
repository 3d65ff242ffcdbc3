//! Faults, as clients meet them.

use futures::{StreamExt as _, TryStreamExt as _};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use kube::api::{ListParams, WatchParams};
use tombolo::sim::apiserver::Fault;

use super::raw::{get, request, send};
use super::*;

const SERVICES: &str = "/api/v1/services";
const JSON: &str = "application/json";

fn fault(text: &str) -> Vec<Fault> {
    vec![text.parse().unwrap()]
}

#[tokio::test]
async fn a_status_comes_as_often_and_where_it_was_asked_for() {
    let server = east().await;
    let client = client(&server).await;
    server.add_faults(fault(
        "status=502,on=list/services,times=1,type=text/html,retry-after=7,body=<html>a, b</html>",
    ));
    assert_eq!(get(&client, "/api/v1/pods", JSON).await.status, 200);
    let answer = get(&client, SERVICES, JSON).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::BAD_GATEWAY, &b"<html>a, b</html>"[..]));
    assert_eq!(
        (&answer.headers["content-type"], &answer.headers["retry-after"]),
        (&"text/html".parse().unwrap(), &7.into())
    );
    assert_eq!(get(&client, SERVICES, JSON).await.status, 200);
}

#[tokio::test]
async fn what_stalls_is_silent_before_headers_after_them_and_between_pages() {
    let server = start(ApiServer::builder().cluster("east").world([service("a"), service("b")])).await;
    let client = client(&server).await;
    let stalled = |answer: Result<_, _>| assert!(answer.is_err(), "{answer:?}");
    let wait = Duration::from_millis(300);
    server.add_faults(fault("stall-headers,on=/services"));
    stalled(tokio::time::timeout(wait, get(&client, SERVICES, JSON)).await.map(|a| a.status));
    server.clear_faults();

    server.add_faults(fault("stall-body=9,on=/services"));
    let response =
        soon(client.send(request(Method::GET, SERVICES, &[("accept", JSON)], Vec::new()))).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body().into_data_stream();
    assert_eq!(soon(body.next()).await.unwrap().unwrap().len(), 9);
    assert!(tokio::time::timeout(wait, body.next()).await.is_err());
    server.clear_faults();

    server.add_faults(fault("stall-page"));
    let page = get(&client, "/api/v1/services?limit=1", JSON).await.json();
    let next = page["metadata"]["continue"].as_str().unwrap();
    let next = format!("{SERVICES}?limit=1&continue={next}");
    stalled(tokio::time::timeout(wait, get(&client, &next, JSON)).await.map(|a| a.status));
}

#[tokio::test]
async fn a_410_comes_in_each_of_its_three_places() {
    let server = start(ApiServer::builder().cluster("east").world([service("a"), service("b")])).await;
    let client = client(&server).await;
    server.add_faults(fault("gone=start,on=watch"));
    assert_eq!(get(&client, "/api/v1/services?watch=1&resourceVersion=1", JSON).await.status, 410);
    server.clear_faults();
    server.add_faults(fault("gone=event,on=watch,times=1"));
    let services = in_sample(&client, &kinds::SERVICES);
    let mut events = services.watch(&WatchParams::default(), "1").await.unwrap().boxed();
    assert_eq!(told(&soon(events.try_next()).await.unwrap().unwrap()), "ERROR 410");
    assert!(soon(events.try_next()).await.unwrap().is_none());
    server.add_faults(fault("gone=page"));
    let page = services.list(&ListParams::default().limit(1)).await.unwrap();
    let next = ListParams::default().limit(1).continue_token(page.metadata.continue_.as_deref().unwrap());
    assert_eq!(code(services.list(&next).await), 410);
}

#[tokio::test]
async fn bodies_are_cut_and_lists_are_empty() {
    let server = start(ApiServer::builder().cluster("east").world([service("a")])).await;
    let client = client(&server).await;
    server.add_faults(fault("cut=20,on=list,times=1"));
    let response =
        client.send(request(Method::GET, SERVICES, &[("accept", JSON)], Vec::new())).await.unwrap();
    assert!(soon(response.into_body().collect()).await.is_err());
    server.add_faults(fault("empty-list,on=/services"));
    let services = in_sample(&client, &kinds::SERVICES);
    let list = services.list(&ListParams::default()).await.unwrap();
    assert!(list.items.is_empty() && list.metadata.resource_version.is_some());
    let stream = format!(
        "{SERVICES}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let response = client.send(request(Method::GET, &stream, &[("accept", JSON)], Vec::new())).await.unwrap();
    let first = soon(response.into_body().into_data_stream().next()).await.unwrap().unwrap();
    let first: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!(first["type"], "BOOKMARK", "{first}");
}

#[tokio::test]
async fn events_come_twice_or_change_places() {
    let server = east().await;
    let services = in_sample(&client(&server).await, &kinds::SERVICES);
    server.add_faults(fault("duplicate,on=watch,times=1"));
    let mut twice = services.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    server.store().create(service("a")).unwrap();
    for _ in 0..2 {
        assert_eq!(told(&soon(twice.try_next()).await.unwrap().unwrap()), "ADDED a");
    }
    server.add_faults(fault("reorder,on=watch"));
    let now = server.store().resource_version().to_string();
    let mut swapped = services.watch(&WatchParams::default(), &now).await.unwrap().boxed();
    server.store().create(service("b")).unwrap();
    server.store().create(service("c")).unwrap();
    assert_eq!(told(&soon(swapped.try_next()).await.unwrap().unwrap()), "ADDED c");
    assert_eq!(told(&soon(swapped.try_next()).await.unwrap().unwrap()), "ADDED b");
}

#[tokio::test]
async fn a_refusing_server_listens_again_where_it_was() {
    let server = east().await;
    let reachable = async || tokio::net::TcpStream::connect(server.address()).await.is_ok();
    assert!(reachable().await);
    let services = in_sample(&client(&server).await, &kinds::SERVICES);
    let mut watch = services.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    server.add_faults(fault("refuse"));
    soon(async { while watch.try_next().await.is_ok_and(|event| event.is_some()) {} }).await;
    soon(async {
        while reachable().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.clear_faults();
    soon(async {
        while !reachable().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    services.list(&ListParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_store_is_compacted_and_watches_break_when_a_fault_says_so() {
    let server = start(ApiServer::builder().cluster("east").world([service("a"), service("b")])).await;
    let client = client(&server).await;
    let services = in_sample(&client, &kinds::SERVICES);
    let page = services.list(&ListParams::default().limit(1)).await.unwrap();
    let first = page.metadata.resource_version.unwrap();
    server.store().create(service("c")).unwrap();
    let first_event = async || {
        let mut watch = services.watch(&WatchParams::default(), &first).await.unwrap().boxed();
        told(&soon(watch.try_next()).await.unwrap().unwrap())
    };
    assert_eq!(first_event().await, "ADDED c", "what happened since is known");
    let post = async |fault: &str| send(&client, Method::POST, "/tombolo/faults", &[], fault).await.status;
    assert_eq!(post("compact").await, 200);
    soon(async { while first_event().await != "ERROR 410" {} }).await;

    let mut watch = services.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    for _ in 0..3 {
        soon(watch.try_next()).await.unwrap().unwrap();
    }
    assert_eq!(post("disconnect").await, 200);
    let goes_on = soon(watch.try_next()).await.is_ok_and(|event| event.is_some());
    assert!(!goes_on);
    services.list(&ListParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_rotated_when_it_is_asked_for_over_http() {
    let server = east().await;
    let client = client(&server).await;
    let services = in_sample(&client, &kinds::SERVICES);
    let mut watch = services.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let asked = send(&client, Method::POST, "/tombolo/faults", &[], "rotate-certificate").await;
    assert_eq!(asked.status, 200);
    soon(async { while watch.try_next().await.is_ok_and(|event| event.is_some()) {} }).await;
    services.list(&ListParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_rotated_certificate_closes_connections_and_is_trusted() {
    let server = east().await;
    let services = in_sample(&client(&server).await, &kinds::SERVICES);
    let mut watch = services.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    server.add_faults(fault("rotate-certificate"));
    soon(async { while watch.try_next().await.is_ok_and(|event| event.is_some()) {} }).await;
    services.list(&ListParams::default()).await.unwrap();
}

#[tokio::test]
async fn revisions_jump_back_and_forth() {
    let server = start(ApiServer::builder().cluster("east").world([service("a"), service("b")])).await;
    let services = in_sample(&client(&server).await, &kinds::SERVICES);
    let revision = async || -> u64 {
        let list = services.list(&ListParams::default()).await.unwrap();
        list.metadata.resource_version.unwrap().parse().unwrap()
    };
    let before = revision().await;
    let mut watch = services.watch(&WatchParams::default(), &before.to_string()).await.unwrap().boxed();
    server.store().jump(-2);
    assert_eq!(revision().await, before - 2);
    server.store().create(service("c")).unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(200), watch.try_next()).await.is_err(),
        "silent, as a real one"
    );
    server.add_faults(fault("revision=+1000"));
    soon(async { while revision().await < before + 900 {} }).await;
}

#[tokio::test]
async fn faults_are_told_added_and_taken_away_over_http() {
    let server = start(ApiServer::builder().cluster("east").faults(fault("slow=9,on=get"))).await;
    let client = client(&server).await;
    const PATH: &str = "/tombolo/faults";
    let told = async |method, body: &str| -> Value {
        send(&client, method, PATH, &[], body).await.json()["faults"].clone()
    };
    assert_eq!(told(Method::GET, "").await, json!(["slow=9,on=get"]));
    let all = told(Method::POST, "# two more\nexpired-token,on=list\n\ncut=3\n").await;
    assert_eq!(all, json!(["slow=9,on=get", "expired-token,on=list", "cut=3"]));
    let wrong = send(&client, Method::PUT, PATH, &[], "cut=3\nnonsense").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.json()["message"].as_str().unwrap().contains("nonsense"));
    assert_eq!(told(Method::GET, "").await, all, "nothing was changed");
    let services = in_sample(&client, &kinds::SERVICES);
    assert_eq!(told(Method::PUT, "expired-token").await, json!(["expired-token"]));
    assert_eq!(code(services.list(&ListParams::default()).await), 401);
    assert_eq!(told(Method::DELETE, "").await, json!([]));
    services.list(&ListParams::default()).await.unwrap();
}
