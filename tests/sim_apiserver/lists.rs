//! Lists: pages, versions, selectors, deletion in bulk.

use kube::api::{DeleteParams, ListParams, VersionMatch};

use super::*;

fn params(limit: u32, token: Option<String>) -> ListParams {
    ListParams { limit: Some(limit), continue_token: token, ..ListParams::default() }
}

#[tokio::test]
async fn pages_show_one_moment_while_the_world_moves_on() {
    let server = east().await;
    let store = server.store();
    for name in ["a", "b", "c", "d", "e"] {
        store.create(service(name)).unwrap();
    }
    let api = everywhere(&client(&server).await, &kinds::SERVICES);
    let first = api.list(&params(2, None)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    store.delete(&kinds::SERVICES, "sample", "d").unwrap();
    store.create(service("cc")).unwrap();
    store.patch(&kinds::SERVICES, "sample", "e", &json!({"spec": {"type": "NodePort"}})).unwrap();
    let second = api.list(&params(2, first.metadata.continue_.clone())).await.unwrap();
    let third = api.list(&params(2, second.metadata.continue_.clone())).await.unwrap();
    let names: Vec<String> =
        [&first, &second, &third].iter().flat_map(|page| page.items.iter().map(name)).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert_eq!(third.items[0].data["spec"]["type"], "ClusterIP");
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
    assert_eq!(second.metadata.remaining_item_count, Some(1));
    assert!(third.metadata.continue_.is_none_or(|token| token.is_empty()));
    let now = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(now.items.iter().map(name).collect::<Vec<_>>(), ["a", "b", "c", "cc", "e"]);
}

#[tokio::test]
async fn a_list_continued_after_compaction_is_gone() {
    let server = east().await;
    for name in ["a", "b"] {
        server.store().create(service(name)).unwrap();
    }
    let api = everywhere(&client(&server).await, &kinds::SERVICES);
    let first = api.list(&params(1, None)).await.unwrap();
    server.store().create(service("c")).unwrap();
    server.compact();
    assert_eq!(code(api.list(&params(1, first.metadata.continue_)).await), 410);
    assert_eq!(code(api.list(&params(1, Some("nonsense".into()))).await), 400);
}

#[tokio::test]
async fn versions_are_matched_as_asked() {
    let server = start(ApiServer::builder().future_wait(Duration::from_millis(10))).await;
    let store = server.store();
    let old = store.create(service("a")).unwrap()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    store.create(service("b")).unwrap();
    let api = everywhere(&client(&server).await, &kinds::SERVICES);
    let at = |version: &str, matching| ListParams {
        resource_version: Some(version.to_owned()),
        version_match: Some(matching),
        ..ListParams::default()
    };
    let exact = api.list(&at(&old, VersionMatch::Exact)).await.unwrap();
    assert_eq!((exact.items.len(), exact.metadata.resource_version), (1, Some(old.clone())));
    assert_eq!(api.list(&at(&old, VersionMatch::NotOlderThan)).await.unwrap().items.len(), 2);
    assert_eq!(code(api.list(&at("999999", VersionMatch::NotOlderThan)).await), 504);
    server.compact();
    assert_eq!(code(api.list(&at(&old, VersionMatch::Exact)).await), 410);
}

fn get(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).unwrap()
}

/// §2.2b: refused after a wait, with the cause and the delay clients look for.
#[tokio::test]
async fn a_list_from_the_future_waits_and_is_refused_with_a_delay() {
    let server = start(ApiServer::builder().future_wait(Duration::from_millis(10))).await;
    let client = client(&server).await;
    let far = "/api/v1/services?resourceVersion=999999&resourceVersionMatch=NotOlderThan";
    let refused = client.send(get(far).map(Into::into)).await.unwrap();
    assert_eq!(refused.status(), 504);
    assert_eq!(refused.headers()["retry-after"], "1");
    match client.request::<Value>(get(far)).await {
        Err(kube::Error::Api(status)) => {
            assert_eq!(status.reason, "Timeout");
            assert_eq!(status.details.as_ref().unwrap().causes[0].reason, "ResourceVersionTooLarge");
        }
        other => panic!("expected a Status, got {other:?}"),
    }
}

/// A version that is reached while the list waits is answered.
#[tokio::test]
async fn a_list_of_a_version_that_comes_soon_is_answered() {
    let server = start(ApiServer::builder().future_wait(Duration::from_secs(20))).await;
    let client = client(&server).await;
    let next = server.store().resource_version() + 1;
    let path = format!("/api/v1/services?resourceVersion={next}&resourceVersionMatch=NotOlderThan");
    let list = tokio::spawn(async move { client.request::<Value>(get(&path)).await });
    server.store().create(service("a")).unwrap();
    assert_eq!(soon(list).await.unwrap().unwrap()["items"][0]["metadata"]["name"], "a");
}

