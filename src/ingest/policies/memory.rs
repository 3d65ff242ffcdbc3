//! Policies over a restart: what was in use, as one text in the snapshot of the config cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::form::FORMS;
use super::status::Kind;
use crate::ingest::objects::{Document, ObjectKey};
use crate::model::Name;
use crate::model::policy::PolicyKind;

/// One object, as it was told.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    kind: String,
    namespace: Name,
    name: Name,
    uid: Name,
    created: i64,
    spec: String,
    /// Absent in what earlier versions wrote.
    #[serde(default, skip_serializing_if = "Name::is_empty")]
    dry_run: Name,
}

/// What is in use of every kind, by kind and key. Cost ∝ all policies.
pub(super) fn written(kinds: &BTreeMap<PolicyKind, Kind>) -> Arc<str> {
    let kept = kinds.iter().flat_map(|(kind, row)| {
        row.shelf.kept().map(|(key, uid, document)| Kept {
            kind: kind.name().to_owned(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: uid.clone(),
            created: document.created,
            spec: document.spec.to_string(),
            dry_run: document.dry_run.clone(),
        })
    });
    let kept: Vec<_> = kept.collect();
    // Texts and numbers only.
    serde_json::to_string(&kept).unwrap_or_default().into()
}

/// Objects with their uids.
pub(super) type Recalled = Vec<(ObjectKey, Name, Document)>;

/// What was written, by kind. Kinds that are not watched any more are left out.
///
/// # Errors
/// It is no such text.
pub(super) fn read(text: &str) -> serde_json::Result<BTreeMap<PolicyKind, Recalled>> {
    let mut recalled: BTreeMap<_, Recalled> = BTreeMap::new();
    for kept in serde_json::from_str::<Vec<Kept>>(text)? {
        let Some(form) = FORMS.iter().find(|form| form.kind.name() == kept.kind) else {
            continue;
        };
        let key = ObjectKey::new(kept.namespace, kept.name);
        let document = Document { created: kept.created, spec: kept.spec.into(), dry_run: kept.dry_run };
        recalled.entry(form.kind).or_default().push((key, kept.uid, document));
    }
    Ok(recalled)
}
