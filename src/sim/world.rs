//! Worlds: the objects a synthetic API server starts with, read from YAML or generated.

mod generate;

use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

pub(super) use self::generate::mix;
pub use self::generate::{GENERATED_NAMESPACE, Generate, generate, generated_pod};
use super::apiserver::kinds;

/// A world that cannot be used. *Fatal* for the start; nothing was applied.
#[derive(Debug, Error)]
pub enum WorldError {
    /// The file cannot be read.
    #[error("cannot read world file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A document is not YAML.
    #[error("{path}: document {document}, line {line}: {why}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Position among the documents, from 1.
        document: usize,
        /// Line in the file, from 1.
        line: u64,
        /// What the parser says.
        why: String,
    },
    /// A document is no object of a served kind.
    #[error("{path}: document {document}, starting at line {line}: {why}")]
    Object {
        /// The file.
        path: PathBuf,
        /// Position among the documents, from 1.
        document: usize,
        /// First line of the document in the file, from 1.
        line: u64,
        /// What is missing or unknown.
        why: String,
    },
    /// The text of `--generate` is not understood.
    #[error("cannot generate {text:?}: {why}; write services=N,endpoints=M[,seed=S]")]
    Generate {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads a file of YAML documents, each an object or a `List` of objects.
///
/// # Errors
/// [`WorldError`] naming file, document and line.
pub fn read(path: &Path) -> Result<Vec<Value>, WorldError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| WorldError::Read { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Parses YAML documents; `path` is only named in errors.
///
/// # Errors
/// [`WorldError::Syntax`] or [`WorldError::Object`].
pub fn parse(path: &Path, text: &str) -> Result<Vec<Value>, WorldError> {
    let mut objects = Vec::new();
    let mut number = 0;
    for document in documents(text) {
        let value: Value = serde_saphyr::from_str(&document.text).map_err(|error| WorldError::Syntax {
            path: path.to_owned(),
            document: number + 1,
            line: document.first_line - 1 + error.location().map_or(1, |location| location.line()),
            why: reason(&error.without_snippet().to_string()),
        })?;
        if value.is_null() {
            continue;
        }
        number += 1;
        let refuse = |why| WorldError::Object {
            path: path.to_owned(),
            document: number,
            line: document.first_line,
            why,
        };
        let found = match value {
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                match list.remove("items") {
                    Some(Value::Array(items)) => items,
                    _ => return Err(refuse("a List without items".into())),
                }
            }
            other => vec![other],
        };
        for object in found {
            check(&object).map_err(refuse)?;
            objects.push(object);
        }
    }
    Ok(objects)
}

/// The parser's words without its own line, which counts from the start of the document.
pub(super) fn reason(text: &str) -> String {
    let text = text.rsplit_once(" at line ").map_or(text, |(reason, _place)| reason);
    // A key is a text, and an empty one is nothing.
    if text.contains("null into string") { "a key is missing before `:`".to_owned() } else { text.to_owned() }
}

/// Whether no synthetic API server has such objects. Kinds of other groups than its own may come from a definition
/// that is applied before.
pub fn is_unknown(api_version: &str, kind: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let built_in = group.is_empty() || kinds::KINDS.iter().any(|kind| kind.group == group);
    built_in && kinds::of_object(api_version, kind).is_none()
}

/// Whether synthetic API servers have a resource of this name, such as `pods`.
pub fn has_resource(plural: &str) -> bool {
    kinds::KINDS.iter().any(|kind| kind.plural == plural)
}

fn check(object: &Value) -> Result<(), String> {
    let text = |field: &str| {
        let value = object.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        value.ok_or_else(|| format!("{field} is missing"))
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    if is_unknown(api_version, kind) {
        let known: Vec<String> =
            kinds::KINDS.iter().map(|k| format!("{} {}", k.api_version(), k.kind)).collect();
        return Err(format!("unknown kind {kind} of {api_version}; known are {}", known.join(", ")));
    }
    let metadata = &object["metadata"];
    if metadata["name"].as_str().is_none() && metadata["generateName"].as_str().is_none() {
        return Err(format!("{kind}: metadata.name is missing"));
    }
    Ok(())
}

struct Document {
    /// Line of the file on which the text begins, from 1.
    first_line: u64,
    text: String,
}

/// Splits at `---` in the first column, which YAML allows nowhere else.
fn documents(text: &str) -> Vec<Document> {
    let mut out = vec![Document { first_line: 1, text: String::new() }];
    for (at, line) in text.lines().enumerate() {
        let rest = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        let line = match rest {
            None => line,
            Some(rest) => {
                out.push(Document { first_line: at as u64 + 1, text: String::new() });
                rest
            }
        };
        if let Some(document) = out.last_mut() {
            document.text.push_str(line);
            document.text.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Vec<Value>, WorldError> {
        parse(Path::new("world.yaml"), text)
    }

    #[test]
    fn documents_and_lists_are_read_in_order() {
        let world = parse_text(
            "# a comment only\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n--- \napiVersion: v1\nkind: List\n\
             items:\n- {apiVersion: v1, kind: Pod, metadata: {name: b}}\n- {apiVersion: v1, kind: Secret, metadata: {name: c}}\n---\n",
        )
        .unwrap();
        let names: Vec<&str> = world.iter().filter_map(|o| o["metadata"]["name"].as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn errors_name_file_document_and_line() {
        let good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n";
        let syntax = parse_text(&format!("{good}apiVersion: v1\nkind: [\n")).unwrap_err().to_string();
        assert!(syntax.starts_with("world.yaml: document 2, line "), "{syntax}");
        assert!(!syntax.contains(" at line "), "{syntax}");
        let kind = parse_text(&format!("{good}apiVersion: v1\nkind: Widget\n")).unwrap_err().to_string();
        assert!(
            kind.starts_with("world.yaml: document 2, starting at line 4: unknown kind Widget of v1"),
            "{kind}"
        );
        let nameless = parse_text("apiVersion: v1\nkind: Pod\n").unwrap_err().to_string();
        assert!(nameless.contains("metadata.name is missing"), "{nameless}");
    }

    #[test]
    fn a_syntax_error_is_on_the_line_of_the_file() {
        let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: x: y\n";
        match parse_text(text).unwrap_err() {
            WorldError::Syntax { document, line, .. } => assert_eq!((document, line), (2, 6)),
            other => panic!("unexpected {other}"),
        }
    }
}
