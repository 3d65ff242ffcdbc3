use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::model::ExportTo;
use crate::model::policy::*;

fn terms() -> Terms {
    Terms {
        domain: "cluster.local".into(),
        destination_rule_export_to: ExportTo::Everywhere,
        virtual_service_export_to: ExportTo::Everywhere,
    }
}

fn meta() -> PolicyMeta {
    PolicyMeta { created: 7, id: PolicyId::new("shop", "x") }
}

fn rule(spec: Value) -> Result<DestinationRule, String> {
    destination_rule(meta(), &At::root("", &spec), &terms())
}

fn policy(policy: Value) -> Result<TrafficPolicy, String> {
    rule(json!({"host": "a.b", "trafficPolicy": policy})).map(|rule| rule.policy)
}

fn balancer(balancer: Value) -> Result<LoadBalancer, String> {
    let policy = policy(json!({"loadBalancer": balancer}))?;
    Ok(policy.settings.load_balancer.expect("it was given"))
}

/// Each spec is refused with an error that begins with the field and contains what is allowed.
fn refused<T: std::fmt::Debug>(read: impl Fn(Value) -> Result<T, String>, cases: Vec<(Value, &str, &str)>) {
    for (spec, field, allowed) in cases {
        let error = read(spec.clone()).expect_err(&format!("{spec} is wrong"));
        assert!(error.starts_with(field) && error.contains(allowed), "{spec}: {error}");
    }
}

#[test]
fn short_hosts_are_services_of_the_objects_namespace() {
    for (host, expected) in [
        ("reviews", "reviews.shop.svc.cluster.local"),
        ("reviews.other", "reviews.other"),
        ("*.example.com", "*.example.com"),
        ("*", "*"),
    ] {
        assert_eq!(rule(json!({"host": host})).unwrap().host.as_str(), expected);
    }
}

