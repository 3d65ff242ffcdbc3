//! Watches: order, selections, bookmarks, streaming lists, faults and recovery.

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use kube::api::WatchParams;
use kube::runtime::watcher::{self, Event, watcher};

use super::*;

/// The next `count` events of a watch, told in lines; an ended or broken watch is told as `END` or `BROKEN`.
async fn events(
    stream: &mut (impl Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + Unpin),
    count: usize,
) -> Vec<String> {
    let mut out = Vec::new();
    while out.len() < count {
        out.push(match soon(stream.next()).await {
            Some(Ok(event)) => told(&event),
            Some(Err(_)) => "BROKEN".to_owned(),
            None => "END".to_owned(),
        });
    }
    out
}

fn version(server: &RunningApiServer) -> String {
    server.store().resource_version().to_string()
}

#[tokio::test]
async fn a_watch_starts_with_the_state_or_after_a_version() {
    let server = east().await;
    let store = server.store();
    store.create(service("a")).unwrap();
    let api = in_sample(&client(&server).await, &kinds::SERVICES);
    let mut from_state = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let mut from_now = api.watch(&WatchParams::default(), &version(&server)).await.unwrap().boxed();
    store.create(service("b")).unwrap();
    store.patch(&kinds::SERVICES, "sample", "a", &json!({"spec": {"type": "NodePort"}})).unwrap();
    store.delete(&kinds::SERVICES, "sample", "b").unwrap();
    let later = ["ADDED b", "MODIFIED a", "DELETED b"];
    assert_eq!(events(&mut from_now, 3).await, later);
    assert_eq!(events(&mut from_state, 1).await, ["ADDED a"]);
    assert_eq!(events(&mut from_state, 3).await, later);
}

#[tokio::test]
async fn objects_enter_and_leave_a_watched_selection() {
    let server = east().await;
    let store = server.store();
    let api = in_sample(&client(&server).await, &kinds::SERVICES);
    let selected = WatchParams::default().labels("tier=front");
    let mut watch = api.watch(&selected, &version(&server)).await.unwrap().boxed();
    let tier = |tier: Value| {
        store
            .patch(&kinds::SERVICES, "sample", "a", &json!({"metadata": {"labels": {"tier": tier}}}))
            .unwrap()
    };
    store.create(service("a")).unwrap();
    store.create(service("unseen")).unwrap();
    tier(json!("front"));
    store.patch(&kinds::SERVICES, "sample", "a", &json!({"spec": {"type": "NodePort"}})).unwrap();
    let left = tier(json!("back"));
    tier(json!("front"));
    store.delete(&kinds::SERVICES, "sample", "a").unwrap();
    assert_eq!(events(&mut watch, 2).await, ["ADDED a", "MODIFIED a"]);
    match soon(watch.next()).await {
        Some(Ok(WatchEvent::Deleted(object))) => {
            assert_eq!(object.metadata.labels.unwrap()["tier"], "front");
            assert_eq!(object.metadata.resource_version.unwrap(), left["metadata"]["resourceVersion"]);
        }
        other => panic!("expected the object to leave, got {other:?}"),
    }
    assert_eq!(events(&mut watch, 2).await, ["ADDED a", "DELETED a"]);
}

#[tokio::test]
async fn a_watch_from_before_the_history_is_told_410_and_ends() {
    let server = east().await;
    let old = version(&server);
    server.store().create(service("a")).unwrap();
    server.compact();
    let api = in_sample(&client(&server).await, &kinds::SERVICES);
    let mut watch = api.watch(&WatchParams::default(), &old).await.unwrap().boxed();
    assert_eq!(events(&mut watch, 2).await, ["ERROR 410", "END"]);
}

/// §2.2b: HTTP 200 and one ERROR event that says from where to where history is lost.
#[tokio::test]
async fn the_error_event_says_what_was_too_old() {
    let server = east().await;
    let old = version(&server);
    server.store().create(service("a")).unwrap();
    server.compact();
    let path = format!("/api/v1/services?watch=1&resourceVersion={old}");
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let text = soon(client(&server).await.request_text(request)).await.unwrap();
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(event["type"], "ERROR");
    assert_eq!((&event["object"]["reason"], &event["object"]["code"]), (&json!("Expired"), &json!(410)));
    let message = format!("too old resource version: {old} ({})", version(&server));
    assert_eq!(event["object"]["message"], message);
}

/// §2.2b: no error, no event, no bookmark until the version is passed.
#[tokio::test]
async fn a_watch_from_the_future_is_silent_until_it_is_reached() {
    let server = start(ApiServer::builder().bookmark_interval(Duration::from_millis(5))).await;
    let store = server.store();
    let api = in_sample(&client(&server).await, &kinds::SERVICES);
    let ahead = (store.resource_version() + 2).to_string();
    let mut watch = api.watch(&WatchParams::default(), &ahead).await.unwrap().boxed();
    store.create(service("early")).unwrap();
    store.create(service("reached")).unwrap();
    store.create(service("after")).unwrap();
    // Once it is reached, a bookmark may say so before the first event after it.
    let first = loop {
        match soon(watch.next()).await.unwrap().unwrap() {
            WatchEvent::Bookmark(bookmark) => assert_eq!(bookmark.metadata.resource_version, ahead),
            event => break event,
        }
    };
    assert_eq!(told(&first), "ADDED after");
}

#[tokio::test]
async fn a_watch_that_falls_behind_the_history_is_told_410() {
    let server = start(ApiServer::builder().history(5)).await;
    let api = in_sample(&client(&server).await, &kinds::SERVICES);
    let mut watch = api.watch(&WatchParams::default(), &version(&server)).await.unwrap().boxed();
    for number in 0..6 {
        server.store().create(service(&format!("s{number}"))).unwrap();
    }
    assert_eq!(events(&mut watch, 2).await, ["ERROR 410", "END"]);
}

