//! One's own world: YAML files of Kubernetes objects, added to the lab's.

use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use crate::sim::world::{is_unknown, reason};

/// Annotation that puts an object into one cluster; without it, it goes into all.
const CLUSTER: &str = "tombolo.dev/cluster";
/// The namespace of objects that name none, as for kubectl.
const DEFAULT_NAMESPACE: &str = "default";

/// Why a file cannot be a lab's world. All are *Fatal* to the lab's start.
#[derive(Debug, Error)]
pub enum WorldError {
    /// The file could not be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A document is not YAML.
    #[error("{at}: {problem}")]
    Syntax {
        /// File, line and document.
        at: String,
        /// What the parser says.
        problem: String,
    },
    /// A document is not a Kubernetes object.
    #[error("{at}: {problem}")]
    Object {
        /// File, line, document and object.
        at: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// One object of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct WorldObject {
    /// File, line, document and object, for errors.
    pub at: String,
    /// The cluster it goes to; none: all.
    pub cluster: Option<String>,
    /// The object, its namespace filled in.
    pub object: Value,
}

/// Reads a file of any number of documents; objects of kind List count as what they contain.
///
/// # Errors
/// [`WorldError`].
pub fn read(path: &Path) -> Result<Vec<WorldObject>, WorldError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| WorldError::Read { path: path.to_owned(), source })?;
    parse(&path.display().to_string(), &text)
}

/// Whether every object goes to a cluster there is.
///
/// # Errors
/// [`WorldError::Object`].
pub fn check_clusters(world: &[WorldObject], clusters: &[String]) -> Result<(), WorldError> {
    let stray = world
        .iter()
        .find_map(|one| Some((one, one.cluster.as_ref()?)).filter(|(_, name)| !clusters.contains(name)));
    stray.map_or(Ok(()), |(one, name)| {
        Err(WorldError::Object {
            at: one.at.clone(),
            problem: format!("annotation {CLUSTER} names {name:?}; the lab has {}", clusters.join(", ")),
        })
    })
}

/// Whether synthetic API servers have every object's kind.
///
/// # Errors
/// [`WorldError::Object`].
pub fn check_kinds(world: &[WorldObject]) -> Result<(), WorldError> {
    let text = |one: &WorldObject, key: &str| one.object[key].as_str().unwrap_or_default().to_owned();
    let unknown = world.iter().find(|one| is_unknown(&text(one, "apiVersion"), &text(one, "kind")));
    unknown.map_or(Ok(()), |one| {
        let (version, kind) = (text(one, "apiVersion"), text(one, "kind"));
        let problem = format!("the lab's API servers have no kind {kind} in {version}");
        Err(WorldError::Object { at: one.at.clone(), problem })
    })
}

fn parse(file: &str, text: &str) -> Result<Vec<WorldObject>, WorldError> {
    let mut objects = Vec::new();
    for (number, (line, document)) in (1..).zip(documents(text)) {
        let at = format!("{file}:{line}: document {number}");
        let parsed: Value = serde_saphyr::from_str(document).map_err(|error| WorldError::Syntax {
            at: at.clone(),
            problem: reason(&error.without_snippet().to_string()),
        })?;
        match (&parsed["kind"], &parsed["items"]) {
            _ if parsed.is_null() => {}
            (Value::String(kind), Value::Array(items)) if kind.ends_with("List") => {
                for (item, object) in (1..).zip(items) {
                    objects.push(world_object(&format!("{at}, item {item}"), object)?);
                }
            }
            _ => objects.push(world_object(&at, &parsed)?),
        }
    }
    Ok(objects)
}

/// The documents of a stream, each with the number of its first line.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first, mut offset) = (0, 1, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let marker = line.trim_end();
        if marker == "---" || marker.starts_with("--- ") {
            documents.push((first, &text[start..offset]));
            (start, first) = (offset + line.len(), number + 1);
        }
        offset += line.len();
    }
    documents.push((first, &text[start..]));
    documents.retain(|(_, document)| document.lines().any(has_content));
    documents
}

fn has_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#') && !line.starts_with('%') && line != "..."
}