#[test]
fn a_destination_rule_in_full() {
    let spec = json!({
        "host": "reviews", "exportTo": [".", "web"], "unknownField": 1,
        "trafficPolicy": {
            "loadBalancer": {"simple": "LEAST_CONN", "warmupDurationSecs": "30s", "localityLbSetting": {
                "distribute": [{"from": "r1/*", "to": {"r1/*": 70, "r2/z1": 30}}]}},
            "connectionPool": {
                "tcp": {"maxConnections": 5, "connectTimeout": "0.5s", "tcpKeepalive": {"probes": 3, "time": "1m30s"}},
                "http": {"http1MaxPendingRequests": 0, "http2MaxRequests": 9, "h2UpgradePolicy": "UPGRADE"}},
            "outlierDetection": {"consecutiveErrors": 3, "interval": "1s", "minHealthPercent": 20},
            "tls": {"mode": "ISTIO_MUTUAL"},
            "portLevelSettings": [{"port": {"number": 443}, "tls": {"mode": "SIMPLE", "sni": "s"}}]},
        "subsets": [{"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}}],
    });
    let rule = rule(spec).unwrap();
    assert_eq!(rule.export_to, ExportTo::Namespaces(["shop".into(), "web".into()].into()));
    let settings = rule.settings(80, "");
    let balancer = settings.load_balancer.unwrap();
    assert_eq!(
        (balancer.simple, balancer.warmup),
        (Some(SimpleLb::LeastRequest), Some(Duration::from_secs(30)))
    );
    let to: Vec<_> = balancer.locality.unwrap().distribute[0].to.clone();
    assert_eq!(to, [("r2/z1".into(), 30), ("r1/*".into(), 70)], "the most specific first");
    let pool = settings.connection_pool.unwrap();
    assert_eq!(pool.tcp.connect_timeout, Some(Duration::from_millis(500)));
    assert_eq!(pool.tcp.keepalive.unwrap().time, Some(Duration::from_secs(90)));
    assert_eq!((pool.http.max_pending_requests, pool.http.max_requests), (None, Some(9)), "0 is not set");
    let outliers = settings.outlier_detection.unwrap();
    assert_eq!((outliers.consecutive_gateway, outliers.consecutive_5xx), (Some(3), None));
    assert_eq!(outliers.min_health_percent, 20);
    assert_eq!(settings.tls.unwrap().mode, ClientTlsMode::IstioMutual);
    let tls = rule.settings(443, "").tls.unwrap();
    assert_eq!((tls.mode, tls.sni.as_str()), (ClientTlsMode::Simple, "s"));
    let subset = rule.settings(80, "v1").load_balancer.unwrap();
    assert_eq!(subset.simple, Some(SimpleLb::Random));
    assert_eq!(rule.subsets[0].labels.get("version").map(|value| value.as_str()), Some("v1"));
}

#[test]
fn a_destination_rule_with_a_wrong_field_is_refused_by_name() {
    refused(
        rule,
        vec![
            (json!({}), "host", "needed"),
            (json!({"host": ""}), "host", "empty"),
            (json!({"host": "a..b"}), "host", "DNS name"),
            (json!({"host": "a*.b"}), "host", "DNS name"),
            (json!({"host": 5}), "host: 5", "text"),
            (json!({"host": "a", "subsets": {}}), "subsets", "list"),
            (json!({"host": "a", "subsets": [{}]}), "subsets[0].name", "needed"),
            (json!({"host": "a", "subsets": [{"name": "-v"}]}), "subsets[0].name: \"-v\"", "letters"),
            (json!({"host": "a", "subsets": [{"name": "v"}, {"name": "v"}]}), "subsets[1].name", "twice"),
            (
                json!({"host": "a", "subsets": [{"name": "v", "labels": {"a": "*"}}]}),
                "subsets[0].labels.a",
                "wildcards",
            ),
            (json!({"host": "a", "exportTo": ["a/b"]}), "exportTo[0]: \"a/b\"", "namespace"),
            (json!({"host": "a", "exportTo": ["~", "b"]}), "", "`~` is not allowed beside"),
            (
                json!({"host": "a", "exportTo": ["*"], "workloadSelector": {"matchLabels": {"a": "b"}}}),
                "exportTo",
                "workloadSelector",
            ),
            (json!({"host": "a", "trafficPolicy": []}), "trafficPolicy", "object"),
        ],
    );
    refused(
        policy,
        vec![
            (json!({"portLevelSettings": [{}]}), "trafficPolicy.portLevelSettings[0].port.number", "needed"),
            (
                json!({"portLevelSettings": [{"port": {"number": 65536}}]}),
                "trafficPolicy.portLevelSettings[0].port.number: 65536",
                "from 1 to 65535",
            ),
            (
                json!({"connectionPool": {"tcp": {"connectTimeout": "soon"}}}),
                "trafficPolicy.connectionPool.tcp.connectTimeout",
                "10s",
            ),
            (
                json!({"connectionPool": {"tcp": {"connectTimeout": "0s"}}}),
                "trafficPolicy.connectionPool.tcp",
                "1ms",
            ),
            (
                json!({"connectionPool": {"tcp": {"maxConnections": -1}}}),
                "trafficPolicy.connectionPool.tcp.maxConnections: -1",
                "whole",
            ),
            (
                json!({"connectionPool": {"http": {"useClientProtocol": true, "h2UpgradePolicy": "UPGRADE"}}}),
                "trafficPolicy.connectionPool.http",
                "not allowed together",
            ),
            (
                json!({"outlierDetection": {"maxEjectionPercent": 101}}),
                "trafficPolicy.outlierDetection.maxEjectionPercent",
                "100",
            ),
            (
                json!({"outlierDetection": {"consecutiveLocalOriginFailures": 2}}),
                "trafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
                "splitExternalLocalOriginErrors",
            ),
            (
                json!({"tls": {"mode": "TLS"}}),
                "trafficPolicy.tls.mode: \"TLS\"",
                "one of DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL",
            ),
            (json!({"tls": {"mode": "MUTUAL"}}), "trafficPolicy.tls.clientCertificate", "needed"),
            (
                json!({"tls": {"mode": "ISTIO_MUTUAL", "caCertificates": "/x"}}),
                "trafficPolicy.tls.caCertificates",
                "ISTIO_MUTUAL",
            ),
            (
                json!({"tls": {"mode": "SIMPLE", "caCertificates": "/x", "credentialName": "c"}}),
                "trafficPolicy.tls.caCertificates",
                "credentialName",
            ),
        ],
    );
}

#[test]
fn hashes_have_one_key_and_one_table() {
    let hash = |hash: Value| balancer(json!({"consistentHash": hash})).map(|balancer| balancer.hash.unwrap());
    assert_eq!(hash(json!({"useSourceIp": true})), Ok((HashKey::SourceIp, HashTable::Ring(1024))));
    assert_eq!(
        hash(json!({"httpHeaderName": "x-user", "maglev": {"tableSize": 65537}})),
        Ok((HashKey::Header("x-user".into()), HashTable::Maglev(Some(65537))))
    );
    let cookie = HashKey::Cookie { name: "c".into(), path: "".into(), ttl: Some(Duration::ZERO) };
    assert_eq!(
        hash(json!({"httpCookie": {"name": "c", "ttl": "0s"}, "minimumRingSize": "64"})),
        Ok((cookie, HashTable::Ring(64)))
    );
    let at = "trafficPolicy.loadBalancer.consistentHash";
    refused(
        hash,
        vec![
            (json!({}), at, "one of httpHeaderName"),
            (json!({"useSourceIp": false}), at, "is needed"),
            (json!({"useSourceIp": true, "httpHeaderName": "x"}), at, "not allowed together"),
            (json!({"useSourceIp": true, "maglev": {"tableSize": 4}}), at, "prime"),
            (json!({"useSourceIp": true, "maglev": {}, "ringHash": {}}), at, "not allowed together"),
            (json!({"httpCookie": {"ttl": "1s"}}), at, "name of the cookie"),
        ],
    );
    refused(
        balancer,
        vec![
            (
                json!({"simple": "RANDOM", "consistentHash": {"useSourceIp": true}}),
                "trafficPolicy.loadBalancer",
                "together",
            ),
            (json!({"simple": "BEST"}), "trafficPolicy.loadBalancer.simple: \"BEST\"", "ROUND_ROBIN"),
        ],
    );
}

#[test]
fn localities_are_checked_before_they_steer_anything() {
    let locality =
        |setting: Value| balancer(json!({"localityLbSetting": setting})).map(|lb| lb.locality.unwrap());
    let off = locality(json!({"enabled": false})).unwrap();
    assert!(!off.enabled);
    let both =
        locality(json!({"failover": [{"from": "a", "to": "b"}], "failoverPriority": ["x", "y=1"]})).unwrap();
    assert_eq!((both.failover.len(), both.failover_priority.len()), (1, 2));
    let share = |to: Value| json!({"distribute": [{"from": "r1", "to": to}]});
    let at = "trafficPolicy.loadBalancer.localityLbSetting";
    refused(
        locality,
        vec![
            (share(json!({"r1": 70})), at, "sum to 70"),
            (share(json!({"r1": 0, "r2": 100})), at, "from 1 to 100"),
            (share(json!({"r1": 101})), at, "from 1 to 100"),
            (share(json!({"r1/*": 50, "r1/z1": 50})), at, "overlap"),
            (share(json!({"r1": 50, "r1/z1": 50})), at, "overlap"),
            (share(json!({"*/z": 100})), at, "last part"),
            (share(json!({"a/b/c/d": 100})), at, "region[/zone[/subzone]]"),
            (json!({"distribute": [{"to": {"r1": 100}}]}), at, "a locality is needed"),
            (json!({"distribute": [{"from": "r1"}]}), at, "percentages are needed"),
            (
                json!({"distribute": [{"from": "r1", "to": {"r1": 100}}, {"from": "r1/z", "to": {"r1": 100}}]}),
                at,
                "overlap",
            ),
            (
                json!({"distribute": [{"from": "r1", "to": {"r1": 100}}], "failover": [{"from": "a", "to": "b"}]}),
                at,
                "not allowed together",
            ),
            (
                json!({"distribute": [{"from": "r1", "to": {"r1": 100}}], "failoverPriority": ["a"]}),
                at,
                "not allowed together",
            ),
            (json!({"failover": [{"from": "a", "to": "a"}]}), at, "other than its own"),
            (json!({"failover": [{"from": "a/b", "to": "c"}]}), at, "one region"),
            (json!({"failover": [{"from": "a"}]}), at, "a region is needed"),
            (json!({"failoverPriority": ["a", "a=1"]}), at, "twice"),
            (json!({"failoverPriority": [""]}), at, "empty"),
        ],
    );
    let zones = json!({"zoneAwareLbSetting": {"minClusterSize": 3, "failover": [{"from": "a", "to": "b"}]}});
    let zones = balancer(zones).unwrap().zone_aware.unwrap();
    assert_eq!((zones.enabled, zones.min_cluster_size, zones.failover.len()), (true, Some(3), 1));
}

#[test]
fn what_a_rule_does_not_export_is_as_the_mesh_says() {
    let spec = json!({"host": "a"});
    let of = |default: ExportTo| {
        let terms = Terms { destination_rule_export_to: default, ..terms() };
        destination_rule(meta(), &At::root("", &spec), &terms).unwrap().export_to
    };
    let own = ExportTo::Namespaces(["".into(), "b".into()].into());
    assert_eq!(of(own), ExportTo::Namespaces(["b".into(), "shop".into()].into()));
    assert_eq!(of(ExportTo::Nowhere), ExportTo::Nowhere);
    assert_eq!(rule(json!({"host": "a", "exportTo": ["*", "b"]})).unwrap().export_to, ExportTo::Everywhere);
}

#[test]
fn peer_authentications() {
    let read = |spec: Value| peer_authentication(meta(), &At::root("", &spec), &terms());
    let all = read(json!({})).unwrap();
    assert_eq!((all.mode, all.selector.is_everything()), (None, true));
    let some = read(json!({
        "selector": {"matchLabels": {"app": "a"}}, "mtls": {"mode": "STRICT"},
        "portLevelMtls": {"8080": {"mode": "DISABLE"}, "90": {}},
    }));
    let some = some.unwrap();
    assert_eq!(some.mode, Some(MtlsMode::Strict));
    assert_eq!(some.ports, [(90, None), (8080, Some(MtlsMode::Disable))]);
    let selected = |ports: Value| json!({"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": ports});
    refused(
        read,
        vec![
            (
                json!({"mtls": {"mode": "MAYBE"}}),
                "mtls.mode: \"MAYBE\"",
                "one of UNSET, DISABLE, PERMISSIVE, STRICT",
            ),
            (json!({"mtls": "STRICT"}), "mtls", "object"),
            (selected(json!({"http": {}})), "portLevelMtls.http", "port number"),
            (selected(json!({"0": {}})), "portLevelMtls.0", "port number"),
            (json!({"selector": {"matchLabels": {"a": 1}}}), "selector.matchLabels.a: 1", "text"),
        ],
    );
}

#[test]
fn sidecars() {
    let read = |spec: Value| sidecar(meta(), &At::root("", &spec), &terms());
    let full = read(json!({
        "workloadSelector": {"labels": {"app": "a"}},
        "egress": [
            {"port": {"number": 9080, "protocol": "http", "name": "web"}, "bind": "127.0.0.1", "captureMode": "NONE",
             "hosts": ["./*", "other/a.b"]},
            {"bind": "unix:///run/x", "port": {"protocol": "TCP"}, "hosts": ["*/*"]},
            {"hosts": ["~/*"]},
        ],
        "ingress": [{"port": {"number": 80, "protocol": "HTTP"}, "defaultEndpoint": "127.0.0.1:8080",
                     "connectionPool": {"tcp": {"maxConnections": 3}}}],
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
        "inboundConnectionPool": {"http": {"http2MaxRequests": 4}},
    }));
    let full = full.unwrap();
    assert!(full.egress[0].hosts[0].matches("shop", "a.b") && !full.egress[0].hosts[0].matches("web", "a.b"));
    assert_eq!(
        full.egress[0].port.as_ref().map(|port| port.protocol),
        Some(crate::model::PortProtocol::Http)
    );
    assert_eq!(full.egress[1].port.as_ref().map(|port| port.number), Some(0));
    assert_eq!(full.egress[1].socket.as_deref(), Some("unix:///run/x"));
    assert_eq!(full.egress[2].hosts[0].namespace, EgressNamespace::Nobody);
    assert_eq!(full.ingress[0].default_endpoint.as_str(), "127.0.0.1:8080");
    assert_eq!(full.ingress[0].pool.as_ref().and_then(|pool| pool.tcp.max_connections), Some(3));
    assert_eq!(full.outbound_policy, Some(OutboundPolicy::RegistryOnly));
    assert_eq!(full.inbound_pool.unwrap().http.max_requests, Some(4));
    let egress = |hosts: Value| json!({"egress": [{"hosts": hosts}]});
    let ingress = |listener: Value| json!({"ingress": [listener]});
    refused(
        read,
        vec![
            (egress(json!([])), "egress[0].hosts", "at least one"),
            (egress(json!(["a"])), "egress[0].hosts[0]: \"a\"", "`namespace/host`"),
            (egress(json!(["a.b/*"])), "egress[0].hosts[0]", "namespace before the slash"),
            (egress(json!(["a/b*"])), "egress[0].hosts[0]", "DNS name"),
            (json!({"egress": [{"hosts": ["*/*"]}, {"hosts": ["*/*"]}]}), "egress[0].port", "last listener"),
            (json!({"egress": [{"hosts": ["*/*"], "bind": "x"}]}), "egress[0].bind", "IP address"),
            (json!({"egress": [{"hosts": ["*/*"], "bind": "unix://x"}]}), "egress[0].bind", "unix:///path"),
            (json!({"egress": [{"hosts": ["*/*"], "bind": "unix:///x"}]}), "egress[0].port", "protocol"),
            (
                json!({"egress": [{"hosts": ["*/*"], "bind": "unix:///x", "port": {"number": 80}}]}),
                "egress[0].port",
                "without a number",
            ),
            (
                json!({"egress": [{"hosts": ["*/*"], "port": {"number": 0}}]}),
                "egress[0].port.number: 0",
                "65535",
            ),
            (
                json!({"egress": [{"hosts": ["*/*"], "captureMode": "ALL"}]}),
                "egress[0].captureMode",
                "IPTABLES",
            ),
            (ingress(json!({})), "ingress[0].port", "needed"),
            (
                ingress(json!({"port": {"number": 80, "protocol": "FTP"}})),
                "ingress[0].port.protocol: \"FTP\"",
                "HTTP",
            ),
            (
                ingress(json!({"port": {"number": 80}, "defaultEndpoint": "10.0.0.1:80"})),
                "ingress[0].defaultEndpoint",
                "127.0.0.1:PORT",
            ),
            (
                json!({"ingress": [{"port": {"number": 80}}, {"port": {"number": 80}}]}),
                "ingress[1].port.number",
                "twice",
            ),
            (json!({"outboundTrafficPolicy": {"mode": "NONE"}}), "outboundTrafficPolicy.mode", "ALLOW_ANY"),
        ],
    );
}

#[test]
fn a_mesh_config_as_it_is_installed() {
    let usual = MeshConfig { root_namespace: "mesh-system".into(), ..MeshConfig::default() };
    let text = "
accessLogFile: /dev/stdout
defaultConfig:
  discoveryAddress: istiod.istio-system.svc:15012
trustDomain: td1
trustDomainAliases: [td0]
enableAutoMtls: false
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
localityLbSetting: {enabled: false}
defaultTrafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}
serviceSettings:
- settings: {clusterLocal: true}
  hosts: ['*.kube-system.svc.cluster.local']
serviceScopeConfigs:
- servicesSelector: {matchLabels: {istio.io/global: 'true'}}
  scope: GLOBAL
discoverySelectors:
- matchLabels: {env: prod}
  matchExpressions: [{key: team, operator: NotIn, values: [x]}]
- matchExpressions: [{key: mesh, operator: Exists}]
defaultServiceExportTo: ['.', infra]
connectTimeout: 3s
protocolDetectionTimeout: 100ms
h2UpgradePolicy: UPGRADE
pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}
";
    let (mesh, problems) = mesh_config(text, usual.clone()).unwrap();
    assert!(problems.is_empty(), "what proxies read is nobody's problem: {problems:?}");
    let (_, problems) = mesh_config("trustDomian: a\naccessLogFile: x\n", usual.clone()).unwrap();
    assert_eq!(problems, ["trustDomian: not known here: it has no effect"]);
    assert_eq!(
        (mesh.trust_domain.as_deref(), &*mesh.trust_domain_aliases),
        (Some("td1"), &["td0".into()][..])
    );
    assert_eq!(mesh.root_namespace.as_str(), "mesh-system");
    assert!(!mesh.auto_mtls && mesh.h2_upgrade && !mesh.locality_lb.unwrap().enabled);
    assert_eq!(mesh.outlier_detection.unwrap().consecutive_5xx, Some(5));
    assert_eq!(mesh.outbound_policy, OutboundPolicy::RegistryOnly);
    assert!(mesh.service_settings[0].cluster_local && mesh.service_scopes[0].global);
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let selected = |pairs| mesh.discovery_selectors.iter().any(|one| one.selects(&labels(pairs)));
    assert!(selected(&[("env", "prod")]) && selected(&[("mesh", "")]));
    assert!(!selected(&[("env", "prod"), ("team", "x")]) && !selected(&[]));
    assert_eq!(mesh.default_service_export_to, ExportTo::Namespaces(["".into(), "infra".into()].into()));
    assert_eq!(mesh.default_destination_rule_export_to, ExportTo::Everywhere);
    assert_eq!(
        (mesh.connect_timeout, mesh.protocol_detection_timeout.as_millis()),
        (Duration::from_secs(3), 100)
    );
    assert_eq!(mesh.path_normalization, PathNormalization::DecodeAndMergeSlashes);
    for nothing in ["", "# none\n", "{}", "null", "pathNormalization: {normalization: DEFAULT}"] {
        assert_eq!(mesh_config(nothing, usual.clone()), Ok((usual.clone(), Vec::new())), "{nothing:?}");
    }
    let wrong = |text: &str| mesh_config(text, usual.clone()).unwrap_err();
    for (text, field) in [
        ("- a", "not a MeshConfig"),
        ("a: [", "not YAML"),
        ("enableAutoMtls: maybe", "enableAutoMtls: \"maybe\""),
        ("connectTimeout: soon", "connectTimeout: \"soon\""),
        ("h2UpgradePolicy: DEFAULT", "h2UpgradePolicy: \"DEFAULT\""),
        ("pathNormalization: {normalization: MERGE}", "pathNormalization.normalization: \"MERGE\""),
        (
            "discoverySelectors: [{matchExpressions: [{key: a, operator: In}]}]",
            "discoverySelectors[0].matchExpressions[0].operator",
        ),
        (
            "discoverySelectors: [{matchExpressions: [{key: a, operator: Gt, values: ['1']}]}]",
            "discoverySelectors[0].matchExpressions[0].operator: \"Gt\"",
        ),
        ("serviceSettings: [{hosts: ['a..b']}]", "serviceSettings[0].hosts[0]"),
        ("serviceScopeConfigs: [{scope: ALL}]", "serviceScopeConfigs[0].scope"),
        ("localityLbSetting: {failover: [{from: a, to: a}]}", "localityLbSetting.failover[0]"),
    ] {
        assert!(wrong(text).starts_with(field), "{text}: {}", wrong(text));
    }
}

