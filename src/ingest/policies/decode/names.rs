//! Hosts, exports and selectors, which several kinds have.

use std::collections::BTreeSet;

use super::spelling::{HOST, is_label};
use super::{At, Terms};
use crate::model::policy::{HostPattern, PolicyMeta, WorkloadSelector};
use crate::model::{ExportTo, Labels, Name};

/// A host, in lower case. A short name means a service of the object's namespace; one with a dot or a wildcard stays.
pub(super) fn host(at: &At<'_>, meta: &PolicyMeta, terms: &Terms) -> Result<HostPattern, String> {
    let text = at.filled()?;
    checked_host(at, text)?;
    let text = text.to_ascii_lowercase();
    if text.contains('.') || text.contains('*') {
        return Ok(HostPattern::new(text));
    }
    Ok(HostPattern::new(format!("{text}.{}.svc.{}", meta.id.namespace, terms.domain)))
}

/// That a text is a host name, `*.suffix`, or `*`.
pub(super) fn checked_host(at: &At<'_>, text: &str) -> Result<(), String> {
    if HOST.takes(text) { Ok(()) } else { at.wrong(HOST.allowed) }
}

/// Field `exportTo`: `.`, `*`, `~` or namespaces; without any, what the mesh says for the kind.
pub(super) fn export_to(spec: &At<'_>, namespace: &Name, otherwise: &ExportTo) -> Result<ExportTo, String> {
    let entries = spec.list("exportTo", |entry| {
        let text = entry.filled()?;
        let known = matches!(text, "." | "*" | "~") || is_label(text);
        if known { Ok(text.to_owned()) } else { entry.wrong("`.`, `*`, `~` or the name of a namespace") }
    })?;
    if entries.is_empty() {
        return Ok(in_namespace(otherwise, namespace));
    }
    exported(entries.iter().map(String::as_str), namespace, spec)
}

/// What some entries of an `exportTo` mean; `own` is what `.` stands for.
pub(super) fn exported<'t>(
    entries: impl Iterator<Item = &'t str>,
    own: &Name,
    at: &At<'_>,
) -> Result<ExportTo, String> {
    let entries: BTreeSet<_> = entries.collect();
    if entries.contains("*") {
        return Ok(ExportTo::Everywhere);
    }
    if entries.contains("~") {
        let alone = entries.len() == 1;
        let mixed = || Err(format!("{at}: `~` is not allowed beside other entries"));
        return if alone { Ok(ExportTo::Nowhere) } else { mixed() };
    }
    let name = |entry: &str| if entry == "." { own.clone() } else { entry.into() };
    Ok(ExportTo::Namespaces(entries.into_iter().map(name).collect()))
}

/// The mesh's default, seen from a namespace: the empty name stands for that one.
fn in_namespace(default: &ExportTo, namespace: &Name) -> ExportTo {
    let ExportTo::Namespaces(names) = default else {
        return default.clone();
    };
    let resolved = |name: &Name| if name.is_empty() { namespace.clone() } else { name.clone() };
    ExportTo::Namespaces(names.iter().map(resolved).collect())
}

/// A workload selector whose labels are in the field `labels` (`matchLabels` for security kinds).
pub(super) fn selector(spec: &At<'_>, name: &str, labels: &str) -> Result<WorkloadSelector, String> {
    let selector = spec.read(name, |selector| {
        selector.object()?;
        Ok(selector.read(labels, self::labels)?.unwrap_or_default())
    })?;
    Ok(selector.map(WorkloadSelector::new).unwrap_or_default())
}

/// Whether Kubernetes takes a text as the value of a label.
fn is_label_value(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= 63 && bytes.iter().copied().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

/// Whether Kubernetes takes a text as the name of a label, perhaps with a prefix.
fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').unwrap_or(("x", text));
    !name.is_empty() && is_label_value(name) && HOST.takes(prefix)
}

/// Labels that something must have.
pub(super) fn labels(at: &At<'_>) -> Result<Labels, String> {
    let pairs = at.entries(|key, value| {
        let text = value.text()?;
        if key.is_empty() || key.contains('*') || text.contains('*') {
            return value.wrong("labels are compared as they are: no empty key, no wildcards");
        }
        if !is_label_key(key) || !is_label_value(text) {
            value.tell("no object can have such a label: nothing is selected");
        }
        Ok((key.into(), text.into()))
    })?;
    Ok(pairs.into_iter().collect())
}
