//! Pod (and Node) → workload.

use std::net::IpAddr;
use std::sync::Arc;

use super::{ClusterContext, ClusterNetwork, Pod, PodShape};
use crate::ingest::objects::{Labels, ObjectKey};
use crate::model::{
    Locality, Name, NetworkId, NodePlace, SpiffeId, TlsMode, Workload, WorkloadParts, WorkloadProfile,
};

/// R2.1, R4.14, R5.8–R5.12. `node` is the locality of the pod's node, empty while that is unknown; `profile` what
/// was made of the pod's shape.
pub fn pod_workload(
    key: &ObjectKey,
    pod: &Pod,
    node: Option<&Locality>,
    profile: &Arc<WorkloadProfile>,
) -> Workload {
    Workload {
        name: key.name.clone(),
        addresses: pod.addresses.clone(),
        profile: WorkloadProfile::of_pod(profile, &key.name),
        place: Arc::new(NodePlace { node: pod.node.clone(), locality: locality(pod, node) }),
    }
}

/// What pods of one shape in one namespace and network have in common; a name that is not there is the pod's own.
pub fn pod_profile(
    context: &ClusterContext,
    namespace: &Name,
    shape: &PodShape,
    network: NetworkId,
) -> WorkloadProfile {
    let labels = &shape.labels;
    let account = SpiffeId {
        trust_domain: context.trust_domain.clone(),
        namespace: namespace.clone(),
        service_account: shape.service_account.clone(),
    };
    let workload_name = workload_name(shape);
    let canonical_name = canonical_name(labels);
    WorkloadProfile {
        cluster: context.cluster.clone(),
        namespace: namespace.clone(),
        tls_mode: tls_mode(labels),
        redirected: shape.redirected,
        account: Some(account),
        canonical_name: canonical_name.or_else(|| workload_name.clone()),
        canonical_revision: canonical_revision(labels),
        workload_name,
        own_labels: labels.clone(),
        network,
        pod_dns: pod_dns(shape),
    }
}

/// R5.5: an address that no pod stands behind: plain, without identity, namespace or locality.
pub fn bare_workload(context: &ClusterContext, address: IpAddr, of_cluster: &ClusterNetwork) -> Workload {
    WorkloadParts {
        cluster: context.cluster.clone(),
        addresses: address.into(),
        network: of_cluster.of(None, &[address]),
        ..WorkloadParts::default()
    }
    .into()
}

/// R5.8.
fn tls_mode(labels: &Labels) -> TlsMode {
    match labels.get("security.istio.io/tlsMode").map(|mode| &**mode) {
        Some("istio") => TlsMode::Istio,
        _ => TlsMode::Disabled,
    }
}

/// R5.10; `None` is the pod's own name.
fn workload_name(pod: &PodShape) -> Option<Name> {
    if let Some(name) = first_label(&pod.labels, &["service.istio.io/workload-name"]) {
        return Some(name);
    }
    let controller = pod.controller.as_ref().filter(|_| pod.generated)?;
    let without_hash = || {
        let mut hashes = ["pod-template-hash", "rollouts-pod-template-hash"].into_iter();
        hashes.find_map(|label| {
            let hash = pod.labels.get(label).filter(|hash| !hash.is_empty())?;
            let deployment = controller.name.strip_suffix(&**hash)?.strip_suffix('-')?;
            (!deployment.is_empty()).then(|| Name::interned(deployment))
        })
    };
    let own = || controller.name.clone();
    Some(match &*controller.kind {
        "ReplicaSet" => without_hash().unwrap_or_else(own),
        "ReplicationController" => first_label(&pod.labels, &["deploymentconfig"]).unwrap_or_else(own),
        "Job" => cron_job(&controller.name).unwrap_or_else(own),
        _ => own(),
    })
}

/// A Job's name minus the `-` and 8 to 10 digits that a CronJob adds.
fn cron_job(job: &str) -> Option<Name> {
    let (name, suffix) = job.rsplit_once('-')?;
    let scheduled = (8..=10).contains(&suffix.len()) && suffix.bytes().all(|b| b.is_ascii_digit());
    (scheduled && !name.is_empty()).then(|| name.into())
}

