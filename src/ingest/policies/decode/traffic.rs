//! `trafficPolicy` and its parts.

use std::time::Duration;

use super::spelling::{HEADER_NAME, HEADER_VALUE, LINE, PARAMETER, SERVER_NAME, Spelling};
use super::{At, locality};
use crate::model::Name;
use crate::model::policy::{
    ClientTls, ClientTlsMode, ConnectionPool, HashKey, HashTable, HttpPool, HttpUpgrade, LoadBalancer,
    OutlierDetection, PortPolicy, SimpleLb, TcpKeepalive, TcpPool, TrafficPolicy, TrafficSettings,
};

/// Entries of a ring where nothing is said.
const RING: u64 = 1024;
/// The largest table that Envoy takes.
const MAX_TABLE: u64 = 5_000_011;
/// The largest ring that Envoy takes.
const MAX_RING: u64 = 8 * 1024 * 1024;

/// Reads a `trafficPolicy`.
pub(super) fn traffic_policy(at: &At<'_>) -> Result<TrafficPolicy, String> {
    at.object()?;
    let ports = at.list("portLevelSettings", |one| {
        let number = one.read("port", |port| port.read("number", At::port))?.flatten();
        match number {
            Some(port) => Ok(PortPolicy { port, settings: settings(one)? }),
            None => Err(format!("{one}.port.number: a port number is needed")),
        }
    })?;
    for (index, one) in ports.iter().enumerate() {
        if ports[..index].iter().any(|other| other.port == one.port) {
            at.tell(format_args!("portLevelSettings: port {} comes twice; the first counts", one.port));
        }
    }
    Ok(TrafficPolicy { settings: settings(at)?, ports })
}

fn settings(at: &At<'_>) -> Result<TrafficSettings, String> {
    Ok(TrafficSettings {
        load_balancer: at.read("loadBalancer", load_balancer)?,
        connection_pool: at.read("connectionPool", connection_pool)?,
        outlier_detection: at.read("outlierDetection", outlier_detection)?,
        tls: at.read("tls", client_tls)?,
    })
}

fn load_balancer(at: &At<'_>) -> Result<LoadBalancer, String> {
    at.object()?;
    at.at_most_one(&["simple", "consistentHash"])?;
    let names = [
        ("UNSPECIFIED", None),
        ("LEAST_CONN", Some(SimpleLb::LeastRequest)),
        ("LEAST_REQUEST", Some(SimpleLb::LeastRequest)),
        ("ROUND_ROBIN", Some(SimpleLb::RoundRobin)),
        ("RANDOM", Some(SimpleLb::Random)),
        ("PASSTHROUGH", Some(SimpleLb::Passthrough)),
    ];
    let warmup = at.read("warmup", |warmup| warmup.read("duration", At::some_time))?.flatten();
    Ok(LoadBalancer {
        simple: at.read("simple", |simple| simple.one_of(&names))?.flatten(),
        hash: at.read("consistentHash", hash)?,
        locality: at.read("localityLbSetting", locality::locality_lb)?,
        zone_aware: at.read("zoneAwareLbSetting", locality::zone_aware_lb)?,
        warmup: warmup.or(at.read("warmupDurationSecs", At::some_time)?),
    })
}

fn hash(at: &At<'_>) -> Result<(HashKey, HashTable), String> {
    const KEYS: [&str; 4] = ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];
    at.object()?;
    let text = |name, like| at.read(name, |at| at.spelled(like).map(Name::from));
    let key = match at.at_most_one(&KEYS)? {
        Some("httpCookie") => at.read("httpCookie", cookie)?,
        Some("useSourceIp") => {
            at.read("useSourceIp", At::boolean)?.filter(|uses| *uses).map(|_| HashKey::SourceIp)
        }
        Some("httpHeaderName") => text("httpHeaderName", HEADER_NAME)?.map(HashKey::Header),
        Some(_) => text("httpQueryParameterName", PARAMETER)?.map(HashKey::QueryParameter),
        None => None,
    };
    let Some(key) = key else {
        return Err(format!("{at}: one of {} is needed", KEYS.join(", ")));
    };
    at.at_most_one(&["ringHash", "maglev"])?;
    let ring = |size: &At<'_>| size.number(0, MAX_RING).map(|size| if size == 0 { RING } else { size });
    if let Some(table) = at.read("maglev", |maglev| maglev.read("tableSize", table_size))? {
        return Ok((key, HashTable::Maglev(table)));
    }
    let size = at.read("ringHash", |at| at.read("minimumRingSize", ring))?.flatten();
    let size = size.or(at.read("minimumRingSize", ring)?).unwrap_or(RING);
    Ok((key, HashTable::Ring(size)))
}

