//! Questions on the wire, answered by an authoritative server whose zone changes, over UDP and TCP.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_net::proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_net::proto::rr::{LowerName, Name, RData, Record};
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::timeout;

use super::super::dns::Dns;
use super::super::lookup::{Found, Lookup, look_up};
use super::super::{GatewayNames, NameCounts, Resolver};
use crate::ingest::convert::SpecialAddresses;
use crate::model::{ClusterRole, Hostname, Quirks};
use crate::registry::Registry;

const ZONE: &str = "gw.test.";

/// An authoritative server for `gw.test` on a loopback port.
struct Authority {
    zone: Arc<InMemoryZoneHandler>,
    address: SocketAddr,
    _server: Server<Catalog>,
}

impl Authority {
    async fn start() -> Self {
        let origin = Name::from_ascii(ZONE).unwrap();
        let zone = InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
        let soa = SOA::new(origin.clone(), origin.clone(), 1, 60, 60, 60, 45);
        zone.upsert(Record::from_rdata(origin.clone(), 45, RData::SOA(soa)), 1).await;
        let zone = Arc::new(zone);
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::from(origin), vec![Arc::clone(&zone) as _]);
        let mut server = Server::new(catalog);
        let (udp, tcp) = both_sockets().await;
        let address = udp.local_addr().unwrap();
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 4096);
        Self { zone, address, _server: server }
    }

    async fn add(&self, name: &str, ttl: u32, data: RData) {
        let name = Name::from_ascii(format!("{name}.{ZONE}")).unwrap();
        assert!(self.zone.upsert(Record::from_rdata(name, ttl, data), 1).await);
    }

    async fn addresses(&self, name: &str, ttl: u32, addresses: &[&str]) {
        for text in addresses {
            let data = match text.parse().unwrap() {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            };
            self.add(name, ttl, data).await;
        }
    }

    async fn remove(&self, name: &str) {
        let name = LowerName::from(Name::from_ascii(format!("{name}.{ZONE}")).unwrap());
        self.zone.records_mut().await.retain(|key, _| *key.name() != name);
    }
}

/// The same port for both transports: the kernel picks one, and another one if TCP's is taken.
async fn both_sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..50 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

async fn ask(servers: &[SocketAddr], name: &str) -> Lookup {
    let host = Hostname::from(format!("{name}.gw.test"));
    look_up(&Dns::new(servers.to_vec()), &host, &NameCounts::default()).await
}

fn found(addresses: &[&str], ttl: u32) -> Result<Found, String> {
    let mut addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    addresses.sort();
    Ok(Found { addresses, ttl: Some(ttl) })
}

fn sorted(lookup: Lookup) -> Lookup {
    let sort = |found: Result<Found, String>| {
        found.map(|mut found| {
            found.addresses.sort();
            found
        })
    };
    Lookup { v4: sort(lookup.v4), v6: sort(lookup.v6) }
}

/// A server that answers every question with one code.
async fn refusing(code: u8) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            buffer[2] |= 0x80;
            buffer[3] = (buffer[3] & 0xf0) | code;
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    });
    address
}

#[tokio::test]
async fn records_of_both_kinds_follow_the_zone() {
    let authority = Authority::start().await;
    let servers = [authority.address];
    authority.addresses("a", 60, &["192.0.2.1", "192.0.2.2", "2001:db8::1"]).await;
    let lookup = sorted(ask(&servers, "a").await);
    assert_eq!(
        lookup,
        Lookup { v4: found(&["192.0.2.1", "192.0.2.2"], 60), v6: found(&["2001:db8::1"], 60) }
    );

    authority.remove("a").await;
    let gone = Lookup { v4: found(&[], 45), v6: found(&[], 45) };
    assert_eq!(ask(&servers, "a").await, gone, "NXDOMAIN, with the life of the zone's SOA");
    authority.addresses("a", 120, &["192.0.2.9"]).await;
    let lookup = ask(&servers, "a").await;
    assert_eq!(lookup, Lookup { v4: found(&["192.0.2.9"], 120), v6: found(&[], 45) }, "no AAAA is no error");
}

#[tokio::test]
async fn an_alias_is_followed_and_the_shortest_life_counts() {
    let authority = Authority::start().await;
    authority.addresses("target", 300, &["192.0.2.1"]).await;
    let target = Name::from_ascii(format!("target.{ZONE}")).unwrap();
    authority.add("alias", 50, RData::CNAME(CNAME(target))).await;
    assert_eq!(ask(&[authority.address], "alias").await.v4, found(&["192.0.2.1"], 50));
}

#[tokio::test]
async fn an_answer_too_large_for_udp_comes_over_tcp() {
    let authority = Authority::start().await;
    let texts: Vec<_> = (0..250).map(|n| format!("198.51.100.{n}")).collect();
    let addresses: Vec<_> = texts.iter().map(String::as_str).collect();
    authority.addresses("many", 60, &addresses).await;
    assert_eq!(sorted(ask(&[authority.address], "many").await).v4, found(&addresses, 60));
}

#[tokio::test]
async fn servfail_and_refusal_lead_to_the_next_server() {
    let authority = Authority::start().await;
    authority.addresses("a", 60, &["192.0.2.1"]).await;
    let (broken, unwilling) = (refusing(2).await, refusing(5).await);
    assert_eq!(ask(&[broken, unwilling, authority.address], "a").await.v4, found(&["192.0.2.1"], 60));
    let error = ask(&[broken, unwilling], "a").await.v4.unwrap_err();
    assert!(error.contains("SERVFAIL") && error.contains(&unwilling.to_string()), "{error}");
}

#[tokio::test]
async fn a_silent_server_is_given_up_after_five_seconds() {
    let authority = Authority::start().await;
    authority.addresses("a", 60, &["192.0.2.1"]).await;
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let servers = [silent.local_addr().unwrap(), authority.address];
    let lookup = timeout(Duration::from_secs(20), ask(&servers, "a")).await.expect("a bounded wait");
    assert_eq!(lookup.v4, found(&["192.0.2.1"], 60));
}

#[tokio::test]
async fn the_registry_has_what_the_server_says() {
    let authority = Authority::start().await;
    authority.addresses("east", 60, &["192.0.2.1", "2001:db8::1"]).await;
    let registry = Registry::new();
    let names = Arc::<GatewayNames>::default();
    let dns = Dns::new(vec![authority.address]);
    let resolver =
        Resolver::new(dns, Arc::clone(&registry), Arc::clone(&names), SpecialAddresses::Drop, Quirks::OURS);
    let task = tokio::spawn(resolver.run());
    let mut writer = registry.writer("c1".into(), ClusterRole::Config).unwrap();
    writer.claim_networks(super::claim("c1", &["east.gw.test"]));
    let wanted = || registry.networks().host_names().cloned().collect();
    timeout(Duration::from_secs(20), names.asked(wanted)).await.expect("an answer");
    let networks = registry.networks();
    let addresses: Vec<_> = networks.gateways().map(|gateway| gateway.address.to_string()).collect();
    assert_eq!(addresses, ["192.0.2.1", "2001:db8::1"]);
    task.abort();
}
