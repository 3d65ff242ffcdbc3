//! One lookup: both kinds of records, each from the first server that knows (R3.15).

use std::net::{IpAddr, SocketAddr};

use futures::future::{BoxFuture, join};

use super::NameCounts;
use crate::model::Hostname;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Records {
    A,
    Aaaa,
}

/// How a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Code {
    NoError,
    NxDomain,
    ServFail,
    /// Any other code, by its name.
    Other(String),
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ingest) struct Response {
    pub(in crate::ingest) code: Code,
    pub(in crate::ingest) addresses: Vec<IpAddr>,
    /// The shortest life of all records in it, seconds; `None` without records.
    pub(in crate::ingest) ttl: Option<u32>,
}

/// DNS servers.
pub(in crate::ingest) trait Upstream: Send + Sync + 'static {
    /// The servers to ask, in order.
    fn servers(&self) -> BoxFuture<'_, Vec<SocketAddr>>;
    /// Asks one server. An error says why there is no answer.
    fn ask<'a>(
        &'a self,
        server: SocketAddr,
        host: &'a Hostname,
        records: Records,
    ) -> BoxFuture<'a, Result<Response, String>>;
}

/// What DNS says of one kind of records: the addresses, perhaps none, and their life in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ttl: Option<u32>,
}

/// What DNS says of a name: for each kind of records, what is found or why nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) v4: Result<Found, String>,
    pub(super) v6: Result<Found, String>,
}

/// Asks for both kinds at once.
pub(super) async fn look_up(upstream: &impl Upstream, host: &Hostname, counts: &NameCounts) -> Lookup {
    let servers = upstream.servers().await;
    let (v4, v6) = join(
        one(upstream, &servers, host, Records::A, counts),
        one(upstream, &servers, host, Records::Aaaa, counts),
    )
    .await;
    Lookup { v4, v6 }
}

/// The servers in order: without an answer, or with SERVFAIL, the next one; with success it ends; "no such
/// name" is kept while the others are still asked. Codes that say nothing of the name (REFUSED, …) count as no
/// answer: a server that does not want to talk must not take a gateway away.
async fn one(
    upstream: &impl Upstream,
    servers: &[SocketAddr],
    host: &Hostname,
    records: Records,
    counts: &NameCounts,
) -> Result<Found, String> {
    let mut absent = None;
    let mut errors = Vec::new();
    for server in servers {
        NameCounts::add(&counts.queries);
        match upstream.ask(*server, host, records).await {
            Ok(Response { code: Code::NoError, addresses, ttl }) => return Ok(Found { addresses, ttl }),
            Ok(Response { code: Code::NxDomain, ttl, .. }) => {
                absent.get_or_insert(Found { addresses: Vec::new(), ttl });
            }
            Ok(Response { code: Code::ServFail, .. }) => errors.push(format!("{server}: SERVFAIL")),
            Ok(Response { code: Code::Other(code), .. }) => errors.push(format!("{server}: {code}")),
            Err(error) => errors.push(format!("{server}: {error}")),
        }
    }
    if servers.is_empty() {
        errors.push("there is no DNS server to ask: see /etc/resolv.conf or --dns-servers".to_owned());
    }
    absent.ok_or_else(|| errors.join("; "))
}