#[test]
fn names_that_cost_a_port_its_routes_are_refused() {
    let long = "x".repeat(1025);
    refused(
        balancer,
        vec![
            (
                json!({"consistentHash": {"httpHeaderName": "a b"}}),
                "trafficPolicy.loadBalancer.consistentHash.httpHeaderName",
                "name of a header",
            ),
            (
                json!({"consistentHash": {"httpHeaderName": ""}}),
                "trafficPolicy.loadBalancer.consistentHash.httpHeaderName",
                "name of a header",
            ),
            (
                json!({"consistentHash": {"httpQueryParameterName": long}}),
                "trafficPolicy.loadBalancer.consistentHash.httpQueryParameterName",
                "1024",
            ),
            (
                json!({"consistentHash": {"httpCookie": {"name": "a\n"}}}),
                "trafficPolicy.loadBalancer.consistentHash.httpCookie.name",
                "name of a header",
            ),
            (
                json!({"consistentHash": {"httpCookie": {"name": "a", "path": "/\r"}}}),
                "trafficPolicy.loadBalancer.consistentHash.httpCookie.path",
                "line breaks",
            ),
            (json!({"warmupDurationSecs": "293000h"}), "trafficPolicy.loadBalancer", "83333h"),
        ],
    );
    refused(
        policy,
        vec![
            (json!({"tls": {"mode": "SIMPLE", "sni": "x".repeat(256)}}), "trafficPolicy.tls.sni", "255"),
            (
                json!({"tls": {"mode": "SIMPLE", "caCertificates": "/\0"}}),
                "trafficPolicy.tls.ca",
                "line breaks",
            ),
        ],
    );
}

