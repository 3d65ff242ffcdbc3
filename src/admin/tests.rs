use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::model::{
    ClusterRole, ClusterStatus, Endpoint, EndpointShard, Locality, NetworkGateway, Node, NodeMetadata,
    ProxyView, Service, ServiceKey, ServicePort, TlsMode, WorkloadParts,
};
use crate::xds::resource::ResourceType;
use crate::xds::status::TypeStatus;

/// One connected proxy, `sleep` in east.
struct OneProxy;

impl XdsStatus for OneProxy {
    fn streams(&self) -> Vec<StreamStatus> {
        let metadata: NodeMetadata = serde_json::from_value(
            json!({"CLUSTER_ID": "east", "NETWORK": "net-east", "ISTIO_VERSION": "1.29.0"}),
        )
        .expect("metadata");
        let id = "sidecar~10.0.0.9~sleep.sample~sample.svc.cluster.local";
        let node = Node::parse(id, metadata, Locality::default(), std::iter::empty()).expect("a node");
        let view = ProxyView::new(&node, None, &"".into(), Default::default());
        let status = TypeStatus {
            sent_nonce: "n2".to_owned(),
            acked_nonce: "n1".to_owned(),
            sent_at: Some(SystemTime::UNIX_EPOCH),
            ..TypeStatus::default()
        };
        vec![StreamStatus {
            connection_id: format!("{id}-1"),
            node: Arc::new(node),
            view: Arc::new(view),
            peer: None,
            connected_at: SystemTime::UNIX_EPOCH,
            unread_since: None,
            protocol: "delta",
            types: BTreeMap::from([(ResourceType::Endpoint, status)]),
        }]
    }

    fn sample(&self) -> XdsSample {
        XdsSample::default()
    }
}

fn feed(registry: &Arc<Registry>, cluster: &str, role: ClusterRole, gateway: &str) {
    let key = ServiceKey::new("sample", "helloworld.sample.svc.cluster.local");
    let service = Service {
        key: key.clone(),
        ports: vec![ServicePort {
            number: 5000,
            name: "http".into(),
            transport: crate::model::Transport::Tcp,
            protocol: crate::model::PortProtocol::Http,
        }],
        ..Service::default()
    };
    let workload = WorkloadParts {
        cluster: cluster.into(),
        network: format!("net-{cluster}").into(),
        name: format!("{cluster}-pod").into(),
        tls_mode: TlsMode::Istio,
        ..WorkloadParts::default()
    };
    let address = "10.0.0.1".parse().expect("an address");
    let endpoint = Endpoint::new(address, 8080, "http", workload);
    let mut writer = registry.writer(cluster.into(), role).expect("the only writer");
    let gateway = NetworkGateway::new(
        format!("net-{cluster}").into(),
        cluster.into(),
        gateway.parse().expect("an address"),
    );
    writer.set_networks(Some(format!("net-{cluster}").into()), vec![gateway]);
    writer.set(key, EndpointShard::new(cluster.into(), Some(Arc::new(service)), vec![endpoint]));
    let source = if role == ClusterRole::Config { "file k" } else { "secret istio-system/west" };
    registry.clusters().put(ClusterStatus::new(cluster.into(), role, source));
}

fn sources() -> Arc<Sources> {
    let registry = Registry::new();
    feed(&registry, "east", ClusterRole::Config, "192.0.2.1");
    feed(&registry, "west", ClusterRole::Remote, "192.0.2.2");
    Arc::new(Sources::just_begun(registry, Arc::new(OneProxy)))
}

