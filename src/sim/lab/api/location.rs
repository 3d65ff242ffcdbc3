//! Where objects live: paths of the Kubernetes API. Pure.

use serde_json::Value;

use super::super::LabError;

/// Whether a kind's objects live in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Cluster,
    Namespaced,
}

/// Kind, prefix, plural, scope of what every API server has.
const KINDS: [(&str, &str, &str, Scope); 14] = [
    ("Namespace", "/api/v1", "namespaces", Scope::Cluster),
    ("Node", "/api/v1", "nodes", Scope::Cluster),
    ("Pod", "/api/v1", "pods", Scope::Namespaced),
    ("Service", "/api/v1", "services", Scope::Namespaced),
    ("Secret", "/api/v1", "secrets", Scope::Namespaced),
    ("ConfigMap", "/api/v1", "configmaps", Scope::Namespaced),
    ("ServiceAccount", "/api/v1", "serviceaccounts", Scope::Namespaced),
    ("Deployment", "/apis/apps/v1", "deployments", Scope::Namespaced),
    ("EndpointSlice", "/apis/discovery.k8s.io/v1", "endpointslices", Scope::Namespaced),
    ("Lease", "/apis/coordination.k8s.io/v1", "leases", Scope::Namespaced),
    ("ClusterRole", "/apis/rbac.authorization.k8s.io/v1", "clusterroles", Scope::Cluster),
    ("ClusterRoleBinding", "/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", Scope::Cluster),
    (
        "CustomResourceDefinition",
        "/apis/apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        Scope::Cluster,
    ),
    ("Event", "/api/v1", "events", Scope::Namespaced),
];

/// An object or a collection at an API server: from a path, or from (kind, namespace, name).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(Result<Found, String>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    collection: String,
    name: String,
}

impl Location {
    /// Where `object` lives, if its kind is one of those every server has.
    pub(super) fn of(object: &Value) -> Option<Self> {
        let kind = object["kind"].as_str()?;
        let (_, prefix, plural, scope) = KINDS.iter().find(|(known, ..)| *known == kind)?;
        let group = prefix.trim_start_matches("/apis/").trim_start_matches("/api/");
        (object["apiVersion"] == group).then(|| Self::at(prefix, plural, *scope, object))
    }

    /// Where `object` lives by what the server says about the kinds of its group and version.
    pub(super) fn discovered(object: &Value, kinds: &Value) -> Option<Self> {
        let kind = &object["kind"];
        let resources = kinds["resources"].as_array()?;
        let plain = |resource: &&Value| !resource["name"].as_str().unwrap_or("/").contains('/');
        let resource = resources.iter().filter(plain).find(|resource| resource["kind"] == *kind)?;
        let scope = if resource["namespaced"] == true { Scope::Namespaced } else { Scope::Cluster };
        let version = object["apiVersion"].as_str()?;
        let prefix = format!("{}/{version}", if version.contains('/') { "/apis" } else { "/api" });
        Some(Self::at(&prefix, resource["name"].as_str()?, scope, object))
    }

    fn at(prefix: &str, plural: &str, scope: Scope, object: &Value) -> Self {
        let metadata = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
        let namespace = Some(metadata("namespace")).filter(|name| !name.is_empty()).unwrap_or("default");
        let collection = match scope {
            Scope::Cluster => format!("{prefix}/{plural}"),
            Scope::Namespaced => format!("{prefix}/namespaces/{namespace}/{plural}"),
        };
        Self(Ok(Found { collection, name: metadata("name").to_owned() }))
    }

    /// The path of the object, or of the collection if no name was given.
    pub(super) fn path(&self) -> Result<String, LabError> {
        let found = self.found()?;
        if found.name.is_empty() {
            return Ok(found.collection.clone());
        }
        Ok(format!("{}/{}", found.collection, found.name))
    }

    /// The path of the collection.
    pub(super) fn collection(&self) -> Result<String, LabError> {
        self.found().map(|found| found.collection.clone())
    }

    /// The namespace it is in, if it is in one.
    pub(super) fn namespace(&self) -> Option<&str> {
        let collection = &self.0.as_ref().ok()?.collection;
        collection.split_once("/namespaces/")?.1.split('/').next()
    }

    fn found(&self) -> Result<&Found, LabError> {
        self.0.as_ref().map_err(|kind| LabError::Missing {
            what: format!("the lab does not know where objects of kind {kind} live"),
            hint: "name their path instead".to_owned(),
        })
    }
}

impl From<&str> for Location {
    fn from(path: &str) -> Self {
        Self(Ok(Found { collection: path.to_owned(), name: String::new() }))
    }
}

impl From<String> for Location {
    fn from(path: String) -> Self {
        Self(Ok(Found { collection: path, name: String::new() }))
    }
}

/// Kind, namespace (empty: all, or none), name (empty: the collection).
impl From<(&str, &str, &str)> for Location {
    fn from((kind, namespace, name): (&str, &str, &str)) -> Self {
        let Some((_, prefix, plural, scope)) = KINDS.iter().find(|(known, ..)| *known == kind) else {
            return Self(Err(kind.to_owned()));
        };
        let collection = match scope {
            Scope::Namespaced if !namespace.is_empty() => format!("{prefix}/namespaces/{namespace}/{plural}"),
            _ => format!("{prefix}/{plural}"),
        };
        Self(Ok(Found { collection, name: name.to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_found_by_kind_and_name() {
        let path = |kind, namespace, name| Location::from((kind, namespace, name)).path().unwrap();
        assert_eq!(path("Pod", "sample", "x"), "/api/v1/namespaces/sample/pods/x");
        assert_eq!(path("Deployment", "", ""), "/apis/apps/v1/deployments");
        assert_eq!(path("Node", "", "n"), "/api/v1/nodes/n");
        assert!(Location::from(("Gizmo", "a", "b")).path().unwrap_err().to_string().contains("Gizmo"));
    }

    #[test]
    fn a_kind_of_the_same_name_in_another_group_is_another_kind() {
        let knative =
            json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "a"}});
        assert_eq!(Location::of(&knative), None);
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}});
        let path = Location::of(&service).unwrap().path().unwrap();
        assert_eq!(path, "/api/v1/namespaces/default/services/a");
    }

    #[test]
    fn custom_kinds_are_where_the_server_says() {
        let rule = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"namespace": "sample", "name": "r"},
        });
        let kinds = json!({"resources": [
            {"name": "destinationrules/status", "kind": "DestinationRule", "namespaced": true},
            {"name": "destinationrules", "kind": "DestinationRule", "namespaced": true},
        ]});
        let place = Location::discovered(&rule, &kinds).unwrap();
        let path = "/apis/networking.istio.io/v1/namespaces/sample/destinationrules";
        assert_eq!(place.collection().unwrap(), path);
        assert_eq!(Location::discovered(&rule, &json!({"resources": []})), None);
    }
}
