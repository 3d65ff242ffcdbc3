//! Responses as far as a proxy of the fleet reads them: the outside of both protocols' messages, and of resources the
//! names that a proxy asks for next.

use super::behaviour::Protocol;
use super::fields::{Content, Fields, Malformed, parts, text};

/// The types a proxy asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Cluster,
    Endpoint,
    Listener,
    Route,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Cluster, Self::Endpoint, Self::Listener, Self::Route];

    pub(super) fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The usual abbreviation.
    pub(super) fn short(self) -> &'static str {
        match self {
            Self::Cluster => "cds",
            Self::Endpoint => "eds",
            Self::Listener => "lds",
            Self::Route => "rds",
        }
    }

    fn of(url: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url().as_bytes() == url)
    }
}

/// A response of either protocol: version, resources, type and nonce have the same numbers in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Response<'a> {
    /// `None`: a type that was not asked for.
    pub(super) kind: Option<Kind>,
    pub(super) version: &'a str,
    pub(super) nonce: &'a str,
    protocol: Protocol,
    message: &'a [u8],
}

/// One resource of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resource<'a> {
    pub(super) name: &'a str,
    /// Its version; empty in state of the world.
    pub(super) version: &'a str,
    /// The message itself.
    pub(super) body: &'a [u8],
}

impl<'a> Response<'a> {
    /// Reads the outside of `message`.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(super) fn parse(protocol: Protocol, message: &'a [u8]) -> Result<Self, Malformed> {
        let mut response = Self { kind: None, version: "", nonce: "", protocol, message };
        for field in Fields::of(message) {
            let (number, Content::Bytes(bytes)) = field? else { continue };
            let text = || std::str::from_utf8(bytes).map_err(|_| Malformed);
            match number {
                1 => response.version = text()?,
                4 => response.kind = Kind::of(bytes),
                5 => response.nonce = text()?,
                _ => {}
            }
        }
        Ok(response)
    }

    pub(super) fn resources(self) -> impl Iterator<Item = Resource<'a>> {
        parts(self.message, 2).map(move |bytes| match self.protocol {
            Protocol::Delta => Resource {
                name: text(bytes, 3),
                version: text(bytes, 1),
                body: parts(bytes, 2).last().map(value).unwrap_or_default(),
            },
            // Each message of these types has its name in field 1.
            Protocol::Sotw => Resource { name: text(value(bytes), 1), version: "", body: value(bytes) },
        })
    }

    /// Names that are gone; state of the world has none, and something else in that field.
    pub(super) fn removed(self) -> impl Iterator<Item = &'a str> {
        let delta = self.protocol == Protocol::Delta;
        let texts = parts(self.message, 6).filter_map(|part| std::str::from_utf8(part).ok());
        texts.filter(move |_| delta)
    }
}

/// The message in an `Any`.
fn value(any: &[u8]) -> &[u8] {
    parts(any, 2).last().unwrap_or_default()
}

/// The name under which an Envoy cluster's assignment is asked for; `None` if it has none.
pub(super) fn assignment_of(cluster: &[u8]) -> Option<&str> {
    const EDS: u64 = 3;
    let kind = Fields::of(cluster).find_map(|field| match field {
        Ok((2, Content::Number(kind))) => Some(kind),
        _ => None,
    });
    if kind != Some(EDS) {
        return None;
    }
    let named = parts(cluster, 3).last().map(|config| text(config, 2)).unwrap_or_default();
    Some(if named.is_empty() { text(cluster, 1) } else { named })
}

/// The names of route configurations that a listener's HTTP filters ask for.
pub(super) fn routes_of(listener: &[u8]) -> impl Iterator<Item = &str> {
    const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let chains = parts(listener, 3).chain(parts(listener, 25));
    let configs = chains.flat_map(|chain| parts(chain, 3)).flat_map(|filter| parts(filter, 4));
    let managers = configs.filter(|any| text(any, 1) == MANAGER).map(value);
    managers.flat_map(|manager| parts(manager, 3)).map(|rds| text(rds, 2)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;
    use prost::encoding::{WireType, encode_key, encode_varint};

    use super::*;
    use crate::proto::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};

    fn field(number: u32, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_key(number, WireType::LengthDelimited, &mut out);
        encode_varint(content.len() as u64, &mut out);
        out.extend_from_slice(content);
        out
    }

    fn any(url: &str, message: &[u8]) -> Vec<u8> {
        [field(1, url.as_bytes()), field(2, message)].concat()
    }

    #[test]
    fn the_outside_of_both_protocols_is_read() {
        let assignment = field(1, b"outbound|80||a");
        let packed = any(Kind::Endpoint.url(), &assignment);
        let resource = [field(3, b"outbound|80||a"), field(1, b"v7"), field(2, &packed)].concat();
        let delta = DeltaDiscoveryResponse {
            system_version_info: "s".into(),
            resources: vec![resource.into()],
            type_url: Kind::Endpoint.url().into(),
            nonce: "n".into(),
            removed_resources: vec!["gone".into()],
        }
        .encode_to_vec();
        let read = Response::parse(Protocol::Delta, &delta).unwrap();
        assert_eq!((read.kind, read.version, read.nonce), (Some(Kind::Endpoint), "s", "n"));
        let expected = Resource { name: "outbound|80||a", version: "v7", body: &assignment };
        assert_eq!(read.resources().collect::<Vec<_>>(), [expected]);
        assert_eq!(read.removed().collect::<Vec<_>>(), ["gone"]);

        let sotw = DiscoveryResponse {
            version_info: "v".into(),
            resources: vec![Bytes::from(packed)],
            type_url: "type.googleapis.com/else".into(),
            nonce: "n".into(),
        };
        // A control plane that names itself uses field 6.
        let sotw = [sotw.encode_to_vec(), field(6, &field(1, b"control plane"))].concat();
        let read = Response::parse(Protocol::Sotw, &sotw).unwrap();
        assert_eq!((read.kind, read.version), (None, "v"));
        assert_eq!(read.resources().next().unwrap().name, "outbound|80||a");
        assert_eq!(read.removed().count(), 0);
    }

    #[test]
    fn clusters_of_type_eds_name_their_assignment() {
        let eds = [field(1, b"a"), vec![0x10, 3]].concat();
        assert_eq!(assignment_of(&eds), Some("a"));
        assert_eq!(assignment_of(&[eds, field(3, &field(2, b"b"))].concat()), Some("b"));
        assert_eq!(assignment_of(&field(1, b"static")), None);
    }

    #[test]
    fn route_names_are_found_in_every_chain() {
        let manager = |name: &[u8]| {
            let url = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
            field(3, &field(4, &any(url, &field(3, &field(2, name)))))
        };
        let other = field(3, &field(4, &any("type.googleapis.com/tcp", &field(3, &field(2, b"x")))));
        let listener =
            [field(1, b"l"), field(3, &[other, manager(b"80")].concat()), field(25, &manager(b"81"))];
        assert_eq!(routes_of(&listener.concat()).collect::<Vec<_>>(), ["80", "81"]);
    }
}