async fn get(path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).expect("a path");
    let answer = http_pages(sources()).oneshot(request).await.expect("infallible");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn page(path: &str) -> Value {
    let (status, text) = get(path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {text}");
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test]
async fn policies_are_shown_by_kind_with_the_mesh_wide_document() {
    let (status, text) = get("/debug/policies").await;
    let page: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &page["kinds"]), (StatusCode::OK, &serde_json::json!({})), "nobody reads any here");
    assert_eq!(
        (&page["mesh"]["auto_mtls"], &page["mesh"]["root_namespace"]),
        (&true.into(), &"istio-system".into())
    );
    assert_eq!(get("/debug/policies?kind=Rule").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(get("/debug/policies?kinds=Sidecar").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn clusterz_has_the_local_cluster_first_without_secret() {
    let rows = page("/debug/clusterz").await;
    let peers_fields = |row: &Value| json!([row["id"], row["secretName"], row["syncStatus"], row["health"]]);
    assert_eq!(peers_fields(&rows[0]), json!(["east", "", "syncing", "connecting"]));
    assert_eq!(peers_fields(&rows[1]), json!(["west", "istio-system/west", "syncing", "connecting"]));
    assert!(rows[1]["since"].is_string());
}

#[tokio::test]
async fn endpointz_and_its_alias_have_the_peers_shape() {
    let value = page("/debug/endpointShardz").await;
    assert_eq!(value, page("/debug/endpointz?pretty").await);
    let shards = &value["helloworld.sample.svc.cluster.local"]["sample"]["Shards"];
    let row = &shards["Kubernetes/west"][0];
    assert_eq!(row["Addresses"], json!(["10.0.0.1"]));
    assert_eq!((&row["EndpointPort"], &row["TLSMode"]), (&json!(8080), &json!("istio")));
    assert_eq!(row["Locality"], json!({"Label": "", "ClusterID": "west"}));
}

#[tokio::test]
async fn networkz_lists_gateways() {
    let value = page("/debug/networkz").await;
    assert_eq!(value[1]["Addr"], "192.0.2.2");
    assert_eq!((&value[1]["Port"], &value[1]["HBONEPort"]), (&json!(15443), &json!(0)));
}

#[tokio::test]
async fn syncz_names_nonces_and_proxies_says_stale() {
    let row = &page("/debug/syncz").await[0];
    assert_eq!((&row["proxy"], &row["cluster_id"]), (&json!("sleep.sample"), &json!("east")));
    assert_eq!((&row["endpoint_sent"], &row["endpoint_acked"]), (&json!("n2"), &json!("n1")));
    assert!(row["resources"][ResourceType::Endpoint.url()]["sentTime"].is_string());
    let row = &page("/debug/proxies").await[0];
    assert_eq!(row["types"]["eds"]["status"], "STALE");
    assert_eq!(page("/debug/syncz?namespace=other").await, json!([]));
}

#[tokio::test]
async fn a_view_shows_what_is_sent_what_is_behind_gateways_and_what_is_hidden() {
    for path in [
        "/debug/view?host=helloworld.sample&port=5000&proxy=sleep",
        "/debug/view?host=helloworld.sample.svc.cluster.local&network=net-east&cluster=east",
        "/debug/view?host=helloworld&cluster=east&namespace=sample",
    ] {
        let value = page(path).await;
        let port = &value["ports"][0];
        assert_eq!(port["endpoints"][0]["address"], "10.0.0.1", "{path}");
        assert_eq!(port["endpoints"][1]["address"], "192.0.2.2", "{path}");
        assert_eq!(port["endpoints"][1]["via"], "gateway", "{path}");
        assert_eq!(port["behindGateways"][0]["pod"], "west-pod", "{path}");
        assert_eq!(port["hidden"], json!([]), "{path}");
    }
    // A proxy with IPv6 only reaches no gateway here.
    let value = page("/debug/view?host=helloworld.sample&cluster=east&ip=fd00::1").await;
    assert_eq!(value["ports"][0]["hidden"][0]["reason"], "hidden/gateway-family");
}

#[tokio::test]
async fn an_explanation_has_every_endpoint_with_its_checks() {
    let value = page("/debug/explain?host=helloworld.sample&port=5000&proxy=sleep").await;
    assert_eq!(value["as"]["cluster"], "east");
    let port = &value["ports"][0];
    assert_eq!(
        (&port["nothing"], &port["name"]),
        (&json!(null), &json!("outbound|5000||helloworld.sample.svc.cluster.local"))
    );
    assert_eq!(
        (&port["endpoints"][0]["decision"], &port["endpoints"][0]["priority"]),
        (&json!("direct"), &json!(0))
    );
    assert_eq!(port["endpoints"][1]["decision"], "via-gateway");
    assert_eq!(port["gateways"][0]["arithmetic"], "1 endpoint of west weighs 1 = 1");
    let value = page("/debug/explain?host=helloworld.sample&cluster=east&ip=fd00::1").await;
    let hidden = &value["ports"][0]["endpoints"][1];
    let chain = hidden["chain"].as_array().expect("checks");
    let (first, last) = (&chain[0], chain.last().expect("a check"));
    let heard = "told by west (secret istio-system/west), connecting for ";
    assert!(
        first["check"] == "heard" && first["detail"].as_str().is_some_and(|text| text.starts_with(heard))
    );
    let cluster = &value["clusters"][1];
    assert_eq!(
        (&cluster["id"], &cluster["endpoints"], &cluster["health"]),
        (&json!("west"), &json!(1), &json!("connecting"))
    );
    assert!(cluster["sinceSeconds"].is_number() && cluster["staleSeconds"].is_null());
    assert_eq!((&last["check"], &last["ok"]), (&json!("gateway-family"), &json!(false)));
    assert_eq!(hidden["would"]["then"], "via-gateway");
    let address = hidden["address"].as_str().expect("an address");
    let one = page(&format!("/debug/explain?host=helloworld.sample&cluster=east&endpoint={address}")).await;
    // Both networks have this address.
    let all = one["ports"][0]["endpoints"].as_array().expect("endpoints");
    assert!(all.len() == 2 && all.iter().all(|one| one["address"] == address));
    let none = page("/debug/explain?host=helloworld.sample&cluster=east&subset=v9").await;
    assert_eq!(none["ports"][0]["nothing"], "hidden/no-subset");
}

/// R4.28: who is asked for by SNI speaks mesh mTLS. West's pod does, and is behind its own gateway only.
#[tokio::test]
async fn sni_dnat_names_are_viewed_and_explained() {
    let full = "outbound_.5000_._.helloworld.sample.svc.cluster.local";
    for path in [
        format!("/debug/view?host={full}&cluster=east&type=router"),
        "/debug/view?host=helloworld.sample&port=5000&sni-dnat&cluster=east&type=router".to_owned(),
    ] {
        let port = &page(&path).await["ports"][0];
        assert_eq!((&port["name"], &port["port"]), (&json!(full), &json!(5000)), "{path}");
        assert_eq!(port["endpoints"][0]["via"], "direct", "{path}");
    }
    let value = page(&format!("/debug/explain?host={full}&cluster=east")).await;
    let checks = value["ports"][0]["endpoints"][0]["chain"].as_array().expect("checks");
    assert!(checks.iter().any(|check| check["check"] == "mtls"), "looked at even where nothing is between");
    let subset = "outbound%7C5000%7Cv9%7Chelloworld.sample.svc.cluster.local";
    let value = page(&format!("/debug/explain?host={subset}&cluster=east")).await;
    assert_eq!(value["ports"][0]["nothing"], "hidden/no-subset");
}

#[tokio::test]
async fn wrong_queries_say_what_is_needed() {
    for (path, status, words) in [
        ("/debug/view", 400, "host=HOST"),
        ("/debug/view?host=x", 400, "proxy=ID"),
        ("/debug/view?host=x&proxy=nobody", 404, "1 are connected"),
        ("/debug/view?host=x&cluster=north", 400, "there are east, west"),
        ("/debug/view?host=x&cluster=east", 404, "no service"),
        ("/debug/view?host=helloworld.sample&cluster=east&port=80", 404, "it has 5000"),
        ("/debug/view?host=helloworld.sample&cluster=east&port=x", 400, "not a number"),
        ("/debug/view?host=x&cluster=east&ip=y", 400, "ip \"y\" is no address"),
        ("/debug/explain", 400, "host=HOST"),
        ("/debug/explain?host=helloworld.sample&cluster=east&endpoint=x", 400, "the endpoint is no address"),
        ("/debug/explain?host=helloworld.sample&cluster=east&endpoint=9.9.9.9", 404, "ask without it"),
        ("/debug/view?host=helloworld.sample&cluster=east&endpoint=10.0.0.1", 400, "unknown parameter"),
        ("/debug/view?host=helloworld.sample&cluster=east&type=ztunnel", 400, "neither sidecar nor router"),
        ("/debug/view?host=helloworld.sample&cluster=east&sni-dnat=maybe", 400, "neither true nor false"),
        ("/debug/view?host=helloworld.sample&host=b&cluster=east", 400, "given twice"),
        ("/debug/view?host=inbound%7C80%7C%7C&cluster=east", 400, "outbound|PORT|SUBSET|HOST"),
        (
            "/debug/view?host=outbound%7C5000%7C%7Chelloworld.sample&cluster=east&port=5000",
            400,
            "already says its port",
        ),
        ("/debug/view?host=helloword.sample&cluster=east", 404, "did you mean helloworld.sample?"),
        ("/debug/view?host=x&proxy=slep.sample", 404, "did you mean sleep.sample?"),
        ("/nowhere", 404, "/debug lists"),
    ] {
        let (got, text) = get(path).await;
        assert_eq!((got.as_u16(), text.contains(words)), (status, true), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_starting_server_is_not_ready_and_says_which_cluster_is_missing() {
    let (status, text) = get("/ready?verbose").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("not west: not synced yet; connecting; from secret istio-system/west"), "{text}");
}

#[tokio::test]
async fn services_tell_endpoints_by_cluster_and_gateways_their_cluster() {
    let value = page("/debug/services").await;
    let row = &value["services"][0];
    assert_eq!((&row["name"], &row["namespace"]), (&json!("helloworld"), &json!("sample")));
    assert_eq!(row["clusters"]["west"]["endpoints"], 1);
    assert_eq!((&row["ports"][0]["number"], &row["conflicts"]), (&json!(5000), &json!([])));
    for (query, rows) in [("cluster=west", 1), ("namespace=other", 0), ("conflicts", 0)] {
        let value = page(&format!("/debug/services?{query}")).await;
        assert_eq!(value["services"].as_array().map(Vec::len), Some(rows), "{query}");
    }
    let value = page("/debug/gateways?network=net-west").await;
    let row = &value["gateways"][0];
    assert_eq!((&row["address"], &row["clusterHealth"]), (&json!("192.0.2.2"), &json!("connecting")));
    assert_eq!(value["gateways"].as_array().map(Vec::len), Some(1));
    for (path, status, words) in [
        ("/debug/services?cluster=north", 404, "there are east, west"),
        ("/debug/services?namespce=x", 400, "known are namespace"),
        ("/debug/gateways?netwrok=x", 400, "known are network"),
        ("/debug/gateways?network=nope", 404, "there are those of"),
    ] {
        let (got, text) = get(path).await;
        assert_eq!((got.as_u16(), text.contains(words)), (status, true), "{path}: {text}");
    }
}

#[tokio::test]
async fn clusters_tell_everything_they_know_and_nothing_they_do_not() {
    let value = page("/debug/clusters").await;
    let row = &value["clusters"][1];
    assert_eq!(
        (&row["id"], &row["health"], &row["start"]),
        (&json!("west"), &json!("connecting"), &json!("optional"))
    );
    assert!(row["sinceSeconds"].as_f64().is_some_and(|age| age < 60.0));
    for unknown in [
        "lastEventSeconds",
        "lastContactSeconds",
        "credentialsExpire",
        "credentialsProblem",
        "memoryBytes",
        "snapshot",
        "staleSeconds",
    ] {
        assert_eq!(row[unknown], Value::Null, "{unknown}");
    }
    assert_eq!(row["credentials"], "ok");
}
