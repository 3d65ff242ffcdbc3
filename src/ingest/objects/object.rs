//! The kinds that are read, and how an object of each is.

use std::fmt;

use serde::de::{DeserializeOwned, MapAccess};
use serde::{Deserialize, Deserializer};

use super::raw::json::{self, Fields, Json};
use super::raw::protobuf::{Fault, Message as _};
use super::raw::{self, Root, Text};
use super::wire::{self, Received};
use super::{
    ConfigMapObject, GatewayObject, NamespaceObject, NodeObject, PodObject, SecretObject, ServiceEntryObject,
    ServiceExportObject, ServiceImportObject, ServiceObject, SliceObject, WorkloadEntryObject,
};

/// An object type that can be listed and watched.
pub trait Object: Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static {
    /// `Service`, …
    const KIND: &'static str;
    /// `ServiceList`, …
    const LIST_KIND: &'static str;
    /// The API group; empty for the core group.
    const GROUP: &'static str;
    /// The version of that group.
    const VERSION: &'static str;
    /// `v1`, `discovery.k8s.io/v1`, …
    const API_VERSION: &'static str;
    /// The name in URLs.
    const PLURAL: &'static str;
    /// Whether its objects are in namespaces.
    const NAMESPACED: bool;
    /// Whether API servers speak protobuf about it; custom resources are JSON only.
    const PROTOBUF: bool;
    /// Whether its group and version are always these; others are what the configuration says (R4.39).
    const FIXED_API: bool;

    /// How many endpoints, ports and the like it has: what can be many.
    fn entries(&self) -> usize;

    /// Reads an object and its identity.
    ///
    /// # Errors
    /// A field we use has another type, or the kind is another one; never says what a value is.
    fn from_json<'de, D: Deserializer<'de>>(from: D) -> Result<Received<Self>, D::Error>;

    /// Reads the bare message of an object, without an envelope.
    ///
    /// # Errors
    /// It is no such message, in words without its content; always so where [`Object::PROTOBUF`] is false.
    fn from_protobuf(message: &[u8]) -> Result<Received<Self>, String>;
}

macro_rules! objects {
    ($($object:ident: $raw:ident, $kind:literal, $version:literal, $plural:literal, $form:ident, $scope:ident
        $(, $entries:ident)*;)*) => {
        $(impl Object for $object {
            const KIND: &'static str = $kind;
            const LIST_KIND: &'static str = concat!($kind, "List");
            const GROUP: &'static str = split($version).0;
            const VERSION: &'static str = split($version).1;
            const API_VERSION: &'static str = $version;
            const PLURAL: &'static str = $plural;
            const NAMESPACED: bool = objects!(@namespaced $scope);
            const PROTOBUF: bool = objects!(@protobuf $form);
            const FIXED_API: bool = objects!(@fixed $form);

            fn entries(&self) -> usize {
                0 $(+ self.$entries.len())*
            }

            fn from_json<'de, D: Deserializer<'de>>(from: D) -> Result<Received<Self>, D::Error> {
                rooted::<Self, raw::$raw<'de>, D>(from)
            }

            fn from_protobuf(message: &[u8]) -> Result<Received<Self>, String> {
                objects!(@read $form, $raw, message)
            }
        }

        impl<'de> Deserialize<'de> for $object {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let raw = json::read::<raw::$raw<'de>, D>(from)?;
                match Root::problem(&raw) {
                    Some(problem) => Err(serde::de::Error::custom(problem)),
                    None => Ok(Self::from(raw)),
                }
            }
        })*
    };
    (@namespaced cluster_wide) => { false };
    (@namespaced in_namespace) => { true };
    (@protobuf both) => { true };
    (@protobuf json_only) => { false };
    (@protobuf json_as_configured) => { false };
    (@fixed json_as_configured) => { false };
    (@fixed $form:ident) => { true };
    (@read both, $raw:ident, $message:ident) => {
        raw::$raw::parse($message).map(received).map_err(Fault::into_text)
    };
    (@read $form:ident, $raw:ident, $message:ident) => {
        Err(format!("{} bytes of protobuf of a kind that has none", $message.len()))
    };
}

