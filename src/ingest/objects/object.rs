//! The kinds that are read, and how an object of each is.

use std::fmt;

use serde::de::{DeserializeOwned, MapAccess};
use serde::{Deserialize, Deserializer};

use super::raw::json::{self, Fields, Json};
use super::raw::protobuf::{Fault, Message as _};
use super::raw::{self, Root, Text};
use super::wire::{self, Received};
use super::{
    ConfigMapObject, GatewayObject, NamespaceObject, NodeObject, ObjectKey, PodObject, SecretObject,
    ServiceExportObject, ServiceImportObject, ServiceObject, SliceObject,
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
    ($($object:ident: $raw:ident, $kind:literal, $version:literal, $plural:literal, $form:ident, $scope:ident;)*) => {
        $(impl Object for $object {
            const KIND: &'static str = $kind;
            const LIST_KIND: &'static str = concat!($kind, "List");
            const GROUP: &'static str = split($version).0;
            const VERSION: &'static str = split($version).1;
            const API_VERSION: &'static str = $version;
            const PLURAL: &'static str = $plural;
            const NAMESPACED: bool = objects!(@namespaced $scope);
            const PROTOBUF: bool = objects!(@protobuf $form);

            fn from_json<'de, D: Deserializer<'de>>(from: D) -> Result<Received<Self>, D::Error> {
                let raw: Rooted<'de, raw::$raw<'de>> = json::read(from)?;
                raw.check_kind(Self::KIND)?;
                Ok(received(raw.message))
            }

            fn from_protobuf(message: &[u8]) -> Result<Received<Self>, String> {
                objects!(@read $form, $raw, message)
            }
        }

        impl<'de> Deserialize<'de> for $object {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                json::read::<raw::$raw<'de>, D>(from).map(Self::from)
            }
        })*
    };
    (@namespaced cluster_wide) => { false };
    (@namespaced in_namespace) => { true };
    (@protobuf both) => { true };
    (@protobuf json_only) => { false };
    (@read both, $raw:ident, $message:ident) => {
        raw::$raw::parse($message).map(received).map_err(Fault::into_text)
    };
    (@read json_only, $raw:ident, $message:ident) => {
        Err(format!("{} bytes of protobuf of a kind that has none", $message.len()))
    };
}

objects! {
    NamespaceObject: Namespace, "Namespace", "v1", "namespaces", both, cluster_wide;
    NodeObject: Node, "Node", "v1", "nodes", both, cluster_wide;
    PodObject: Pod, "Pod", "v1", "pods", both, in_namespace;
    ServiceObject: Service, "Service", "v1", "services", both, in_namespace;
    SecretObject: Secret, "Secret", "v1", "secrets", both, in_namespace;
    ConfigMapObject: ConfigMap, "ConfigMap", "v1", "configmaps", both, in_namespace;
    SliceObject: EndpointSlice, "EndpointSlice", "discovery.k8s.io/v1", "endpointslices", both, in_namespace;
    GatewayObject: Gateway, "Gateway", "gateway.networking.k8s.io/v1", "gateways", json_only, in_namespace;
    ServiceExportObject:
        ServiceExport, "ServiceExport", "multicluster.x-k8s.io/v1alpha1", "serviceexports", json_only, in_namespace;
    ServiceImportObject:
        ServiceImport, "ServiceImport", "multicluster.x-k8s.io/v1alpha1", "serviceimports", json_only, in_namespace;
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
    message: M,
}

impl<'de, M: Fields<'de>> Fields<'de> for Rooted<'de, M> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        if name != "kind" {
            return self.message.field(name, map);
        }
        self.kind = json::value(map, name)?;
        Ok(true)
    }
}

impl<'de, M: Fields<'de>> Json<'de> for Rooted<'de, M> {
    const EXPECTED: &'static str = "an object";

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        json::fields(map)
    }
}

impl<M> Rooted<'_, M> {
    /// Items of lists do not say what they are.
    fn check_kind<E: serde::de::Error>(&self, wanted: &str) -> Result<(), E> {
        if self.kind.is_empty() || *self.kind == *wanted { Ok(()) } else { Err(E::custom("another kind")) }
    }
}

fn received<'a, M: Root<'a>, T: From<M>>(message: M) -> Received<T> {
    let meta = message.metadata();
    let key = ObjectKey::new(meta.namespace.common(), meta.name.name());
    let (uid, revision) = (meta.uid.name(), wire::revision_number(&meta.resource_version));
    let named = !key.name.is_empty();
    let object = if named { Ok(T::from(message)) } else { Err(wire::NAMELESS.to_owned()) };
    Received { key, uid, revision, object }
}
