use super::*;
use crate::proto::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};

fn session(protocol: Protocol, manner: Manner, names: Option<&[&str]>) -> Session {
    let known = Arc::new(Names::default());
    let wanted = match names {
        None => Wanted::Everything,
        Some(names) => {
            Wanted::Assignments(NameList::new(&known, names.iter().map(|name| known.id(name)).collect()))
        }
    };
    let node = Node { id: "sidecar~10.0.0.1~a.b~c".into(), ..Node::default() };
    Session::new(protocol, manner, &node, wanted, known)
}

fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::bytes::encode(number, &content.to_vec(), &mut out);
    out
}

fn cluster(name: &str) -> Vec<u8> {
    [field(1, name.as_bytes()), vec![0x10, 3]].concat()
}

/// A listener whose one filter asks for `route`.
fn listener(name: &str, route: &str) -> Vec<u8> {
    let url = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let manager = [field(1, url.as_bytes()), field(2, &field(3, &field(2, route.as_bytes())))].concat();
    [field(1, name.as_bytes()), field(3, &field(3, &field(4, &manager)))].concat()
}

fn response(protocol: Protocol, kind: Kind, bodies: &[Vec<u8>]) -> Vec<u8> {
    let any = |body: &Vec<u8>| [field(1, kind.url().as_bytes()), field(2, body)].concat();
    let (type_url, nonce) = (kind.url().to_owned(), "n".to_owned());
    match protocol {
        Protocol::Sotw => DiscoveryResponse {
            resources: bodies.iter().map(|body| any(body).into()).collect(),
            version_info: "v".into(),
            type_url,
            nonce,
        }
        .encode_to_vec(),
        Protocol::Delta => {
            let resource = |body: &Vec<u8>| {
                let name = super::super::fields::text(body, 1).to_owned();
                [field(3, name.as_bytes()), field(1, b"v"), field(2, &any(body))].concat().into()
            };
            DeltaDiscoveryResponse {
                resources: bodies.iter().map(resource).collect(),
                type_url,
                nonce,
                ..DeltaDiscoveryResponse::default()
            }
            .encode_to_vec()
        }
    }
}

/// Requests as `KIND names`, with `ack` where they answer.
fn said(protocol: Protocol, requests: &[Bytes]) -> Vec<String> {
    let short = |url: &str| Kind::ALL.into_iter().find(|kind| kind.url() == url).unwrap().short();
    let one = |bytes: &Bytes| {
        let bytes = bytes.slice(5..);
        let (url, names, nonce) = match protocol {
            Protocol::Sotw => {
                let request = DiscoveryRequest::decode(bytes).unwrap();
                (request.type_url, request.resource_names, request.response_nonce)
            }
            Protocol::Delta => {
                let request = DeltaDiscoveryRequest::decode(bytes).unwrap();
                let dropped = request.resource_names_unsubscribe.iter().map(|name| format!("-{name}"));
                let names = request.resource_names_subscribe.iter().cloned().chain(dropped).collect();
                (request.type_url, names, request.response_nonce)
            }
        };
        let ack = if nonce.is_empty() { "" } else { "ack " };
        format!("{ack}{} {}", short(&url), names.join(" ")).trim_end().to_owned()
    };
    requests.iter().map(one).collect()
}

#[test]
fn both_protocols_ask_in_envoys_order() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        let mut proxy = session(protocol, Manner::Plain, None);
        let first = proxy.open();
        assert_eq!(said(protocol, &first), ["cds"]);
        let mut answer = |kind, bodies: &[Vec<u8>]| {
            let (_, requests) = proxy.receive(&response(protocol, kind, bodies), |_| {}).unwrap();
            (said(protocol, &requests), proxy.is_complete())
        };
        let (said, _) = answer(Kind::Cluster, &[cluster("a"), cluster("b")]);
        assert_eq!(said, ["ack cds", "eds a b"]);
        let acked = if protocol == Protocol::Delta { "ack eds" } else { "ack eds a b" };
        let (said, complete) = answer(Kind::Endpoint, &[field(1, b"a")]);
        assert_eq!((said, complete), (vec![acked.to_owned()], false), "b is still to come");
        let (said, complete) = answer(Kind::Endpoint, &[field(1, b"b")]);
        assert_eq!((said, complete), (vec![acked.to_owned(), "lds".to_owned()], false));
        let (said, complete) = answer(Kind::Listener, &[listener("l", "80")]);
        assert_eq!((said, complete), (vec!["ack lds".to_owned(), "rds 80".to_owned()], false));
        assert!(answer(Kind::Route, &[field(1, b"80")]).1);
    }
}

#[test]
fn names_follow_the_clusters() {
    let mut proxy = session(Protocol::Delta, Manner::Plain, None);
    proxy.open();
    let mut answer = |message: &[u8]| said(Protocol::Delta, &proxy.receive(message, |_| {}).unwrap().1);
    answer(&response(Protocol::Delta, Kind::Cluster, &[cluster("a"), cluster("b")]));
    assert_eq!(
        answer(&response(Protocol::Delta, Kind::Cluster, &[cluster("a")])),
        ["ack cds"],
        "nothing new"
    );
    let mut change =
        DeltaDiscoveryResponse::decode(response(Protocol::Delta, Kind::Cluster, &[cluster("c")]).as_slice())
            .unwrap();
    change.removed_resources = vec!["a".to_owned()];
    assert_eq!(answer(&change.encode_to_vec()), ["ack cds", "eds c -a"]);
}

#[test]
fn a_second_stream_says_who_speaks_and_what_is_there() {
    let mut proxy = session(Protocol::Delta, Manner::Plain, Some(&["a", "b"]));
    let decode = |bytes: &Bytes| DeltaDiscoveryRequest::decode(bytes.slice(5..)).unwrap();
    let first = decode(&proxy.open()[0]);
    assert!(first.node.is_some() && first.initial_resource_versions.is_empty());
    let both = response(Protocol::Delta, Kind::Endpoint, &[field(1, b"a"), field(1, b"b")]);
    let mut seen = 0;
    let (received, requests) = proxy.receive(&both, |_| seen += 1).unwrap();
    assert_eq!((received.resources, seen), (2, 2));
    assert!(decode(&requests[0]).node.is_none());
    assert!(proxy.is_complete());
    let again = decode(&proxy.open()[0]);
    assert!(again.node.is_some());
    assert_eq!(again.resource_names_subscribe, ["a", "b"]);
    assert_eq!(again.initial_resource_versions["a"], "v");
}

#[test]
fn who_rejects_says_so_with_the_nonce() {
    let mut proxy = session(Protocol::Sotw, Manner::Nack, Some(&["a"]));
    proxy.open();
    let (_, requests) =
        proxy.receive(&response(Protocol::Sotw, Kind::Endpoint, &[field(1, b"a")]), |_| {}).unwrap();
    let request = DiscoveryRequest::decode(requests[0].slice(5..)).unwrap();
    assert_eq!((request.response_nonce.as_str(), request.error_detail.unwrap().code), ("n", INVALID));
    assert_eq!(request.resource_names, ["a"]);
}

#[test]
fn types_nobody_asked_for_are_not_answered() {
    let mut proxy = session(Protocol::Delta, Manner::Plain, Some(&["a"]));
    proxy.open();
    let (received, requests) =
        proxy.receive(&response(Protocol::Delta, Kind::Cluster, &[cluster("a")]), |_| {}).unwrap();
    assert_eq!((received.kind, requests.len()), (None, 0));
    assert!(proxy.receive(&[0x0a, 9], |_| {}).is_err());
}
