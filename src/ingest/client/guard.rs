//! Which addresses an API server may have (Z-04, D34).

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::Semaphore;
use tower::Service;
use tower::util::BoxCloneSyncService;

use super::ServerList;

/// Which API servers are connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Anything: the operator's own cluster, and labs (`--allow-loopback-clusters`).
    Any,
    /// No loopback, link-local, multicast and metadata addresses: a remote kubeconfig must not reach what trusts
    /// whoever asks from here. Other addresses of this machine are not told from those of others: what listens on
    /// them has to authenticate.
    Remote,
    /// What is on the list only (`--remote-api-servers`).
    Listed {
        /// The list.
        servers: Arc<ServerList>,
        /// Loopback, link-local and metadata addresses too, if they are on it.
        special: bool,
    },
}

/// *Retried.* An API server is not one that a remote cluster may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForbiddenAddress {
    /// By its address.
    #[error(
        "{address} is a {kind} address, which a remote cluster's API server may not have \
         (--allow-loopback-clusters permits it in labs)"
    )]
    Special {
        /// The address.
        address: IpAddr,
        /// What it is.
        kind: &'static str,
    },
    /// By name and address.
    #[error("neither {host} nor its address {address} is among the servers of --remote-api-servers")]
    NotListed {
        /// Its host, as the kubeconfig names it.
        host: String,
        /// The address.
        address: IpAddr,
    },
}

/// Loopback, link-local (the metadata service included), multicast or unspecified: what such an address is
/// called. IPv4-mapped IPv6 counts as IPv4. These are never endpoints either (K-40).
pub fn special_kind(address: IpAddr) -> Option<&'static str> {
    let address = address.to_canonical();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let kinds = [
        (address.is_loopback(), "loopback"),
        (link_local, "link-local"),
        (address.is_unspecified(), "unspecified"),
        (address.is_multicast(), "multicast"),
    ];
    kinds.into_iter().find_map(|(is, kind)| is.then_some(kind))
}

/// Services of clouds that give credentials to whoever asks from the right machine, beyond the link-local one:
/// of Alibaba, Azure, Oracle and (IPv6) Amazon and Google.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

fn is_metadata(address: IpAddr) -> bool {
    METADATA.contains(&address)
}

/// The addresses that a connection to this one may end at: itself, and the IPv4 addresses in it where a network
/// translates: mapped and compatible ones, 6to4, NAT64 (RFC 6052) with its well-known prefix and with local ones
/// (RFC 8215), which may have any of several lengths.
fn ends(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let address = address.to_canonical();
    let inside = match address {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(v6) => inside(v6),
    };
    std::iter::once(address).chain(inside.into_iter().map(IpAddr::V4))
}

fn inside(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    let octets = v6.octets();
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| octets[place]));
    let last = at([12, 13, 14, 15]);
    match v6.segments() {
        // `::` and `::1` say what they are themselves.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Vec::new(),
        [0, 0, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![last],
        [0x2002, ..] => vec![at([2, 3, 4, 5])],
        [0x64, 0xff9b, 1, ..] => {
            // By the length of the prefix: the address, and where nothing but zeros may follow.
            let forms =
                [([6, 7, 9, 10], 11), ([7, 9, 10, 11], 12), ([9, 10, 11, 12], 13), ([12, 13, 14, 15], 16)];
            let fits = forms.into_iter().filter(|(_, end)| octets[*end..].iter().all(|octet| *octet == 0));
            fits.map(|(places, _)| at(places)).filter(|v4| !v4.is_unspecified()).collect()
        }
        _ => Vec::new(),
    }
}

impl AddressPolicy {
    /// Whether the server `host` may be connected to at `address`.
    ///
    /// # Errors
    /// It may not, and why.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), ForbiddenAddress> {
        let (servers, special) = match self {
            Self::Any => return Ok(()),
            Self::Remote => (None, false),
            Self::Listed { servers, special } => (Some(servers), *special),
        };
        let kind = |end: IpAddr| special_kind(end).or_else(|| is_metadata(end).then_some("metadata"));
        if !special && let Some((address, kind)) = ends(address).find_map(|end| Some((end, kind(end)?))) {
            return Err(ForbiddenAddress::Special { address, kind });
        }
        match servers {
            Some(servers) if !servers.contains(host, address) => {
                Err(ForbiddenAddress::NotListed { host: host.to_owned(), address })
            }
            _ => Ok(()),
        }
    }
}