/// R4.14; `None` where no label says it.
pub(super) fn canonical_name(labels: &Labels) -> Option<Name> {
    first_label(labels, &["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
}

/// R4.14: `latest` is written as empty.
pub(super) fn canonical_revision(labels: &Labels) -> Name {
    let names = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
    match first_label(labels, &names) {
        Some(revision) if &*revision != "latest" => revision,
        _ => Name::default(),
    }
}

/// R5.11: a pod label before the node.
fn locality(pod: &Pod, node: Option<&Locality>) -> Locality {
    label_locality(&pod.labels).or_else(|| node.cloned()).unwrap_or_default()
}

/// R5.11: what a label says; dots separate when there is no slash.
pub(super) fn label_locality(labels: &Labels) -> Option<Locality> {
    let text = first_label(labels, &["topology.istio.io/locality", "istio-locality"])?;
    Some(if text.contains('/') { Locality::parse(&text) } else { Locality::parse(&text.replace('.', "/")) })
}

/// R5.12.
fn pod_dns(pod: &PodShape) -> Option<(Option<Name>, Name)> {
    let hostname = (!pod.hostname.is_empty()).then(|| pod.hostname.clone());
    (!pod.subdomain.is_empty()).then(|| (hostname, pod.subdomain.clone()))
}

fn first_label(labels: &Labels, names: &[&str]) -> Option<Name> {
    let mut found = names.iter().filter_map(|name| labels.get(*name));
    found.find(|value| !value.is_empty()).cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::test_context;
    use super::*;
    use crate::ingest::objects::{NETWORK_LABEL, PodObject};

    fn converted(key: &ObjectKey, pod: &Pod, node: Option<&Locality>, of: &ClusterNetwork) -> Workload {
        let network = of.of_pod(pod);
        let profile = pod_profile(&test_context(), &key.namespace, pod, network);
        pod_workload(key, pod, node, &Arc::new(profile))
    }

    fn pod(metadata: Value, spec: Value) -> Workload {
        let object: PodObject = serde_json::from_value(json!({"metadata": metadata, "spec": spec,
            "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}}))
        .unwrap();
        let node = Locality::parse("r/z/s");
        let network = ClusterNetwork::new("n-sys".into(), Arc::default());
        converted(&ObjectKey::new("a", "p"), &object.into(), Some(&node), &network)
    }

    fn labelled(labels: Value) -> Workload {
        pod(json!({"labels": labels}), json!({}))
    }

    #[test]
    fn r2_1_network_is_the_pod_label_then_the_system_namespace() {
        assert_eq!(&*labelled(json!({"topology.istio.io/network": "n-pod"})).network, "n-pod");
        assert_eq!(&*labelled(json!({"topology.istio.io/network": ""})).network, "n-sys");
        assert_eq!(&*labelled(json!({})).network, "n-sys");
        let bare = bare_workload(&test_context(), "10.0.0.9".parse().unwrap(), &ClusterNetwork::default());
        assert!(bare.network.is_empty());
    }

    #[test]
    fn r4_14_canonical_names() {
        let names = |labels| {
            let workload = labelled(labels);
            (workload.canonical_name().to_string(), workload.canonical_revision.to_string())
        };
        let own = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(names(json!({})), own("p", ""));
        assert_eq!(names(json!({"app": "x", "version": "latest"})), own("x", ""));
        assert_eq!(
            names(json!({"app": "x", "app.kubernetes.io/name": "y", "version": "v1",
                         "app.kubernetes.io/version": "v2"})),
            own("y", "v2")
        );
        assert_eq!(
            names(json!({"app": "x", "service.istio.io/canonical-name": "z",
                         "service.istio.io/canonical-revision": "v3", "version": "v1"})),
            own("z", "v3")
        );
        assert_eq!(labelled(json!({"app": "x", "version": "v1"})).telemetry(), "p;a;x;v1;c1");
    }

    #[test]
    fn r4_16_a_pods_annotation_says_that_its_node_takes_hbone() {
        let redirected = |annotations: Value| pod(json!({"annotations": annotations}), json!({})).redirected;
        assert!(redirected(json!({"ambient.istio.io/redirection": "enabled"})));
        assert!(!redirected(json!({"ambient.istio.io/redirection": "disabled"})));
        assert!(!redirected(json!({"istio.io/dataplane-mode": "ambient"})));
    }

    #[test]
    fn r5_8_tls_mode() {
        assert_eq!(labelled(json!({"security.istio.io/tlsMode": "istio"})).tls_mode, TlsMode::Istio);
        assert_eq!(labelled(json!({})).tls_mode, TlsMode::Disabled);
        let other = labelled(json!({"security.istio.io/tlsMode": "strange"}));
        assert_eq!((other.tls_mode, other.tls_mode_text()), (TlsMode::Disabled, "strange"));
        assert_eq!(labelled(json!({})).tls_mode_text(), "disabled");
        assert_eq!(labelled(json!({"security.istio.io/tlsMode": ""})).tls_mode_text(), "");
        assert_eq!(labelled(json!({"security.istio.io/tlsMode": "disabled"})).tls_mode, TlsMode::Disabled);
    }

    #[test]
    fn r5_9_service_account() {
        let account = pod(json!({}), json!({"serviceAccountName": "sa1"})).account.clone().unwrap();
        assert_eq!(account.to_string(), "spiffe://cluster.local/ns/a/sa/sa1");
        let none = pod(json!({}), json!({})).account.clone().unwrap();
        assert_eq!(none.to_string(), "spiffe://cluster.local/ns/a/sa/", "the name is what the pod says");
    }

    #[test]
    fn r5_10_workload_name() {
        let name = |labels: Value, generated: &str, kind: &str, owner: &str| {
            let owners = json!([{"kind": kind, "name": owner, "controller": true}]);
            let metadata = json!({"labels": labels, "generateName": generated, "ownerReferences": owners});
            pod(metadata, json!({})).workload_name().to_string()
        };
        let hash = json!({"pod-template-hash": "6d4"});
        assert_eq!(name(hash.clone(), "web-6d4-", "ReplicaSet", "web-6d4"), "web");
        assert_eq!(name(hash.clone(), "", "ReplicaSet", "web-6d4"), "p");
        assert_eq!(name(hash, "web-", "ReplicaSet", "web"), "web");
        assert_eq!(name(json!({"rollouts-pod-template-hash": "77"}), "x-", "ReplicaSet", "roll-77"), "roll");
        let both = json!({"pod-template-hash": "zz", "rollouts-pod-template-hash": "77"});
        assert_eq!(name(both, "x-", "ReplicaSet", "roll-77"), "roll", "the hash that fits");
        assert_eq!(name(json!({}), "x-", "StatefulSet", "db"), "db");
        assert_eq!(name(json!({}), "x-", "Job", "tick-28123456"), "tick");
        assert_eq!(name(json!({}), "x-", "Job", "once-1"), "once-1");
        assert_eq!(name(json!({"deploymentconfig": "dc"}), "x-", "ReplicationController", "dc-1"), "dc");
        assert_eq!(name(json!({"service.istio.io/workload-name": "w"}), "x-", "StatefulSet", "db"), "w");
    }

    #[test]
    fn r5_11_locality_is_the_pod_label_then_the_node() {
        let locality = |labels| labelled(labels).locality().to_string();
        assert_eq!(locality(json!({})), "r/z/s");
        assert_eq!(locality(json!({"istio-locality": "a.b.c"})), "a/b/c");
        assert_eq!(locality(json!({"istio-locality": "a/b.c"})), "a/b.c");
        assert_eq!(locality(json!({"istio-locality": "x", "topology.istio.io/locality": "y/z"})), "y/z");
    }

    #[test]
    fn r5_12_pod_dns_needs_a_subdomain() {
        let dns = |spec| pod(json!({}), spec).pod_dns();
        assert_eq!(dns(json!({"hostname": "h"})), None);
        assert_eq!(dns(json!({"subdomain": "s"})), Some(("p".into(), "s".into())));
        assert_eq!(dns(json!({"subdomain": "s", "hostname": "h"})), Some(("h".into(), "s".into())));
    }

    #[test]
    fn r5_20_synthetic_labels() {
        // Z-10: which cluster it is of is not for a pod to say.
        let said = json!({"app": "x", "topology.istio.io/cluster": "other"});
        let workload = pod(json!({"labels": said}), json!({"nodeName": "n1"}));
        let labels: Vec<_> = workload.labels().iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            labels,
            [
                "app=x",
                "kubernetes.io/hostname=n1",
                "topology.istio.io/cluster=c1",
                "topology.istio.io/network=n-sys",
                "topology.istio.io/subzone=s",
                "topology.kubernetes.io/region=r",
                "topology.kubernetes.io/zone=z"
            ]
        );
        for (label, value) in workload.labels() {
            assert_eq!(workload.label(&label), Some(&*value));
        }
        assert_eq!(workload.label("absent"), None);
        let nowhere = converted(&ObjectKey::new("a", "p"), &Pod::default(), None, &ClusterNetwork::default());
        assert_eq!(nowhere.label(NETWORK_LABEL), Some(""), "the label is there even without a network");
        let bare = bare_workload(&test_context(), "10.0.0.9".parse().unwrap(), &ClusterNetwork::default());
        assert_eq!(bare.labels().len(), 2);
    }
}
