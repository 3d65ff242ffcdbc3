//! The two forms of an answer: objects as they are, or the table `kubectl get` prints.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::columns::Column;
use super::error::ApiError;
use super::kinds::Kind;
use super::object::{Change, Stored, event_line};

/// The form a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The objects themselves.
    Objects,
    /// `meta.k8s.io/v1` Table with this much of each object inside.
    Table(Include),
}

/// How much of an object a table row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    None,
    Metadata,
    Object,
}

impl Form {
    /// Chooses from an `Accept` header; the first type this server has wins.
    ///
    /// # Errors
    /// [`ApiError::NotAcceptable`] if none is served.
    pub(super) fn negotiate(accept: &str, include: &str) -> Result<Self, ApiError> {
        if accept.trim().is_empty() {
            return Ok(Self::Objects);
        }
        let include = match include {
            "None" => Include::None,
            "Object" => Include::Object,
            _ => Include::Metadata,
        };
        accept
            .split(',')
            .find_map(|offer| {
                let mut parts = offer.split(';').map(str::trim);
                let media = parts.next().unwrap_or_default();
                if !matches!(media, "application/json" | "application/*" | "*/*") {
                    return None;
                }
                let parameters: Vec<&str> = parts.collect();
                let shape = parameters.iter().find_map(|p| p.strip_prefix("as="));
                match shape {
                    None => Some(Self::Objects),
                    Some("Table") if parameters.contains(&"v=v1") => Some(Self::Table(include)),
                    Some(_) => None,
                }
            })
            .ok_or(ApiError::NotAcceptable)
    }

    /// One watch event in this form.
    pub(super) fn line(self, kind: &Kind, stored: &Arc<Stored>, change: Change) -> Bytes {
        let stored = stored.seen_as(kind);
        match self {
            Self::Objects => stored.line(change),
            Self::Table(include) => {
                let metadata = json!({"resourceVersion": stored.version.to_string()});
                let table = table(kind, std::iter::once(stored.value()), include, &metadata);
                event_line(change.name(), &table)
            }
        }
    }

    /// A bookmark's object in this form.
    pub(super) fn bookmark(self, kind: &Kind, object: Value) -> Value {
        match self {
            Self::Objects => object,
            Self::Table(include) => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                table(kind, std::iter::once(object), include, &metadata)
            }
        }
    }
}

/// A table of `objects`, in their order.
pub(super) fn table(
    kind: &Kind,
    objects: impl Iterator<Item = Value>,
    include: Include,
    metadata: &Value,
) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": kind.columns.iter().map(definition).collect::<Vec<_>>(),
        "rows": objects.map(|object| row(kind, object, include)).collect::<Vec<_>>(),
    })
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.cell_type,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

fn row(kind: &Kind, object: Value, include: Include) -> Value {
    let cells: Vec<Value> = kind.columns.iter().map(|column| column.cell(&object)).collect();
    match include {
        Include::None => json!({"cells": cells}),
        Include::Object => json!({"cells": cells, "object": object}),
        Include::Metadata => json!({"cells": cells, "object": {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": object["metadata"],
        }}),
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::SERVICES;
    use super::*;

    #[test]
    fn the_first_served_type_is_chosen() {
        let table = Form::Table(Include::Metadata);
        for (accept, want) in [
            ("", Ok(Form::Objects)),
            ("*/*", Ok(Form::Objects)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Ok(table)),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json", Ok(Form::Objects)),
            ("application/vnd.kubernetes.protobuf,application/json", Ok(Form::Objects)),
            ("application/vnd.kubernetes.protobuf", Err(ApiError::NotAcceptable)),
        ] {
            assert_eq!(Form::negotiate(accept, ""), want, "{accept}");
        }
    }

    #[test]
    fn rows_have_one_cell_per_column() {
        let service =
            json!({"metadata": {"name": "a", "creationTimestamp": "2020-01-01T00:00:00Z"}, "spec": {}});
        let table = table(&SERVICES, std::iter::once(service), Include::Metadata, &json!({}));
        let columns = table["columnDefinitions"].as_array().unwrap().len();
        assert_eq!(table["rows"][0]["cells"].as_array().unwrap().len(), columns);
        assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "a");
    }
}
