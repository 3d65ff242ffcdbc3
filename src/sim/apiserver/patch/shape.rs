//! Which lists of the built-in kinds a strategic merge patch merges, and by which key.
//!
//! A list that is not named here is replaced as a whole; a field that is not named here has nothing to
//! merge by key below it. The OpenAPI documents publish the same table ([`publish`]), so that clients compute
//! the patches this server applies.

use serde_json::{Map, Value, json};

/// The merging fields of some types.
#[derive(Debug)]
pub(in crate::sim::apiserver) struct Shape {
    /// The types of this shape, as OpenAPI documents name them.
    types: &'static [&'static str],
    fields: &'static [(&'static str, Field)],
}

/// How one field merges.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    /// An object with fields of its own.
    Object(&'static Shape),
    /// A list of objects with one object for each value of the key.
    List(&'static str, &'static Shape),
    /// The same, where clients list the fields of an object that are to stay.
    Union(&'static str, &'static Shape),
    /// A list of texts or numbers without repetition.
    Set,
    /// An object of which clients list the fields that are to stay.
    Retain,
    /// Anything else: objects merge as objects, lists are replaced.
    Plain,
}

impl Shape {
    const fn new(types: &'static [&'static str], fields: &'static [(&'static str, Field)]) -> Self {
        Self { types, fields }
    }

    /// How `field` merges.
    pub(super) fn field(&self, field: &str) -> Field {
        self.fields.iter().find(|(name, _)| *name == field).map_or(Field::Plain, |(_, field)| *field)
    }
}

impl Field {
    /// Strategy and merge key as OpenAPI documents name them.
    fn published(self) -> Option<(&'static str, Option<&'static str>)> {
        match self {
            Self::List(key, _) => Some(("merge", Some(key))),
            Self::Union(key, _) => Some(("merge,retainKeys", Some(key))),
            Self::Set => Some(("merge", None)),
            Self::Retain => Some(("retainKeys", None)),
            Self::Object(_) | Self::Plain => None,
        }
    }
}

use Field::{List, Object, Retain, Set, Union};

/// An object without merging lists.
pub(super) static PLAIN: Shape = Shape::new(&[], &[]);

static METADATA: Shape = Shape::new(
    &["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"],
    &[("finalizers", Set), ("ownerReferences", List("uid", &PLAIN))],
);

static CONDITIONS: Shape = Shape::new(
    &[
        "io.k8s.api.core.v1.NamespaceStatus",
        "io.k8s.api.core.v1.ServiceStatus",
        "io.k8s.api.apps.v1.DeploymentStatus",
        "io.k8s.api.apps.v1.ReplicaSetStatus",
    ],
    &[("conditions", List("type", &PLAIN))],
);

static CONTAINER: Shape = Shape::new(
    &["io.k8s.api.core.v1.Container", "io.k8s.api.core.v1.EphemeralContainer"],
    &[
        ("env", List("name", &PLAIN)),
        ("ports", List("containerPort", &PLAIN)),
        ("volumeDevices", List("devicePath", &PLAIN)),
        ("volumeMounts", List("mountPath", &PLAIN)),
    ],
);

static POD_SPEC: Shape = Shape::new(
    &["io.k8s.api.core.v1.PodSpec"],
    &[
        ("containers", List("name", &CONTAINER)),
        ("ephemeralContainers", List("name", &CONTAINER)),
        ("hostAliases", List("ip", &PLAIN)),
        ("imagePullSecrets", List("name", &PLAIN)),
        ("initContainers", List("name", &CONTAINER)),
        ("resourceClaims", Union("name", &PLAIN)),
        ("schedulingGates", List("name", &PLAIN)),
        ("topologySpreadConstraints", List("topologyKey", &PLAIN)),
        ("volumes", Union("name", &PLAIN)),
    ],
);

static POD_STATUS: Shape = Shape::new(
    &["io.k8s.api.core.v1.PodStatus"],
    &[
        ("conditions", List("type", &PLAIN)),
        ("hostIPs", List("ip", &PLAIN)),
        ("podIPs", List("ip", &PLAIN)),
        ("resourceClaimStatuses", Union("name", &PLAIN)),
    ],
);

/// Published only: statuses of containers are replaced as a whole list.
static CONTAINER_STATUS: Shape = Shape::new(
    &["io.k8s.api.core.v1.ContainerStatus"],
    &[("allocatedResourcesStatus", List("name", &PLAIN)), ("volumeMounts", List("mountPath", &PLAIN))],
);