fn world_object(at: &str, object: &Value) -> Result<WorldObject, WorldError> {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let metadata = &object["metadata"];
    let (kind, name) = (text(&object["kind"]), text(&metadata["name"]));
    let wrong =
        |at: &str, problem: &str| WorldError::Object { at: at.to_owned(), problem: problem.to_owned() };
    let kind = kind.ok_or_else(|| wrong(at, "it has no kind: is it a Kubernetes object?"))?;
    let name = name.ok_or_else(|| wrong(&format!("{at}, {kind}"), "it has no metadata.name"))?;
    let namespace = text(&metadata["namespace"]);
    let full = namespace.as_ref().map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"));
    let at = format!("{at}, {kind} {full}");
    if text(&object["apiVersion"]).is_none() {
        return Err(wrong(&at, "it has no apiVersion"));
    }
    let cluster = text(&metadata["annotations"][CLUSTER]);
    let mut object = object.clone();
    if namespace.is_none() && kind != "Namespace" {
        // Ignored by kinds without namespaces: the lab drops it when it learns where they live.
        object["metadata"]["namespace"] = Value::from(DEFAULT_NAMESPACE);
    }
    Ok(WorldObject { at, cluster, object })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# A shop.
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: cart}
---
# Nothing here.
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: cart
  annotations: {tombolo.dev/cluster: west}
";

    #[test]
    fn documents_are_objects_with_a_place_in_the_file() {
        let objects = parse("shop.yaml", FILE).unwrap();
        assert_eq!(objects.len(), 2);
        assert_eq!(objects[0].at, "shop.yaml:3: document 1, Service shop/cart");
        assert_eq!(objects[0].cluster, None);
        assert_eq!(objects[1].at, "shop.yaml:9: document 2, Deployment cart");
        assert_eq!(objects[1].cluster.as_deref(), Some("west"));
        assert_eq!(objects[1].object["metadata"]["namespace"], "default");
    }

    #[test]
    fn lists_count_as_their_items() {
        let text =
            "kind: List\napiVersion: v1\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n";
        let objects = parse("l.yaml", text).unwrap();
        assert_eq!(objects[0].at, "l.yaml:1: document 1, item 1, ConfigMap a");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let said = |text: &str| parse("w.yaml", text).unwrap_err().to_string();
        assert!(said("kind: [").starts_with("w.yaml:1: document 1: "));
        assert_eq!(said(": x"), "w.yaml:1: document 1: a key is missing before `:`");
        assert_eq!(said("\n---\na: 1"), "w.yaml:3: document 1: it has no kind: is it a Kubernetes object?");
        assert_eq!(said("kind: Pod\napiVersion: v1"), "w.yaml:1: document 1, Pod: it has no metadata.name");
        assert_eq!(
            said("kind: Pod\nmetadata: {name: a}"),
            "w.yaml:1: document 1, Pod a: it has no apiVersion"
        );
    }

    #[test]
    fn an_object_for_a_cluster_that_is_not_there_is_refused() {
        let objects = parse("shop.yaml", FILE).unwrap();
        let clusters = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        check_clusters(&objects, &clusters(&["east", "west"])).unwrap();
        let error = check_clusters(&objects, &clusters(&["east"])).unwrap_err().to_string();
        assert!(error.contains("Deployment cart") && error.contains("\"west\""), "{error}");
    }

    #[test]
    fn a_kind_that_no_api_server_has_is_refused() {
        check_kinds(&parse("shop.yaml", FILE).unwrap()).unwrap();
        check_kinds(&parse("x.yaml", "{apiVersion: a.example/v1, kind: Foo, metadata: {name: a}}").unwrap())
            .unwrap();
        let foo = parse("x.yaml", "{apiVersion: v1, kind: Foo, metadata: {name: a}}").unwrap();
        let error = check_kinds(&foo).unwrap_err().to_string();
        assert!(error.contains("x.yaml:1") && error.ends_with("no kind Foo in v1"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nonexistent/shop.yaml")).unwrap_err().to_string();
        assert_eq!(error, "cannot read /nonexistent/shop.yaml");
    }
}