#[tokio::test]
async fn options_that_exclude_each_other_are_refused() {
    let server = east().await;
    let client = client(&server).await;
    for (query, want) in [
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersionMatch=Exact&resourceVersion=0", 422),
        ("resourceVersionMatch=Sideways&resourceVersion=1", 422),
        ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", 422),
        ("continue=garbage", 400),
        ("watch=1&resourceVersionMatch=NotOlderThan", 422),
        ("watch=1&sendInitialEvents=true", 422),
        ("resourceVersion=abc", 400),
    ] {
        let refused = client.request::<Value>(get(&format!("/api/v1/services?{query}"))).await;
        assert_eq!(code(refused), want, "{query}");
    }
}

/// What follows is counted in a namespace too, and not when a selector filters.
#[tokio::test]
async fn the_first_page_says_how_many_follow() {
    let server = east().await;
    for name in ["a", "b", "c"] {
        server.store().create(service(name)).unwrap();
    }
    let api = in_sample(&client(&server).await, &kinds::SERVICES);
    let left = async |params: ListParams| api.list(&params).await.unwrap().metadata.remaining_item_count;
    assert_eq!(left(params(1, None)).await, Some(2));
    assert_eq!(left(params(1, None).labels("app")).await, None);
    assert_eq!(left(params(1, None).fields("spec.type=ClusterIP")).await, None);
    assert_eq!(left(params(5, None)).await, None);
}

#[tokio::test]
async fn events_are_selected_by_the_object_they_are_about() {
    let server = east().await;
    for (name, about, event_type) in [("a", "web", "Normal"), ("b", "web", "Warning"), ("c", "db", "Normal")]
    {
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"namespace": "sample", "name": name},
            "involvedObject": {"kind": "Pod", "namespace": "sample", "name": about, "uid": format!("uid-{about}")},
            "reason": "Started", "type": event_type, "message": "told"});
        server.store().create(event).unwrap();
    }
    let api = in_sample(&client(&server).await, &kinds::EVENTS);
    let names = async |fields: &str| {
        let list = api.list(&ListParams::default().fields(fields)).await.unwrap();
        list.items.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names("involvedObject.name=web,involvedObject.namespace=sample").await, "a b");
    assert_eq!(names("involvedObject.uid=uid-db,involvedObject.kind=Pod").await, "c");
    assert_eq!(names("reason=Started,type!=Normal").await, "b");
}

#[tokio::test]
async fn selectors_choose_and_unknown_fields_are_refused() {
    let server = east().await;
    for name in ["a", "b", "c"] {
        server.store().create(service(name)).unwrap();
    }
    let api = everywhere(&client(&server).await, &kinds::SERVICES);
    let names = async |params: ListParams| {
        api.list(&params).await.map(|list| list.items.iter().map(name).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(names(ListParams::default().labels("app in (a,c)")).await.unwrap(), "a c");
    assert_eq!(names(ListParams::default().fields("metadata.name!=b")).await.unwrap(), "a c");
    assert_eq!(names(ListParams::default().fields("metadata.namespace=other")).await.unwrap(), "");
    assert_eq!(names(ListParams::default().labels("app!=a").limit(1)).await.unwrap(), "b");
    assert_eq!(code(names(ListParams::default().fields("spec.color=red")).await), 400);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let server = east().await;
    for name in ["a", "b", "c"] {
        server.store().create(service(name)).unwrap();
    }
    let api = in_sample(&client(&server).await, &kinds::SERVICES);
    let some = ListParams::default().labels("app in (a,b)");
    api.delete_collection(&DeleteParams::default(), &some).await.unwrap();
    assert_eq!(server.store().list(&kinds::SERVICES, None).len(), 1);
}

#[tokio::test]
async fn a_generated_world_is_listed_whole() {
    let size = "services=20,endpoints=2500,seed=1".parse().unwrap();
    let builder = ApiServer::builder().world(tombolo::sim::world::generate(size));
    let server = builder.start().await.unwrap();
    let api = everywhere(&client(&server).await, &kinds::PODS);
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 2500);
    let (mut seen, mut token) = (0, None);
    for _page in 0..10 {
        let page = api.list(&params(400, token)).await.unwrap();
        seen += page.items.len();
        token = page.metadata.continue_.filter(|token| !token.is_empty());
        if token.is_none() {
            break;
        }
    }
    assert_eq!((seen, token), (2500, None));
}