static POD: Shape = Shape::new(
    &[],
    &[("metadata", Object(&METADATA)), ("spec", Object(&POD_SPEC)), ("status", Object(&POD_STATUS))],
);

static POD_TEMPLATE: Shape = Shape::new(&[], &[("metadata", Object(&METADATA)), ("spec", Object(&POD_SPEC))]);

static DEPLOYMENT_SPEC: Shape = Shape::new(
    &["io.k8s.api.apps.v1.DeploymentSpec"],
    &[("strategy", Retain), ("template", Object(&POD_TEMPLATE))],
);

static DEPLOYMENT: Shape = Shape::new(
    &[],
    &[("metadata", Object(&METADATA)), ("spec", Object(&DEPLOYMENT_SPEC)), ("status", Object(&CONDITIONS))],
);

static SERVICE_SPEC: Shape =
    Shape::new(&["io.k8s.api.core.v1.ServiceSpec"], &[("ports", List("port", &PLAIN))]);

static SERVICE: Shape = Shape::new(
    &[],
    &[("metadata", Object(&METADATA)), ("spec", Object(&SERVICE_SPEC)), ("status", Object(&CONDITIONS))],
);

static NODE_SPEC: Shape = Shape::new(&["io.k8s.api.core.v1.NodeSpec"], &[("podCIDRs", Set)]);

static NODE_STATUS: Shape = Shape::new(
    &["io.k8s.api.core.v1.NodeStatus"],
    &[("addresses", List("type", &PLAIN)), ("conditions", List("type", &PLAIN))],
);

static NODE: Shape = Shape::new(
    &[],
    &[("metadata", Object(&METADATA)), ("spec", Object(&NODE_SPEC)), ("status", Object(&NODE_STATUS))],
);

static SERVICE_ACCOUNT: Shape = Shape::new(
    &["io.k8s.api.core.v1.ServiceAccount"],
    &[("metadata", Object(&METADATA)), ("secrets", List("name", &PLAIN))],
);

static NAMESPACE: Shape =
    Shape::new(&[], &[("metadata", Object(&METADATA)), ("status", Object(&CONDITIONS))]);

/// Kinds whose only merging lists are those of the metadata.
static OTHER: Shape = Shape::new(&[], &[("metadata", Object(&METADATA))]);

/// The shapes with types of their own.
static TYPES: [&Shape; 11] = [
    &CONTAINER_STATUS,
    &METADATA,
    &CONDITIONS,
    &CONTAINER,
    &POD_SPEC,
    &POD_STATUS,
    &DEPLOYMENT_SPEC,
    &SERVICE_SPEC,
    &NODE_SPEC,
    &NODE_STATUS,
    &SERVICE_ACCOUNT,
];

/// The groups of built-in kinds; every other group holds custom objects.
const BUILT_IN: [&str; 7] = [
    "",
    "apiextensions.k8s.io",
    "apps",
    "authentication.k8s.io",
    "autoscaling",
    "coordination.k8s.io",
    "discovery.k8s.io",
];

/// The shape of a kind; `None` for custom objects, which a strategic merge patch does not apply to.
pub(in crate::sim::apiserver) fn of(group: &str, kind: &str) -> Option<&'static Shape> {
    if !BUILT_IN.contains(&group) {
        return None;
    }
    Some(match (group, kind) {
        ("", "Namespace") => &NAMESPACE,
        ("", "Pod") => &POD,
        ("", "Service") => &SERVICE,
        ("", "Node") => &NODE,
        ("", "ServiceAccount") => &SERVICE_ACCOUNT,
        ("apps", "Deployment" | "ReplicaSet") => &DEPLOYMENT,
        _ => &OTHER,
    })
}

/// Writes strategies and merge keys into the schemas of the types, by their names.
pub(in crate::sim::apiserver) fn publish(schemas: &mut Map<String, Value>) {
    for shape in TYPES {
        for name in shape.types {
            let Some(schema) = schemas.get_mut(*name) else { continue };
            for (field, how) in shape.fields {
                let (Some((strategy, key)), Some(property)) =
                    (how.published(), schema.pointer_mut(&format!("/properties/{field}")))
                else {
                    continue;
                };
                property["x-kubernetes-patch-strategy"] = json!(strategy);
                if let Some(key) = key {
                    property["x-kubernetes-patch-merge-key"] = json!(key);
                }
            }
        }
    }
}