#[test]
fn revocations_are_read_or_refused() {
    let tls = |tls: Value| policy(json!({"tls": tls})).map(|policy| policy.settings.tls.unwrap());
    let read = tls(json!({"mode": "SIMPLE", "caCertificates": "/r", "caCrl": "/crl"})).unwrap();
    assert_eq!(read.ca_crl.as_str(), "/crl");
    refused(
        tls,
        vec![
            (json!({"mode": "ISTIO_MUTUAL", "caCrl": "/crl"}), "trafficPolicy.tls.caCrl", "ISTIO_MUTUAL"),
            (
                json!({"mode": "SIMPLE", "credentialName": "c", "caCrl": "/crl"}),
                "trafficPolicy.tls.caCrl",
                "credentialName",
            ),
            (
                json!({"mode": "SIMPLE", "insecureSkipVerify": true, "caCrl": "/crl"}),
                "trafficPolicy.tls.caCrl",
                "insecureSkipVerify",
            ),
        ],
    );
}

#[test]
fn a_sidecar_whose_port_would_end_tls_is_refused() {
    let ingress = json!({"ingress": [{"port": {"number": 80}, "tls": {"mode": "SIMPLE"}}]});
    let error = sidecar(meta(), &At::root("", &ingress), &terms()).unwrap_err();
    assert!(error.starts_with("ingress[0].tls:") && error.contains("Gateway"), "{error}");
}

