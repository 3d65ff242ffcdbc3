//! Specs of policies: mostly sensible, with a few texts and numbers that nobody expects. The same every time.

use serde_json::{Map, Value, json};

/// How many of a hundred leaves are odd.
const ODD: u64 = 2;

/// Where chance comes from.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    fn text(&mut self, usual: &[&str]) -> String {
        if self.below(100) >= ODD {
            return self.one(usual).to_owned();
        }
        let long = ["x".repeat(2000), "x".repeat(20_000), "(a|b)".repeat(60), "%".repeat(3)];
        let odd = [
            "",
            "\r",
            "a\nb",
            "\0",
            "ä€😀",
            "*",
            "*foo.com",
            "*.",
            "a.*",
            "%X%",
            "%REQ(x)%",
            "100%",
            " ",
            "a b",
            "/p?q#f",
            "\\9",
            "(",
            ".",
            "a..b",
            "-",
            "host:80",
            "::1",
            "%PREFIX()%/x",
            "\u{7f}",
            "\t",
            "a,b",
            "/",
            "a/b",
            "{a}",
            "[",
            "A.B",
            ":path",
            "Host",
            "|",
            "outbound|80||a.b",
            "spiffe://",
            "\\1",
            "^$",
        ];
        let at = self.below((odd.len() + long.len()) as u64) as usize;
        odd.get(at).map_or_else(|| long[at - odd.len()].clone(), |text| (*text).to_owned())
    }

    fn number(&mut self, usual: &[u64]) -> Value {
        if self.below(100) >= ODD {
            return json!(self.one(usual));
        }
        let odd = [
            json!(0),
            json!(-1),
            json!(1.5),
            json!(99.999999),
            json!(100.1),
            json!(65_536),
            json!(u32::MAX),
            json!(4_294_967_296_u64),
            json!(u64::MAX),
            json!(1e300),
            json!("7"),
            json!(i64::MIN),
            json!(1e-300),
        ];
        self.one(&odd)
    }

    fn time(&mut self) -> Value {
        if self.below(100) >= ODD {
            return json!(self.one(&["1s", "250ms", "2h", "1.5s"]));
        }
        let odd =
            ["0s", "1ns", "1us", "3e8s", "83333h", "83334h", "9999999999999h", "-1s", "", "1d", "106752d"];
        json!(self.one(&odd))
    }

    /// An object of some of these fields.
    fn some(&mut self, fields: Vec<(&str, Value)>) -> Value {
        let kept = fields.into_iter().filter(|_| self.below(3) > 0);
        Value::Object(kept.map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn flag(&mut self) -> Value {
        json!(self.below(2) == 0)
    }

    fn times<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }
}

fn host(number: usize) -> String {
    format!("h{number}.sample.svc.cluster.local")
}

fn matched(dice: &mut Dice, usual: &[&str]) -> Value {
    let kind = dice.one(&["exact", "prefix", "regex"]);
    let text = if kind == "regex" { dice.text(&["a+", "/x.*", "^(a|b)$"]) } else { dice.text(usual) };
    json!({kind: text})
}

fn named(dice: &mut Dice, usual: &[&str]) -> Value {
    let pair = |dice: &mut Dice| (dice.text(usual), matched(dice, &["v", "w"]));
    Value::Object(dice.times(2, pair).into_iter().collect())
}

