//! Which lists of the built-in kinds a strategic merge patch merges, and by which key.
//!
//! A list that is not named here is replaced as a whole; a field that is not named here has nothing to
//! merge by key below it. The keys are those a real API server publishes as `x-kubernetes-patch-merge-key`.

/// The merging fields of one type.
#[derive(Debug)]
pub(in crate::sim::apiserver) struct Shape(&'static [(&'static str, Field)]);

/// How one field merges.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    /// An object with fields of its own.
    Object(&'static Shape),
    /// A list of objects with one object for each value of the key.
    List(&'static str, &'static Shape),
    /// A list of texts or numbers without repetition.
    Set,
    /// Anything else: objects merge as objects, lists are replaced.
    Plain,
}

impl Shape {
    /// How `field` merges.
    pub(super) fn field(&self, field: &str) -> Field {
        self.0.iter().find(|(name, _)| *name == field).map_or(Field::Plain, |(_, field)| *field)
    }
}

use Field::{List, Object, Set};

/// An object without merging lists.
pub(super) static PLAIN: Shape = Shape(&[]);

static METADATA: Shape = Shape(&[("finalizers", Set), ("ownerReferences", List("uid", &PLAIN))]);

static CONDITIONS: Shape = Shape(&[("conditions", List("type", &PLAIN))]);

static CONTAINER: Shape = Shape(&[
    ("env", List("name", &PLAIN)),
    ("ports", List("containerPort", &PLAIN)),
    ("volumeDevices", List("devicePath", &PLAIN)),
    ("volumeMounts", List("mountPath", &PLAIN)),
]);

static POD_SPEC: Shape = Shape(&[
    ("containers", List("name", &CONTAINER)),
    ("ephemeralContainers", List("name", &CONTAINER)),
    ("hostAliases", List("ip", &PLAIN)),
    ("imagePullSecrets", List("name", &PLAIN)),
    ("initContainers", List("name", &CONTAINER)),
    ("resourceClaims", List("name", &PLAIN)),
    ("schedulingGates", List("name", &PLAIN)),
    ("topologySpreadConstraints", List("topologyKey", &PLAIN)),
    ("volumes", List("name", &PLAIN)),
]);

static POD_STATUS: Shape = Shape(&[
    ("conditions", List("type", &PLAIN)),
    ("hostIPs", List("ip", &PLAIN)),
    ("podIPs", List("ip", &PLAIN)),
    ("resourceClaimStatuses", List("name", &PLAIN)),
]);

static POD: Shape =
    Shape(&[("metadata", Object(&METADATA)), ("spec", Object(&POD_SPEC)), ("status", Object(&POD_STATUS))]);

static POD_TEMPLATE: Shape = Shape(&[("metadata", Object(&METADATA)), ("spec", Object(&POD_SPEC))]);

static DEPLOYMENT_SPEC: Shape = Shape(&[("template", Object(&POD_TEMPLATE))]);

static DEPLOYMENT: Shape = Shape(&[
    ("metadata", Object(&METADATA)),
    ("spec", Object(&DEPLOYMENT_SPEC)),
    ("status", Object(&CONDITIONS)),
]);

static SERVICE_SPEC: Shape = Shape(&[("ports", List("port", &PLAIN))]);

static SERVICE: Shape = Shape(&[
    ("metadata", Object(&METADATA)),
    ("spec", Object(&SERVICE_SPEC)),
    ("status", Object(&CONDITIONS)),
]);

static NODE_SPEC: Shape = Shape(&[("podCIDRs", Set)]);

static NODE_STATUS: Shape =
    Shape(&[("addresses", List("type", &PLAIN)), ("conditions", List("type", &PLAIN))]);

static NODE: Shape =
    Shape(&[("metadata", Object(&METADATA)), ("spec", Object(&NODE_SPEC)), ("status", Object(&NODE_STATUS))]);

static SERVICE_ACCOUNT: Shape = Shape(&[("metadata", Object(&METADATA)), ("secrets", List("name", &PLAIN))]);

/// Kinds whose only merging lists are those of the metadata and of `status.conditions`.
static OTHER: Shape = Shape(&[("metadata", Object(&METADATA)), ("status", Object(&CONDITIONS))]);

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
        ("", "Pod") => &POD,
        ("", "Service") => &SERVICE,
        ("", "Node") => &NODE,
        ("", "ServiceAccount") => &SERVICE_ACCOUNT,
        ("apps", "Deployment") => &DEPLOYMENT,
        _ => &OTHER,
    })
}
