//! The kinds every server has.
//!
//! A further one is a further `static` and its mention in [`KINDS`]; nothing else changes.

use std::sync::{Arc, LazyLock};

use super::super::{columns, defaults};
use super::{Kind, NameRule, Scope};
use crate::sim::apiserver::Scale;

/// A kind every server has.
pub type BuiltIn = LazyLock<Arc<Kind>>;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn named(kind: &str, plural: &str, short_names: &[&str]) -> Kind {
    Kind {
        kind: kind.into(),
        plural: plural.into(),
        singular: kind.to_lowercase(),
        short_names: words(short_names),
        ..Kind::plain()
    }
}

/// `v1` Namespace.
pub static NAMESPACES: BuiltIn = BuiltIn::new(|| {
    Arc::new(Kind {
        scope: Scope::Cluster,
        has_status: true,
        names: NameRule::Label,
        selectable: words(&["status.phase"]),
        defaults: defaults::namespace,
        columns: columns::namespace(),
        ..named("Namespace", "namespaces", &["ns"])
    })
});

/// `v1` Service.
pub static SERVICES: BuiltIn = BuiltIn::new(|| {
    Arc::new(Kind {
        categories: words(&["all"]),
        has_status: true,
        names: NameRule::Label,
        selectable: words(&["spec.clusterIP", "spec.type"]),
        defaults: defaults::service,
        columns: columns::service(),
        ..named("Service", "services", &["svc"])
    })
});

/// `v1` Pod.
pub static PODS: BuiltIn = BuiltIn::new(|| {
    Arc::new(Kind {
        categories: words(&["all"]),
        has_status: true,
        has_generation: true,
        selectable: words(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]),
        defaults: defaults::pod,
        columns: columns::pod(),
        ..named("Pod", "pods", &["po"])
    })
});

/// `v1` Node.
pub static NODES: BuiltIn = BuiltIn::new(|| {
    Arc::new(Kind {
        scope: Scope::Cluster,
        has_status: true,
        selectable: words(&["spec.unschedulable"]),
        defaults: defaults::node,
        columns: columns::node(),
        ..named("Node", "nodes", &["no"])
    })
});

/// `v1` Secret.
pub static SECRETS: BuiltIn = BuiltIn::new(|| {
    Arc::new(Kind {
        selectable: words(&["type"]),
        defaults: defaults::secret,
        columns: columns::secret(),
        ..named("Secret", "secrets", &[])
    })
});

/// `v1` ConfigMap.
pub static CONFIG_MAPS: BuiltIn = BuiltIn::new(|| {
    Arc::new(Kind { columns: columns::config_map(), ..named("ConfigMap", "configmaps", &["cm"]) })
});

/// `v1` ServiceAccount.
pub static SERVICE_ACCOUNTS: BuiltIn = BuiltIn::new(|| {
    Arc::new(Kind {
        columns: columns::service_account(),
        ..named("ServiceAccount", "serviceaccounts", &["sa"])
    })
});

/// `v1` Event.
pub static EVENTS: BuiltIn = BuiltIn::new(|| {
    Arc::new(Kind {
        selectable: words(&[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]),
        defaults: defaults::event,
        columns: columns::event(),
        ..named("Event", "events", &["ev"])
    })
});

/// `coordination.k8s.io/v1` Lease.
pub static LEASES: BuiltIn = BuiltIn::new(|| {
    Arc::new(Kind {
        group: "coordination.k8s.io".into(),
        needs_version: true,
        columns: columns::lease(),
        ..named("Lease", "leases", &[])
    })
});

/// `discovery.k8s.io/v1` EndpointSlice.
pub static ENDPOINT_SLICES: BuiltIn = BuiltIn::new(|| {
    Arc::new(Kind {
        group: "discovery.k8s.io".into(),
        has_generation: true,
        defaults: defaults::endpoint_slice,
        columns: columns::endpoint_slice(),
        ..named("EndpointSlice", "endpointslices", &[])
    })
});

/// `apps/v1` Deployment.
pub static DEPLOYMENTS: BuiltIn = BuiltIn::new(|| {
    Arc::new(Kind {
        group: "apps".into(),
        categories: words(&["all"]),
        has_status: true,
        scale: Some(Scale::Workload),
        has_generation: true,
        defaults: defaults::deployment,
        columns: columns::deployment(),
        ..named("Deployment", "deployments", &["deploy"])
    })
});

/// `apps/v1` ReplicaSet.
pub static REPLICA_SETS: BuiltIn = BuiltIn::new(|| {
    Arc::new(Kind {
        group: "apps".into(),
        categories: words(&["all"]),
        has_status: true,
        scale: Some(Scale::Workload),
        has_generation: true,
        selectable: words(&["status.replicas"]),
        defaults: defaults::replica_set,
        columns: columns::replica_set(),
        ..named("ReplicaSet", "replicasets", &["rs"])
    })
});

/// `apiextensions.k8s.io/v1` CustomResourceDefinition.
pub static CUSTOM_RESOURCE_DEFINITIONS: BuiltIn = BuiltIn::new(|| {
    Arc::new(Kind {
        group: "apiextensions.k8s.io".into(),
        needs_version: true,
        categories: words(&["api-extensions"]),
        scope: Scope::Cluster,
        has_status: true,
        has_generation: true,
        defaults: defaults::custom_resource_definition,
        columns: columns::custom_resource_definition(),
        ..named("CustomResourceDefinition", "customresourcedefinitions", &["crd", "crds"])
    })
});

/// Every built-in kind, in the order discovery lists them.
pub static KINDS: LazyLock<Vec<Arc<Kind>>> = LazyLock::new(|| {
    let rows: [&BuiltIn; 13] = [
        &CONFIG_MAPS,
        &EVENTS,
        &NAMESPACES,
        &NODES,
        &PODS,
        &SECRETS,
        &SERVICE_ACCOUNTS,
        &SERVICES,
        &DEPLOYMENTS,
        &REPLICA_SETS,
        &LEASES,
        &ENDPOINT_SLICES,
        &CUSTOM_RESOURCE_DEFINITIONS,
    ];
    rows.into_iter().map(|row| Arc::clone(row)).collect()
});