/// Envoy takes prime sizes only.
fn table_size(at: &At<'_>) -> Result<u64, String> {
    let size = at.number(2, MAX_TABLE)?;
    let prime = (2..).take_while(|divisor| divisor * divisor <= size).all(|divisor| size % divisor != 0);
    if prime { Ok(size) } else { at.wrong("a prime number") }
}

fn cookie(at: &At<'_>) -> Result<HashKey, String> {
    at.object()?;
    let Some(name) = at.read("name", |at| at.spelled(HEADER_NAME).map(Name::from))? else {
        return Err(format!("{at}.name: the name of the cookie is needed"));
    };
    let path = at.read("path", |at| at.spelled(HEADER_VALUE).map(Name::from))?.unwrap_or_default();
    Ok(HashKey::Cookie { name, path, ttl: at.read("ttl", At::duration)? })
}

/// Reads a `connectionPool`. A limit of 0 is none.
pub(super) fn connection_pool(at: &At<'_>) -> Result<ConnectionPool, String> {
    at.object()?;
    Ok(ConnectionPool {
        tcp: at.read("tcp", tcp_pool)?.unwrap_or_default(),
        http: at.read("http", http_pool)?.unwrap_or_default(),
    })
}

fn tcp_pool(at: &At<'_>) -> Result<TcpPool, String> {
    at.object()?;
    Ok(TcpPool {
        max_connections: limit(at, "maxConnections")?,
        connect_timeout: at.read("connectTimeout", At::some_time)?,
        keepalive: at.read("tcpKeepalive", keepalive)?,
        max_connection_duration: at.read("maxConnectionDuration", At::some_time)?,
        idle_timeout: at.read("idleTimeout", At::duration)?,
    })
}

fn keepalive(at: &At<'_>) -> Result<TcpKeepalive, String> {
    at.object()?;
    let whole = |at: &At<'_>| -> Result<Duration, String> {
        let time = at.some_time()?;
        if time < Duration::from_secs(1) { at.wrong("at least 1s") } else { Ok(time) }
    };
    Ok(TcpKeepalive {
        probes: limit(at, "probes")?,
        time: at.read("time", whole)?,
        interval: at.read("interval", whole)?,
    })
}

fn http_pool(at: &At<'_>) -> Result<HttpPool, String> {
    at.object()?;
    let upgrades = [
        ("DEFAULT", HttpUpgrade::Default),
        ("DO_NOT_UPGRADE", HttpUpgrade::DoNotUpgrade),
        ("UPGRADE", HttpUpgrade::Upgrade),
    ];
    let pool = HttpPool {
        max_pending_requests: limit(at, "http1MaxPendingRequests")?,
        max_requests: limit(at, "http2MaxRequests")?,
        max_requests_per_connection: limit(at, "maxRequestsPerConnection")?,
        max_retries: limit(at, "maxRetries")?,
        idle_timeout: at.read("idleTimeout", At::duration)?,
        max_concurrent_streams: limit(at, "maxConcurrentStreams")?,
        upgrade: at.read("h2UpgradePolicy", |at| at.one_of(&upgrades))?.unwrap_or_default(),
        use_client_protocol: at.read("useClientProtocol", At::boolean)?.unwrap_or_default(),
    };
    if pool.use_client_protocol && pool.upgrade == HttpUpgrade::Upgrade {
        return Err(format!("{at}: useClientProtocol is not allowed together with h2UpgradePolicy UPGRADE"));
    }
    Ok(pool)
}

fn limit(at: &At<'_>, name: &str) -> Result<Option<u32>, String> {
    Ok(at.read(name, At::count)?.filter(|limit| *limit != 0))
}

