//! One object as it came from the API server, readable or not.

use std::borrow::Cow;
use std::fmt;

use kube::core::{ClusterResourceScope, NamespaceResourceScope, ObjectMeta};
use serde::de::{DeserializeOwned, MapAccess};
use serde::{Deserialize, Deserializer};

use super::raw::json::{self, Fields, Json};
use super::raw::protobuf::{Fault, Message as _};
use super::raw::{self, Root, Text};
use super::wire::{self, Received};
use super::{
    ConfigMapObject, GatewayObject, NamespaceObject, NodeObject, PodObject, SecretObject,
    ServiceExportObject, ServiceImportObject, ServiceObject, SliceObject,
};
use crate::model::Name;

/// Namespace and name of an object; the namespace of cluster-wide objects is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

impl ObjectKey {
    /// A key from its parts.
    pub fn new(namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// The kinds read from every cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Namespaces.
    Namespace,
    /// Nodes.
    Node,
    /// Pods.
    Pod,
    /// Services.
    Service,
    /// EndpointSlices.
    EndpointSlice,
    /// Gateways of the Gateway API.
    Gateway,
    /// The mesh ConfigMap of the config cluster.
    ConfigMap,
    /// Exported Services.
    ServiceExport,
    /// Imported Services.
    ServiceImport,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::Gateway,
        Self::ConfigMap,
        Self::ServiceExport,
        Self::ServiceImport,
    ];

    /// The kinds every cluster has, and must have listed before it serves.
    pub const BUILT_IN: [Self; 5] = [Self::Namespace, Self::Node, Self::Pod, Self::Service, Self::EndpointSlice];

    /// Its name as Kubernetes spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Gateway => "Gateway",
            Self::ConfigMap => "ConfigMap",
            Self::ServiceExport => "ServiceExport",
            Self::ServiceImport => "ServiceImport",
        }
    }
}

/// An object type that can be listed and watched.
pub trait Object: Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static {
    /// `Namespace` or cluster scope.
    type Scope;
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

    /// The API of this kind, of one namespace where the kind has namespaces and one is given.
    fn api(client: kube::Client, namespace: Option<&str>) -> kube::Api<Decoded<Self>>;
}

macro_rules! objects {
    ($($object:ident: $raw:ident, $kind:literal, $version:literal, $plural:literal, $form:ident, $scope:ident;)*) => {
        $(impl Object for $object {
            type Scope = objects!(@scope $scope);
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

            fn api(client: kube::Client, namespace: Option<&str>) -> kube::Api<Decoded<Self>> {
                $scope(client, namespace)
            }
        }

        impl<'de> Deserialize<'de> for $object {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                json::read::<raw::$raw<'de>, D>(from).map(Self::from)
            }
        })*
    };
    (@scope cluster_wide) => { ClusterResourceScope };
    (@scope in_namespace) => { NamespaceResourceScope };
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
    let key = ObjectKey::new(meta.namespace.name(), meta.name.name());
    let (uid, revision) = (meta.uid.name(), wire::revision_number(&meta.resource_version));
    let named = !key.name.is_empty();
    let object = if named { Ok(T::from(message)) } else { Err(wire::NAMELESS.to_owned()) };
    Received { key, uid, revision, object }
}

fn cluster_wide<T: Object>(client: kube::Client, _: Option<&str>) -> kube::Api<Decoded<T>> {
    kube::Api::all(client)
}

fn in_namespace<T: Object<Scope = NamespaceResourceScope>>(
    client: kube::Client,
    namespace: Option<&str>,
) -> kube::Api<Decoded<T>> {
    match namespace {
        Some(namespace) => kube::Api::namespaced(client, namespace),
        None => kube::Api::all(client),
    }
}

/// An object, or the reason why it cannot be read. Reading one never fails, so that a bad object inside a
/// list page or a watch event costs only itself (contract 9).
#[derive(Clone, Debug)]
pub struct Decoded<T> {
    /// Its name, namespace and revision; nothing else.
    meta: ObjectMeta,
    /// What it says, or why that cannot be understood.
    pub object: Result<T, String>,
}

impl<T> Decoded<T> {
    /// Which object it is.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(
            self.meta.namespace.as_deref().unwrap_or_default(),
            self.meta.name.as_deref().unwrap_or_default(),
        )
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Decoded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = |field: &str| {
            let field = value.get("metadata").and_then(|meta| meta.get(field));
            field.and_then(serde_json::Value::as_str).map(str::to_owned)
        };
        let meta = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        let object = match meta.name.as_deref() {
            None | Some("") => Err("it has no metadata.name".to_owned()),
            Some(_) => T::deserialize(value).map_err(|error| error.to_string()),
        };
        Ok(Self { meta, object })
    }
}

impl<T: Object> kube::Resource for Decoded<T> {
    type DynamicType = ();
    type Scope = T::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        T::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        T::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        T::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        T::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectList;
    use serde_json::json;

    use super::*;

    #[test]
    fn one_bad_object_in_a_list_page_costs_only_itself() {
        let page = json!({"kind": "ServiceList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"},
        "items": [
            {"metadata": {"name": "good", "namespace": "a", "resourceVersion": "1"}, "spec": {}},
            {"metadata": {"name": "bad", "namespace": "a", "resourceVersion": "2"},
             "spec": {"ports": "none"}},
            {"metadata": 5},
        ]});
        let list: ObjectList<Decoded<ServiceObject>> = serde_json::from_str(&page.to_string()).unwrap();
        let kept: Vec<_> = list.items.iter().map(|d| (d.key().to_string(), d.object.is_ok())).collect();
        assert_eq!(kept, [("a/good".to_owned(), true), ("a/bad".to_owned(), false), (String::new(), false)]);
    }
}
