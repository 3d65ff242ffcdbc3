//! Who gets in, where servers listen, what they say about themselves.

use super::*;

fn get(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).unwrap()
}

#[tokio::test]
async fn only_the_token_opens_the_api() {
    let server = east().await;
    let kubeconfig = server.kubeconfig();
    let wrong = client_from(&kubeconfig.replace(server.token(), "wrong")).await;
    let anonymous: String =
        kubeconfig.lines().filter(|l| !l.contains("token:")).map(|l| format!("{l}\n")).collect();
    let anonymous = client_from(&anonymous.replace("  user:\n", "  user: {}\n")).await;
    for client in [&wrong, &anonymous] {
        let refused = in_sample(client, &kinds::SERVICES).list(&Default::default()).await;
        assert_eq!(code(refused), 401);
        assert_eq!(code(client.request_text(get("/apis/nope")).await), 401);
    }
    assert_eq!(anonymous.request_text(get("/readyz?verbose")).await.unwrap(), "ok");
    assert_eq!(anonymous.apiserver_version().await.unwrap().major, "1");
    assert_eq!(code(wrong.request_text(get("/healthz")).await), 401);
    assert!(in_sample(&client(&server).await, &kinds::SERVICES).list(&Default::default()).await.is_ok());
}

#[tokio::test]
async fn a_client_of_another_authority_does_not_trust_the_server() {
    let (server, other) = (east().await, east().await);
    let mixed = other.kubeconfig().replace(other.url(), server.url());
    let refused = client_from(&mixed).await.apiserver_version().await;
    assert!(matches!(refused, Err(kube::Error::Service(_) | kube::Error::HyperError(_))), "{refused:?}");
}

#[tokio::test]
async fn discovery_leads_to_every_kind() {
    let server = east().await;
    let client = client(&server).await;
    let mut found = Vec::new();
    assert_eq!(client.list_core_api_versions().await.unwrap().versions, ["v1"]);
    found.extend(client.list_core_api_resources("v1").await.unwrap().resources);
    for group in client.list_api_groups().await.unwrap().groups {
        let version = group.preferred_version.unwrap().group_version;
        found.extend(client.list_api_group_resources(&version).await.unwrap().resources);
    }
    for kind in kinds::KINDS.iter() {
        assert!(found.iter().any(|r| r.name == kind.plural && r.kind == kind.kind), "{kind:?}");
        assert!(everywhere(&client, kind).list(&Default::default()).await.is_ok(), "{kind:?}");
    }
}

#[tokio::test]
async fn servers_side_by_side_share_nothing() {
    let (east, west) = (east().await, start(ApiServer::builder().cluster("west")).await);
    east.store().create(service("a")).unwrap();
    let west_client = client(&west).await;
    assert!(
        in_sample(&west_client, &kinds::SERVICES).list(&Default::default()).await.unwrap().items.is_empty()
    );
    assert_eq!(
        in_sample(&client(&east).await, &kinds::SERVICES).get("a").await.map(|o| name(&o)).unwrap(),
        "a"
    );
    assert_ne!(east.token(), west.token());
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&west.kubeconfig()).unwrap();
    assert_eq!(kubeconfig.current_context.as_deref(), Some("west"));
    assert_eq!(kubeconfig.clusters[0].name, "west");
}

#[tokio::test]
async fn a_stopped_server_frees_its_port_and_comes_back_as_it_was() {
    let server = east().await;
    server.store().create(service("a")).unwrap();
    let client = client(&server).await;
    let api = in_sample(&client, &kinds::SERVICES);
    let version = api.get("a").await.unwrap().metadata.resource_version;
    let (address, token) = (server.address(), server.token().to_owned());
    let (store, authority) = (server.store(), server.authority().clone());
    let busy = ApiServer::builder().cluster("second").listen(address).start().await.unwrap_err().to_string();
    assert!(busy.contains(&address.to_string()) && busy.contains("second"), "{busy}");
    soon(server.shutdown()).await;
    assert!(api.get("a").await.is_err());
    let again =
        ApiServer::builder().cluster("east").listen(address).token(token).store(store).authority(authority);
    let again = again.start().await.unwrap();
    assert_eq!(api.get("a").await.unwrap().metadata.resource_version, version);
    assert_eq!(again.address(), address);
}

#[tokio::test]
async fn an_impossible_world_is_refused_by_object() {
    let bad = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "Bad_Name"}});
    let error = ApiServer::builder().world([service("a"), bad]).start().await.unwrap_err().to_string();
    assert!(error.contains("object 2") && error.contains("Bad_Name"), "{error}");
}

#[tokio::test]
async fn secrets_stay_out_of_debug_output() {
    let server = start(ApiServer::builder().token("hush-hush")).await;
    assert!(!format!("{server:?}").contains("hush-hush"));
    assert!(!format!("{:?}", ApiServer::builder().token("hush-hush")).contains("hush-hush"));
}

#[tokio::test]
async fn requests_are_counted_by_verb_and_resource() {
    let server = east().await;
    let client = client(&server).await;
    let api = in_sample(&client, &kinds::SERVICES);
    api.create(&Default::default(), &object(service("a"))).await.unwrap();
    api.list(&Default::default()).await.unwrap();
    api.list(&Default::default()).await.unwrap();
    let counts = server.request_counts();
    assert_eq!(counts[&("create", "services".to_owned())], 1);
    assert_eq!(counts[&("list", "services".to_owned())], 2);
    let last = server.requests().pop().unwrap();
    assert_eq!((last.method.as_str(), last.status), ("GET", 200));
    assert!(last.path.starts_with("/api/v1/namespaces/sample/services"), "{}", last.path);
}