#[tokio::test]
async fn bookmarks_carry_the_newest_version() {
    let server = start(ApiServer::builder().bookmark_interval(Duration::from_millis(20))).await;
    let api = in_sample(&client(&server).await, &kinds::SERVICES);
    let mut watch = api.watch(&WatchParams::default(), &version(&server)).await.unwrap().boxed();
    // Another kind moves the version on; this watch learns of it by bookmark alone.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "sample", "name": "p"}});
    server.store().create(pod).unwrap();
    let wanted = version(&server);
    let reached = async {
        while let Some(event) = watch.next().await {
            match event.unwrap() {
                WatchEvent::Bookmark(bookmark) if bookmark.metadata.resource_version == wanted => return,
                WatchEvent::Bookmark(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
        panic!("the watch ended");
    };
    soon(reached).await;
}

#[tokio::test]
async fn a_watch_ends_at_its_own_timeout() {
    let server = east().await;
    let api = in_sample(&client(&server).await, &kinds::SERVICES);
    let short = WatchParams { timeout: Some(1), bookmarks: false, ..WatchParams::default() };
    let mut watch = api.watch(&short, &version(&server)).await.unwrap().boxed();
    assert_eq!(events(&mut watch, 1).await, ["END"]);
}

/// What a reflector knows after each event of kube's watcher.
async fn names_until(
    stream: &mut (impl Stream<Item = watcher::Result<Event<DynamicObject>>> + Unpin),
    known: &mut std::collections::BTreeSet<String>,
    wanted: &[&str],
) {
    let reached = async {
        let mut buffer = None;
        while !(buffer.is_none() && known.iter().map(String::as_str).eq(wanted.iter().copied())) {
            // Errors are what the test provokes: the watcher recovers from them when polled again.
            match stream.next().await.expect("a watcher never ends") {
                Err(_) => {}
                Ok(Event::Init) => buffer = Some(std::collections::BTreeSet::new()),
                Ok(Event::InitApply(object)) => {
                    buffer.as_mut().expect("init comes first").insert(name(&object));
                }
                Ok(Event::InitDone) => *known = buffer.take().expect("init comes first"),
                Ok(Event::Apply(object)) => {
                    known.insert(name(&object));
                }
                Ok(Event::Delete(object)) => {
                    known.remove(&name(&object));
                }
            }
        }
    };
    soon(reached).await;
}

#[tokio::test]
async fn kubes_watcher_follows_and_recovers_in_both_modes() {
    for config in [watcher::Config::default().page_size(2), watcher::Config::default().streaming_lists()] {
        let server = east().await;
        let store = server.store();
        for name in ["a", "b", "c"] {
            store.create(service(name)).unwrap();
        }
        let api = in_sample(&client(&server).await, &kinds::SERVICES);
        let mut stream = watcher(api, config).boxed();
        let mut known = Default::default();
        names_until(&mut stream, &mut known, &["a", "b", "c"]).await;
        store.create(service("d")).unwrap();
        names_until(&mut stream, &mut known, &["a", "b", "c", "d"]).await;
        // A cut: the watcher resumes from its version.
        server.disconnect_watches();
        store.delete(&kinds::SERVICES, "sample", "a").unwrap();
        names_until(&mut stream, &mut known, &["b", "c", "d"]).await;
        // A cut over a gap in the history: 410, and the watcher starts anew.
        store.delete(&kinds::SERVICES, "sample", "b").unwrap();
        store.create(service("e")).unwrap();
        server.compact();
        server.disconnect_watches();
        names_until(&mut stream, &mut known, &["c", "d", "e"]).await;
    }
}

#[tokio::test]
async fn shutting_down_ends_watches_in_order() {
    let server = east().await;
    let api = in_sample(&client(&server).await, &kinds::SERVICES);
    let mut watch = api.watch(&WatchParams::default(), &version(&server)).await.unwrap().boxed();
    let ((), told) = tokio::join!(soon(server.shutdown()), events(&mut watch, 1));
    assert_eq!(told, ["END"]);
}

#[tokio::test]
async fn a_thousand_events_arrive_without_a_gap() {
    let server = east().await;
    let store = server.store();
    let api = in_sample(&client(&server).await, &kinds::SERVICES);
    let watch = api.watch(&WatchParams::default(), &version(&server)).await.unwrap();
    for number in 0..1000 {
        store.create(service(&format!("s{number:04}"))).unwrap();
    }
    let names = watch.map_ok(|event| told(&event)).try_filter(|told| std::future::ready(told != "BOOKMARK"));
    let names: Vec<String> = soon(names.take(1000).try_collect()).await.unwrap();
    assert!(names.iter().enumerate().all(|(number, told)| *told == format!("ADDED s{number:04}")));
}

#[tokio::test]
async fn a_watch_is_asked_for_as_loosely_as_of_a_real_server() {
    let server = east().await;
    let client = client(&server).await;
    let asked =
        |query: &str| http::Request::get(format!("/api/v1/namespaces?{query}")).body(Vec::new()).unwrap();
    let lines = client.request_text(asked("watch=True&timeoutSeconds=1")).await.unwrap();
    assert!(lines.starts_with("{\"type\":\"ADDED\""), "{lines}");
    // Longer than a clock counts.
    let endless =
        client.request_stream(asked(&format!("watch=1&timeoutSeconds={}", u64::MAX))).await.unwrap();
    let mut lines = std::pin::pin!(futures::AsyncBufReadExt::lines(endless));
    assert!(soon(lines.next()).await.unwrap().unwrap().starts_with("{\"type\":\"ADDED\""));
}
