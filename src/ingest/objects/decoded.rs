//! One object as it came from the API server, readable or not.

use std::borrow::Cow;
use std::fmt;

use kube::core::{ClusterResourceScope, NamespaceResourceScope, ObjectMeta};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::{
    NamespaceObject, NodeObject, PodObject, SecretObject, ServiceExportObject, ServiceImportObject,
    ServiceObject, SliceObject,
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
    /// ServiceExports, where multi-cluster services are on.
    ServiceExport,
    /// ServiceImports, where multi-cluster services are on.
    ServiceImport,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::ServiceExport,
        Self::ServiceImport,
    ];

    /// The kinds every cluster has, and must have listed before it serves.
    pub const CORE: [Self; 5] = [Self::Namespace, Self::Node, Self::Pod, Self::Service, Self::EndpointSlice];

    /// Its name as Kubernetes spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
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
    /// The API group; empty for the core group.
    const GROUP: &'static str;
    /// The version of that group.
    const VERSION: &'static str;
    /// `ServiceList`, …
    const LIST_KIND: &'static str;
    /// The name in URLs.
    const PLURAL: &'static str;
    /// Whether its objects are in namespaces.
    const NAMESPACED: bool;
    /// Whether API servers speak protobuf about it; custom resources are JSON only.
    const PROTOBUF: bool;

    /// The API of this kind, of one namespace where the kind has namespaces and one is given.
    fn api(client: kube::Client, namespace: Option<&str>) -> kube::Api<Decoded<Self>>;
}

macro_rules! objects {
    ($($object:ident: $scope:ident, $kind:literal, $group:literal, $plural:literal, $api:ident;)*) => {
        $(impl Object for $object {
            type Scope = $scope;
            const KIND: &'static str = $kind;
            const GROUP: &'static str = $group;
            const VERSION: &'static str = "v1";
            const LIST_KIND: &'static str = concat!($kind, "List");
            const NAMESPACED: bool = stringify!($scope).len() == "NamespaceResourceScope".len();
            const PROTOBUF: bool = true;
            const PLURAL: &'static str = $plural;

            fn api(client: kube::Client, namespace: Option<&str>) -> kube::Api<Decoded<Self>> {
                $api(client, namespace)
            }
        })*
    };
}

objects! {
    NamespaceObject: ClusterResourceScope, "Namespace", "", "namespaces", cluster_wide;
    NodeObject: ClusterResourceScope, "Node", "", "nodes", cluster_wide;
    PodObject: NamespaceResourceScope, "Pod", "", "pods", in_namespace;
    ServiceObject: NamespaceResourceScope, "Service", "", "services", in_namespace;
    SecretObject: NamespaceResourceScope, "Secret", "", "secrets", in_namespace;
    ServiceExportObject: NamespaceResourceScope, "ServiceExport", "multicluster.x-k8s.io", "serviceexports", in_namespace;
    ServiceImportObject: NamespaceResourceScope, "ServiceImport", "multicluster.x-k8s.io", "serviceimports", in_namespace;
    SliceObject: NamespaceResourceScope, "EndpointSlice", "discovery.k8s.io", "endpointslices", in_namespace;
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
        "v1".into()
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
