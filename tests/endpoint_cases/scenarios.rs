//! Cases in words: each is a test of its own, whose name begins with the case's id.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::shape;

/// The names of every test in the sources.
pub(crate) struct Names(BTreeSet<String>);

/// Scans `src` and `tests`.
pub(crate) fn names() -> Names {
    let mut names = BTreeSet::new();
    for directory in ["src", "tests"] {
        scan(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut names);
    }
    Names(names)
}

impl Names {
    /// The test of a case.
    pub(crate) fn of(&self, id: &str) -> Option<&str> {
        let prefix = format!("{}_", id.replace('-', "_"));
        self.0.iter().find(|name| name.starts_with(&prefix)).map(String::as_str)
    }

    /// How the name of a case's test begins.
    pub(crate) fn prefix(&self, case: &Value) -> String {
        shape::id(case).replace('-', "_")
    }
}

fn scan(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).expect("sources are readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            scan(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
            names.extend(tests(&text));
        }
    }
}

/// The names of the functions with a test attribute above them.
fn tests(text: &str) -> Vec<String> {
    let mut is_test = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test") || line.starts_with("#[tokio::test");
        } else if !line.is_empty() && !line.starts_with("//") {
            names.extend(function(line).filter(|_| is_test));
            is_test = false;
        }
    }
    names
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<String> {
    let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}
