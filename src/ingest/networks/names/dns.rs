//! Questions on the wire: UDP, and TCP for an answer that does not fit.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use hickory_net::NetError;
use hickory_net::proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_net::proto::rr::{Name, RData, RecordType};
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsHandle, DnsRequestSender};

use super::lookup::{Code, Records, Response, Upstream};
use crate::model::Hostname;

/// Connecting, sending and receiving, each way of transport (R3.15).
const TIMEOUT: Duration = Duration::from_secs(5);
const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;

/// The DNS servers of the machine, or those given. Search lists and `/etc/hosts` play no part (R3.15).
#[derive(Clone, Debug)]
pub(in crate::ingest) struct Dns {
    given: Vec<SocketAddr>,
}

impl Dns {
    /// Asks `given`, in order; those of `/etc/resolv.conf`, read again for every lookup, where there is none.
    pub(in crate::ingest) fn new(given: Vec<SocketAddr>) -> Self {
        Self { given }
    }
}

impl Upstream for Dns {
    fn servers(&self) -> BoxFuture<'_, Vec<SocketAddr>> {
        async {
            if !self.given.is_empty() {
                return self.given.clone();
            }
            tokio::task::spawn_blocking(|| system_servers(Path::new(RESOLV_CONF))).await.unwrap_or_default()
        }
        .boxed()
    }

    fn ask<'a>(
        &'a self,
        server: SocketAddr,
        host: &'a Hostname,
        records: Records,
    ) -> BoxFuture<'a, Result<Response, String>> {
        ask(server, host, records).boxed()
    }
}

/// The `nameserver` lines in order.
fn system_servers(path: &Path) -> Vec<SocketAddr> {
    let text = std::fs::read(path).unwrap_or_default();
    // Lines that are not understood are other programs' business.
    let (config, _others) = resolv_conf::Config::parse_with_errors(&text);
    config.nameservers.into_iter().map(|server| SocketAddr::new(IpAddr::from(server), PORT)).collect()
}

async fn ask(server: SocketAddr, host: &Hostname, records: Records) -> Result<Response, String> {
    let mut name = Name::from_ascii(host.as_str()).map_err(|error| format!("not a name for DNS: {error}"))?;
    name.set_fqdn(true);
    let kind = match records {
        Records::A => RecordType::A,
        Records::Aaaa => RecordType::AAAA,
    };
    let request = || DnsRequest::from_query(Query::query(name.clone(), kind), DnsRequestOptions::default());
    // What runs in the background for an exchange ends with the provider.
    let provider = TokioRuntimeProvider::new();
    let mut udp = UdpClientStream::builder(server, provider.clone()).with_timeout(Some(TIMEOUT)).build();
    let mut answer = first(udp.send_message(request()).next().await)?;
    if answer.metadata.truncation {
        let tcp = TcpClientStream::exchange(server, None, TIMEOUT, None, provider.clone()).await;
        answer = first(tcp.map_err(said)?.send(request()).next().await)?;
    }
    Ok(read(&answer, kind))
}

fn first(answer: Option<Result<DnsResponse, NetError>>) -> Result<DnsResponse, String> {
    answer.unwrap_or(Err(NetError::Message("no answer"))).map_err(said)
}

fn said(error: NetError) -> String {
    error.to_string().chars().take(200).filter(|c| !c.is_control()).collect()
}

fn read(answer: &DnsResponse, kind: RecordType) -> Response {
    let code = match answer.metadata.response_code {
        ResponseCode::NoError => Code::NoError,
        ResponseCode::NXDomain => Code::NxDomain,
        ResponseCode::ServFail => Code::ServFail,
        other => Code::Other(other.to_str().to_owned()),
    };
    let addresses = answer.answers.iter().filter(|record| record.record_type() == kind);
    let addresses = addresses.filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    });
    // EDNS is not among the additional records.
    let records = answer.answers.iter().chain(&answer.authorities).chain(&answer.additionals);
    Response { code, addresses: addresses.collect(), ttl: records.map(|record| record.ttl).min() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_come_in_the_order_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, "search a.example\nnameserver 192.0.2.2\n# no\nodd line\nnameserver x\noptions new:1\nnameserver 2001:db8::1\n")
            .unwrap();
        let shown: Vec<_> = system_servers(&path).iter().map(SocketAddr::to_string).collect();
        assert_eq!(shown, ["192.0.2.2:53", "[2001:db8::1]:53"]);
        assert!(system_servers(&folder.path().join("none")).is_empty());
    }
}