objects! {
    NamespaceObject: Namespace, "Namespace", "v1", "namespaces", both, cluster_wide;
    NodeObject: Node, "Node", "v1", "nodes", both, cluster_wide;
    PodObject: Pod, "Pod", "v1", "pods", both, in_namespace;
    ServiceObject: Service, "Service", "v1", "services", both, in_namespace, ports;
    SecretObject: Secret, "Secret", "v1", "secrets", both, in_namespace;
    ConfigMapObject: ConfigMap, "ConfigMap", "v1", "configmaps", both, in_namespace;
    SliceObject:
        EndpointSlice, "EndpointSlice", "discovery.k8s.io/v1", "endpointslices", both, in_namespace, endpoints, ports;
    GatewayObject:
        Gateway, "Gateway", "gateway.networking.k8s.io/v1", "gateways", json_only, in_namespace, addresses, listeners;
    ServiceExportObject:
        ServiceExport, "ServiceExport", "multicluster.x-k8s.io/v1alpha1", "serviceexports", json_as_configured,
        in_namespace;
    ServiceImportObject:
        ServiceImport, "ServiceImport", "multicluster.x-k8s.io/v1alpha1", "serviceimports", json_as_configured,
        in_namespace, ips;
    ServiceEntryObject:
        ServiceEntry, "ServiceEntry", "networking.istio.io/v1", "serviceentries", json_only, in_namespace, hosts,
        ports, endpoints;
    WorkloadEntryObject:
        WorkloadEntry, "WorkloadEntry", "networking.istio.io/v1", "workloadentries", json_only, in_namespace;
}

/// Group and version of an `apiVersion`.
const fn split(api_version: &'static str) -> (&'static str, &'static str) {
    let bytes = api_version.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'/' {
            let (group, version) = api_version.split_at(at);
            return (group, version.split_at(1).1);
        }
        at += 1;
    }
    ("", api_version)
}

/// A message with the kind that stands beside its fields.
#[derive(Default)]
struct Rooted<'a, M> {
    kind: Text<'a>,
    api_version: Text<'a>,
    message: M,
}

impl<'de, M: Fields<'de>> Fields<'de> for Rooted<'de, M> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "kind" => self.kind = json::value(map, name)?,
            "apiVersion" => self.api_version = json::value(map, name)?,
            _ => return self.message.field(name, map),
        }
        Ok(true)
    }
}

impl<'de, M: Fields<'de>> Json<'de> for Rooted<'de, M> {
    const EXPECTED: &'static str = "an object";

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        json::fields(map)
    }
}

/// Reads an object and its identity from a message with its kind beside it.
pub(super) fn rooted<'de, T, M, D>(from: D) -> Result<Received<T>, D::Error>
where
    T: Object + From<M>,
    M: Fields<'de> + Root<'de>,
    D: Deserializer<'de>,
{
    let raw: Rooted<'de, M> = json::read(from)?;
    if !wire::is_of::<T>(&raw.kind, &raw.api_version) {
        return Err(serde::de::Error::custom("another kind"));
    }
    Ok(received(raw.message))
}

fn received<'a, M: Root<'a>, T: Object + From<M>>(message: M) -> Received<T> {
    let meta = message.metadata();
    let key = wire::key(&meta.namespace, &meta.name);
    let (uid, revision) = (meta.uid.name(), wire::revision_number(&meta.resource_version));
    let problem = match (key.name.is_empty(), key.namespace.is_empty()) {
        (true, _) => Some(wire::NAMELESS),
        // Nothing selects it, and nothing would take it away again (Z-11).
        (false, true) if T::NAMESPACED => Some("it has no metadata.namespace"),
        (false, false) if !T::NAMESPACED => Some("it is in a namespace, which objects of its kind are not"),
        _ => None,
    };
    let object = match problem.map(str::to_owned).or_else(|| message.problem()) {
        None => Ok(T::from(message)),
        Some(problem) => Err(problem),
    };
    Received { key, uid, revision, object }
}