/// Reads an `outlierDetection`.
pub(super) fn outlier_detection(at: &At<'_>) -> Result<OutlierDetection, String> {
    at.object()?;
    let consecutive_5xx = at.read("consecutive5xxErrors", At::count)?;
    let gateway = at.read("consecutiveGatewayErrors", At::count)?;
    // The old name counted gateway errors, and 0 was not set.
    let old = limit(at, "consecutiveErrors")?.filter(|_| consecutive_5xx.is_none());
    let detection = OutlierDetection {
        consecutive_5xx,
        consecutive_gateway: gateway.or(old),
        consecutive_local_origin: at.read("consecutiveLocalOriginFailures", At::count)?,
        split_external_local_origin: at
            .read("splitExternalLocalOriginErrors", At::boolean)?
            .unwrap_or_default(),
        interval: at.read("interval", At::some_time)?,
        base_ejection_time: at.read("baseEjectionTime", At::some_time)?,
        max_ejection_percent: at.read("maxEjectionPercent", At::percent)?.filter(|percent| *percent != 0),
        min_health_percent: at.read("minHealthPercent", At::percent)?.unwrap_or_default(),
    };
    if detection.consecutive_local_origin.is_some_and(|count| count > 0)
        && !detection.split_external_local_origin
    {
        return Err(format!(
            "{at}.consecutiveLocalOriginFailures: is allowed with splitExternalLocalOriginErrors: true only"
        ));
    }
    Ok(detection)
}

/// Reads a `tls` of a client.
pub(super) fn client_tls(at: &At<'_>) -> Result<ClientTls, String> {
    at.object()?;
    let modes = [
        ("DISABLE", ClientTlsMode::Disable),
        ("SIMPLE", ClientTlsMode::Simple),
        ("MUTUAL", ClientTlsMode::Mutual),
        ("ISTIO_MUTUAL", ClientTlsMode::IstioMutual),
    ];
    let text = |name, like: Spelling| {
        Ok::<_, String>(at.read(name, |at| at.spelled(like).map(Name::from))?.unwrap_or_default())
    };
    let tls = ClientTls {
        mode: at.read("mode", |mode| mode.one_of(&modes))?.unwrap_or_default(),
        sni: text("sni", SERVER_NAME)?,
        subject_alt_names: at.list("subjectAltNames", |name| {
            name.filled()?;
            name.spelled(LINE).map(Name::from)
        })?,
        client_certificate: text("clientCertificate", LINE)?,
        private_key: text("privateKey", LINE)?,
        ca_certificates: text("caCertificates", LINE)?,
        ca_crl: text("caCrl", LINE)?,
        credential_name: text("credentialName", LINE)?,
        insecure_skip_verify: at.read("insecureSkipVerify", At::boolean)?.unwrap_or_default(),
    };
    check_tls(at, &tls)?;
    Ok(tls)
}

fn check_tls(at: &At<'_>, tls: &ClientTls) -> Result<(), String> {
    let pair = [("clientCertificate", &tls.client_certificate), ("privateKey", &tls.private_key)];
    let files = pair.into_iter();
    let files = files.chain([("caCertificates", &tls.ca_certificates), ("caCrl", &tls.ca_crl)]);
    let told = files.filter(|(_, file)| !file.is_empty()).map(|(name, _)| name).next();
    let missing = pair.into_iter().find(|(_, file)| file.is_empty()).map(|(name, _)| name);
    if !tls.ca_crl.is_empty() && tls.insecure_skip_verify {
        return Err(format!("{at}.caCrl: is not looked at with insecureSkipVerify: drop one of them"));
    }
    match (tls.mode, told) {
        (ClientTlsMode::IstioMutual, Some(file)) => {
            Err(format!("{at}.{file}: is not allowed with mode ISTIO_MUTUAL, which has its own"))
        }
        (ClientTlsMode::Simple | ClientTlsMode::Mutual, Some(file)) if !tls.credential_name.is_empty() => {
            Err(format!("{at}.{file}: is not allowed together with credentialName"))
        }
        (ClientTlsMode::Mutual, _) if tls.credential_name.is_empty() => match missing {
            Some(file) => Err(format!("{at}.{file}: is needed with mode MUTUAL and without credentialName")),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}