/// Why a name gives no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved {
    /// The resolver's answer.
    #[error(transparent)]
    Lookup(#[from] io::Error),
    /// The name exists, without an address.
    #[error("it has no address")]
    Empty,
    /// One of its addresses is not permitted.
    #[error(transparent)]
    Forbidden(#[from] ForbiddenAddress),
}

/// From a name to its addresses.
pub(super) type Lookup = BoxCloneSyncService<Name, Vec<SocketAddr>, io::Error>;

/// The system's resolver; what it answers is checked right before connecting, so a name that changes its
/// address later gains nothing.
#[derive(Clone)]
pub(super) struct GuardedResolver {
    pub(super) lookup: Lookup,
    pub(super) policy: AddressPolicy,
}

impl GuardedResolver {
    pub(super) fn new(policy: AddressPolicy) -> Self {
        Self { lookup: in_threads(|host| (host, 0).to_socket_addrs().map(Iterator::collect)), policy }
    }
}

/// Lookups of the process under way: one that nobody answers holds a thread for half a minute, also when the one
/// who asked has given up. Others need threads as well.
static THREADS: Semaphore = Semaphore::const_new(256);
/// And those of one resolver, which is of one server: its name must not hold up the others'.
const OWN_THREADS: usize = 2;

/// A lookup by a function that blocks.
fn in_threads(resolve: fn(&str) -> io::Result<Vec<SocketAddr>>) -> Lookup {
    let own = Arc::new(Semaphore::new(OWN_THREADS));
    BoxCloneSyncService::new(tower::service_fn(move |name: Name| {
        let own = Arc::clone(&own);
        async move {
            let own = own.acquire_owned().await.map_err(io::Error::other)?;
            let thread = THREADS.acquire().await.map_err(io::Error::other)?;
            let resolved = tokio::task::spawn_blocking(move || {
                let _until_it_ends = (own, thread);
                resolve(name.as_str())
            });
            resolved.await.map_err(io::Error::other)?
        }
    }))
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unresolved>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        self.lookup.poll_ready(cx).map_err(Unresolved::from)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let policy = self.policy.clone();
        let answer = self.lookup.call(name.clone());
        Box::pin(async move {
            let addresses = answer.await?;
            for address in &addresses {
                policy.check(name.as_str(), address.ip())?;
            }
            if addresses.is_empty() { Err(Unresolved::Empty) } else { Ok(addresses.into_iter()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn z_04_special_addresses_are_refused_for_remote_clusters_only() {
        for (text, kind) in [
            ("127.0.0.1", Some("loopback")),
            ("127.8.9.10", Some("loopback")),
            ("::1", Some("loopback")),
            ("::ffff:127.0.0.1", Some("loopback")),
            ("169.254.169.254", Some("link-local")),
            ("::ffff:169.254.169.254", Some("link-local")),
            ("fe80::1", Some("link-local")),
            ("0.0.0.0", Some("unspecified")),
            ("::", Some("unspecified")),
            ("224.0.0.1", Some("multicast")),
            ("10.0.0.1", None),
            ("192.0.2.7", None),
            ("2001:db8::1", None),
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(special_kind(address), kind, "{text}");
            assert_eq!(AddressPolicy::Remote.check(text, address).is_ok(), kind.is_none(), "{text}");
            assert_eq!(AddressPolicy::Any.check(text, address), Ok(()));
        }
    }

    #[test]
    fn z_04_metadata_services_are_refused_in_every_disguise() {
        for text in [
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd20:ce::254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::127.0.0.1",
            "::ffff:100.100.100.200",
            "::169.254.169.254",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:7f00:0:100::",
            "64:ff9b:1:647f:0:1::",
            "64:ff9b:1:6464:a9:fea9:fe00:0",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert!(AddressPolicy::Remote.check(text, address).is_err(), "{text}");
            assert_eq!(AddressPolicy::Any.check(text, address), Ok(()));
        }
        for public in
            ["64:ff9b::192.0.2.1", "2002:c000:201::1", "64:ff9b:1::192.0.2.1", "64:ff9b:1:c000:2:100::"]
        {
            assert_eq!(AddressPolicy::Remote.check(public, public.parse().unwrap()), Ok(()));
        }
    }

    #[tokio::test]
    async fn names_that_nobody_resolves_hold_few_threads_however_often_they_are_asked_for() {
        use std::sync::{Condvar, Mutex};
        use std::time::Duration;

        /// Lookups that have begun, and whether they are answered.
        static LOOKUPS: Mutex<(usize, bool)> = Mutex::new((0, false));
        static CHANGED: Condvar = Condvar::new();
        const LIMIT: Duration = Duration::from_secs(60);
        let mut lookup = in_threads(|_| {
            let mut lookups = LOOKUPS.lock().unwrap();
            lookups.0 += 1;
            CHANGED.notify_all();
            drop(CHANGED.wait_timeout_while(lookups, LIMIT, |(_, answered)| !*answered).unwrap());
            Ok(vec![([192, 0, 2, 1], 0).into()])
        });
        let name: Name = "name".parse().unwrap();
        let mut asked: Vec<_> = (0..8).map(|_| Box::pin(lookup.call(name.clone()))).collect();
        for asked in &mut asked {
            assert!(asked.as_mut().now_or_never().is_none());
        }
        let begun = tokio::task::spawn_blocking(|| {
            let wait = |lookups| CHANGED.wait_timeout_while(lookups, LIMIT, |(begun, _)| *begun < 2).unwrap();
            wait(LOOKUPS.lock().unwrap()).0.0
        });
        assert_eq!(begun.await.unwrap(), 2);
        // Who asked has given up; the threads are held nevertheless, and nobody gets another one.
        drop(asked);
        assert!(lookup.call(name.clone()).now_or_never().is_none());
        LOOKUPS.lock().unwrap().1 = true;
        CHANGED.notify_all();
        assert_eq!(lookup.call(name).await.unwrap(), [([192, 0, 2, 1], 0).into()]);
        assert_eq!(LOOKUPS.lock().unwrap().0, 3, "threads that were not free have not been used");
    }

    #[tokio::test]
    async fn z_04_a_name_is_checked_by_what_it_resolves_to() {
        let mut resolver = GuardedResolver::new(AddressPolicy::Remote);
        let name: Name = "localhost".parse().unwrap();
        let error = resolver.call(name).await.unwrap_err();
        assert!(error.to_string().contains("loopback"), "{error}");
    }
}