fn request_match(dice: &mut Dice) -> Value {
    let uri = matched(dice, &["/", "/a", "/api/v1/"]);
    let (scheme, method) = (matched(dice, &["http"]), matched(dice, &["GET"]));
    let (authority, port) = (matched(dice, &["a.b"]), dice.number(&[80, 82]));
    let fields = vec![
        ("name", json!(dice.text(&["m"]))),
        ("uri", uri),
        ("scheme", scheme),
        ("method", method),
        ("authority", authority),
        ("headers", named(dice, &["x-a", "Y"])),
        ("withoutHeaders", named(dice, &["x-a", "Y"])),
        ("queryParams", named(dice, &["q", "r s"])),
        ("ignoreUriCase", dice.flag()),
        ("port", port),
    ];
    // Most of these would leave nothing to match.
    let few = fields.into_iter().filter(|_| dice.below(4) == 0);
    Value::Object(few.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn changes(dice: &mut Dice) -> Value {
    let pair = |dice: &mut Dice| {
        (dice.text(&["x-a", "X-B", "host"]), json!(dice.text(&["v", "%START_TIME%", "a%%b", "%REQ(x)%"])))
    };
    let pairs = |dice: &mut Dice| Value::Object(dice.times(3, pair).into_iter().collect::<Map<_, _>>());
    let many = |dice: &mut Dice| {
        let most = dice.one(&[400, 700, 1200]);
        Value::Object((0..most).map(|n| (format!("x-{n}"), json!("v"))).collect())
    };
    let set = if dice.below(40) == 0 { many(dice) } else { pairs(dice) };
    let fields = vec![
        ("set", set),
        ("add", pairs(dice)),
        ("remove", json!(dice.times(2, |dice| dice.text(&["x-c", "Server"])))),
    ];
    dice.some(fields)
}

fn headers(dice: &mut Dice) -> Value {
    let fields = vec![("request", changes(dice)), ("response", changes(dice))];
    dice.some(fields)
}

fn destination(dice: &mut Dice, number: usize) -> Value {
    let own = host(number);
    let fields = vec![
        ("subset", json!(dice.text(&["", "v1", "v2"]))),
        ("port", json!({"number": dice.number(&[80, 443])})),
    ];
    let mut made = dice.some(fields);
    made["host"] = json!(dice.text(&[&own, "other", "a.example"]));
    made
}

fn weighted(dice: &mut Dice, number: usize) -> Value {
    let count = dice.one(&[1, 1, 2, 3]);
    let one = |dice: &mut Dice| json!({"destination": destination(dice, number), "weight": dice.number(&[1, 50, 100]), "headers": headers(dice)});
    (0..count).map(|_| one(dice)).collect()
}

fn share(dice: &mut Dice) -> Value {
    json!({"value": dice.number(&[1, 50, 100])})
}

fn extras(dice: &mut Dice, number: usize) -> Value {
    let rewrite = match dice.below(2) {
        0 => json!({"uri": dice.text(&["/", "/b"]), "authority": dice.text(&["a.b", ""])}),
        _ => {
            json!({"uriRegexRewrite": {"match": dice.text(&["/a(.)", "b+"]), "rewrite": dice.text(&["/\\1", "c"])}})
        }
    };
    let retries = vec![
        ("attempts", dice.number(&[0, 2, 5])),
        ("perTryTimeout", dice.time()),
        ("retryOn", json!(dice.text(&["5xx,503", "connect-failure", "reset, 404"]))),
        ("retryRemoteLocalities", dice.flag()),
        ("backoff", dice.time()),
    ];
    let retries = dice.some(retries);
    let fault = vec![
        ("delay", json!({"fixedDelay": dice.time(), "percentage": share(dice)})),
        ("abort", json!({"httpStatus": dice.number(&[200, 503]), "percentage": share(dice)})),
    ];
    let fault = dice.some(fault);
    let cors = vec![
        ("allowOrigins", json!([matched(dice, &["https://a.b"])])),
        ("allowMethods", json!([dice.text(&["GET", "PUT"])])),
        ("allowHeaders", json!([dice.text(&["x-a"])])),
        ("exposeHeaders", json!([dice.text(&["x-b"])])),
        ("maxAge", dice.time()),
        ("allowCredentials", dice.flag()),
    ];
    let cors = dice.some(cors);
    let fields = vec![
        ("name", json!(dice.text(&["route", ""]))),
        ("rewrite", rewrite),
        ("timeout", dice.time()),
        ("retries", retries),
        ("fault", fault),
        ("corsPolicy", cors),
        ("headers", headers(dice)),
        ("mirrors", json!([{"destination": destination(dice, number), "percentage": share(dice)}])),
    ];
    let few = fields.into_iter().filter(|_| dice.below(3) == 0);
    Value::Object(few.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn http(dice: &mut Dice, number: usize) -> Value {
    let mut route = extras(dice, number);
    let matches = dice.times(2, request_match);
    route["match"] = json!(matches);
    match dice.below(5) {
        0 => {
            let fields = vec![
                ("uri", json!(dice.text(&["/n", "%PREFIX()%/n"]))),
                ("authority", json!(dice.text(&["a.b", ""]))),
                ("scheme", json!(dice.text(&["https"]))),
                ("port", dice.number(&[443])),
                ("redirectCode", dice.number(&[301, 307])),
            ];
            route["redirect"] = dice.some(fields);
        }
        1 => {
            let body = dice.text(&["hello", ""]);
            route["directResponse"] = json!({"status": dice.number(&[200, 404]), "body": {"string": body}});
        }
        _ => route["route"] = weighted(dice, number),
    }
    route
}

/// A VirtualService for the host of that number, and perhaps others.
pub(super) fn virtual_service(dice: &mut Dice, number: usize) -> Value {
    let mut hosts = vec![host(number)];
    if dice.below(3) == 0 {
        let wide = format!("*.w{number}.example");
        hosts.push(dice.text(&[&wide, &format!("n{number}.example"), &format!("A{number}.Example.")]));
    }
    let tls = |dice: &mut Dice| {
        let own = host(number);
        json!({"match": [{"sniHosts": [dice.text(&[&own])]}], "route": weighted(dice, number)})
    };
    let tcp = |dice: &mut Dice| {
        json!({"match": [{"destinationSubnets": [dice.text(&["10.0.0.0/8", "10.1.2.3", "fd00::/8"])]}],
            "route": weighted(dice, number)})
    };
    json!({
        "hosts": hosts,
        "gateways": ["mesh", format!("sample/o{number}")],
        "http": [http(dice, number), http(dice, number)],
        "tls": dice.times(1, tls),
        "tcp": dice.times(1, tcp),
    })
}

fn settings(dice: &mut Dice) -> Value {
    let hash = match dice.below(4) {
        0 => json!({"httpHeaderName": dice.text(&["x-user"])}),
        1 => json!({"httpQueryParameterName": dice.text(&["q"])}),
        2 => {
            json!({"httpCookie": {"name": dice.text(&["c"]), "path": dice.text(&["/"]), "ttl": dice.time()}})
        }
        _ => json!({"useSourceIp": true, "maglev": {"tableSize": dice.number(&[101, 65_537])}}),
    };
    let mut hash = hash;
    if hash.get("maglev").is_none() {
        hash["ringHash"] = json!({"minimumRingSize": dice.number(&[1, 1024, 8_388_608])});
    }
    let balancer = match dice.below(2) {
        0 => json!({"consistentHash": hash}),
        _ => {
            let simple = dice.text(&["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM", "PASSTHROUGH"]);
            json!({"simple": simple, "warmupDurationSecs": dice.time()})
        }
    };
    let tcp = vec![
        ("maxConnections", dice.number(&[1, 100])),
        ("connectTimeout", dice.time()),
        ("tcpKeepalive", json!({"probes": dice.number(&[3]), "time": dice.time(), "interval": dice.time()})),
        ("maxConnectionDuration", dice.time()),
        ("idleTimeout", dice.time()),
    ];
    let tcp = dice.some(tcp);
    let http = vec![
        ("http1MaxPendingRequests", dice.number(&[1, 100])),
        ("http2MaxRequests", dice.number(&[1, 100])),
        ("maxRequestsPerConnection", dice.number(&[1, 100])),
        ("maxRetries", dice.number(&[1, 100])),
        ("idleTimeout", dice.time()),
        ("maxConcurrentStreams", dice.number(&[1, 100, 2_147_483_647])),
        ("h2UpgradePolicy", json!(dice.text(&["UPGRADE", "DEFAULT"]))),
    ];
    let http = dice.some(http);
    let outliers = vec![
        ("consecutive5xxErrors", dice.number(&[1, 5])),
        ("consecutiveGatewayErrors", dice.number(&[1, 5])),
        ("interval", dice.time()),
        ("baseEjectionTime", dice.time()),
        ("maxEjectionPercent", dice.number(&[10, 100])),
        ("minHealthPercent", dice.number(&[10, 100])),
    ];
    let outliers = dice.some(outliers);
    let tls = vec![
        ("sni", json!(dice.text(&["a.example"]))),
        (
            "subjectAltNames",
            json!(dice.times(2, |dice| dice.text(&["a.example", "spiffe://a/b", "10.0.0.1"]))),
        ),
    ];
    let mut tls = dice.some(tls);
    tls["mode"] = json!(dice.text(&["SIMPLE", "ISTIO_MUTUAL", "DISABLE"]));
    let fields = vec![
        ("loadBalancer", balancer),
        ("connectionPool", json!({"tcp": tcp, "http": http})),
        ("outlierDetection", outliers),
        ("tls", tls),
    ];
    let few = fields.into_iter().filter(|_| dice.below(2) == 0);
    Value::Object(few.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A DestinationRule for the host of that number.
pub(super) fn destination_rule(dice: &mut Dice, number: usize) -> Value {
    let subset = |dice: &mut Dice, name: &str| {
        let (key, value) = (dice.text(&["version", "a.b/c"]), dice.text(&["v1", ""]));
        json!({"name": dice.text(&[name]), "labels": {key: value}, "trafficPolicy": settings(dice)})
    };
    let mut policy = settings(dice);
    if dice.below(3) == 0 {
        let mut own = settings(dice);
        own["port"] = json!({"number": dice.number(&[80])});
        policy["portLevelSettings"] = json!([own]);
    }
    json!({"host": host(number), "trafficPolicy": policy, "subsets": [subset(dice, "v1"), subset(dice, "v2")]})
}

/// A Gateway that the VirtualService of that number is bound to.
pub(super) fn gateway(dice: &mut Dice, number: usize) -> Value {
    let own = host(number);
    let server = |dice: &mut Dice| {
        let hosts = dice.times(2, |dice| dice.text(&["*", &own, "./*.example", "sample/a.example"]));
        let secure = dice.below(2) == 0;
        let mut server = json!({
            "port": {"number": dice.number(&[80, 8080, 8443]), "name": dice.text(&["p"]),
                "protocol": if secure { dice.text(&["HTTPS", "TLS"]) } else { dice.text(&["HTTP", "TCP", "GRPC"]) }},
            "hosts": hosts,
        });
        server["tls"] = match secure {
            true => json!({"mode": dice.text(&["ISTIO_MUTUAL", "PASSTHROUGH"]),
                "subjectAltNames": dice.times(1, |dice| dice.text(&["spiffe://a/b", "a.b"]))}),
            false => json!({"httpsRedirect": dice.flag()}),
        };
        server
    };
    json!({"selector": {"app": "gateway"}, "servers": [server(dice), server(dice)], "odd": dice.text(&["x"])})
}

/// An AuthorizationPolicy of any workloads.
pub(super) fn authorization_policy(dice: &mut Dice, _: usize) -> Value {
    let values = |dice: &mut Dice, usual: &[&str]| json!([dice.text(usual)]);
    let source = vec![
        ("principals", values(dice, &["a/ns/b/sa/c", "*"])),
        ("namespaces", values(dice, &["a", "a*"])),
        ("ipBlocks", values(dice, &["10.0.0.0/8", "10.0.0.1"])),
    ];
    let operation = vec![
        ("hosts", values(dice, &["a.b", "*.b"])),
        ("ports", values(dice, &["80"])),
        ("methods", values(dice, &["GET"])),
        ("paths", values(dice, &["/a", "/a*", "/{*}/b"])),
    ];
    let (source, operation) = (dice.some(source), dice.some(operation));
    let header = dice.text(&["x-a", "X-B"]);
    let key = dice.text(&[&format!("request.headers[{header}]"), "source.ip", "connection.sni"]);
    let mut spec = json!({"rules": [{
        "from": [{"source": source}], "to": [{"operation": operation}],
        "when": [{"key": key, "values": [dice.text(&["10.0.0.0/8", "a*"])]}],
    }]});
    spec["action"] = json!(dice.text(&["ALLOW", "DENY", "AUDIT"]));
    if dice.below(6) == 0 {
        spec["selector"] = json!({"labels": {}});
    }
    spec
}

/// A ServiceEntry with a host of that number, and perhaps others.
pub(super) fn service_entry(dice: &mut Dice, number: usize) -> Value {
    let (own, wide) = (format!("e{number}.example"), format!("*.e{number}.local"));
    let usual = [own.as_str(), wide.as_str(), "shared.example"];
    let mut hosts = vec![dice.text(&usual)];
    hosts.extend(dice.times(1, |dice| dice.text(&usual)));
    let port = |dice: &mut Dice, at: u64| {
        let protocol = dice.text(&["HTTP", "HTTPS", "TLS", "TCP", "GRPC", "HTTP2", "UDP", ""]);
        json!({"number": dice.number(&[80 + at, 443, 8443]), "name": dice.text(&[["a", "b", "c"][at as usize]]),
            "protocol": protocol, "targetPort": dice.number(&[8080])})
    };
    let ports: Vec<_> = (0..=dice.below(3)).map(|at| port(dice, at)).collect();
    let resolution = dice.text(&["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN"]);
    let machine = |dice: &mut Dice| {
        let place = match resolution.as_str() {
            "DNS" | "DNS_ROUND_ROBIN" => dice.text(&["a.example", "b.example", "10.1.2.3"]),
            _ => dice.text(&["10.1.2.3", "fd00::7", "unix:///run/x", "unix://@y"]),
        };
        let fields = vec![
            ("labels", json!({"security.istio.io/tlsMode": dice.text(&["istio"])})),
            ("locality", json!(dice.text(&["r/z/s", "r"]))),
            ("weight", dice.number(&[1, 7])),
            ("network", json!(dice.text(&["n2"]))),
            ("serviceAccount", json!(dice.text(&["b"]))),
        ];
        let mut made = dice.some(fields);
        made["address"] = json!(place);
        made
    };
    let endpoints = dice.times(2, machine);
    let vip = format!("10.{}.{}.9", 100 + number / 200, number % 200);
    let fields = vec![
        (
            "addresses",
            json!(dice.times(2, |dice| dice.text(&[&vip, "10.200.0.0/16", "10.200.1.0/24", "fd00::9"]))),
        ),
        ("location", json!(dice.text(&["MESH_INTERNAL", "MESH_EXTERNAL"]))),
        ("endpoints", json!(endpoints)),
        ("subjectAltNames", json!(dice.times(2, |dice| dice.text(&["a.example", "spiffe://a/b"])))),
    ];
    let mut spec = dice.some(fields);
    spec["hosts"] = json!(hosts);
    spec["ports"] = json!(ports);
    spec["resolution"] = json!(resolution);
    spec
}

/// A Sidecar of every workload.
pub(super) fn sidecar(dice: &mut Dice, number: usize) -> Value {
    let own = format!("./{}", host(number));
    let listener = |dice: &mut Dice, at: usize| {
        let mut hosts = dice.times(2, |dice| dice.text(&["*/*", "./*", &own, "*/*.example", "*/*.local"]));
        hosts.push("*/*".to_owned());
        let mut one = json!({"hosts": hosts});
        let protocol = dice.text(&["HTTP", "TCP", "TLS", "HTTPS", "GRPC", ""]);
        match dice.below(3) {
            0 => {
                one["port"] = json!({"number": dice.number(&[80, 443, 9000 + at as u64]), "protocol": protocol,
                    "name": dice.text(&["p"])});
                one["bind"] = json!(dice.text(&["", "127.0.0.1", "10.9.9.9"]));
                one["captureMode"] = json!(dice.text(&["DEFAULT", "IPTABLES", "NONE"]));
            }
            1 => {
                one["port"] = json!({"protocol": protocol});
                one["bind"] = json!(dice.text(&[&format!("unix:///run/{at}"), &format!("unix://@s{at}")]));
            }
            _ => one["port"] = json!({"number": dice.number(&[80, 443, 8443]), "protocol": protocol}),
        }
        one
    };
    let mut egress: Vec<_> = (0..dice.below(4) as usize).map(|at| listener(dice, at)).collect();
    if dice.below(2) == 0 {
        egress.push(json!({"hosts": ["*/*"]}));
    }
    json!({"egress": egress, "outboundTrafficPolicy": {"mode": dice.text(&["ALLOW_ANY", "REGISTRY_ONLY"])}})
}

/// A PeerAuthentication of workloads whose labels are all `b`, with ports of its own.
pub(super) fn peer_authentication(dice: &mut Dice, _: usize) -> Value {
    let mode = |dice: &mut Dice| json!({"mode": dice.text(&["STRICT", "PERMISSIVE", "DISABLE", "UNSET"])});
    let port = |dice: &mut Dice| (dice.text(&["80", "81", "89", "90", "7000", "15006", "15001"]), mode(dice));
    let ports: Map<_, _> = dice.times(12, port).into_iter().collect();
    json!({"selector": {"matchLabels": {"app": dice.text(&["b"])}}, "mtls": mode(dice), "portLevelMtls": ports})
}