#[test]
fn what_has_no_effect_is_told_and_the_rest_is_used() {
    let spec = json!({
        "host": "a.b",
        "trafficPolicy": {
            "tunnel": {"protocol": "CONNECT"}, "proxyProtocol": {}, "retryBudget": {},
            "loadBalancer": {"warmup": {"duration": "1s", "aggression": 1}},
            "portLevelSettings": [{"port": {"number": 80}}, {"port": {"number": 80}}]},
        "subsets": [{"name": "all"}, {"name": "none", "labels": {"version": "a b"}}],
    });
    let notes = Notes::default();
    let at = At::noted("", &spec, &notes);
    assert_eq!(destination_rule(meta(), &at, &terms()).unwrap().subsets.len(), 2);
    let problems = notes.problems(&at);
    let told: Vec<_> = problems.iter().map(|one| one.split(": ").next().unwrap()).collect();
    let expected = [
        "subsets[0]",
        "subsets[1].labels.version",
        "trafficPolicy",
        "trafficPolicy.loadBalancer.warmup.aggression",
        "trafficPolicy.proxyProtocol",
        "trafficPolicy.retryBudget",
        "trafficPolicy.tunnel",
    ];
    assert_eq!(told, expected, "{problems:?}");
    let (_, problems) = mesh_config("localityLbSetting: {odd: 1}\nodd: 1", MeshConfig::default()).unwrap();
    let told: Vec<_> = problems.iter().map(|one| one.split(": ").next().unwrap()).collect();
    assert_eq!(told, ["localityLbSetting.odd", "odd"], "{problems:?}");
}
