//! The two forms of an answer: objects as they are, or the table `kubectl get` prints.

use bytes::Bytes;
use serde_json::{Value, json};

use super::columns::Column;
use super::error::ApiError;
use super::kinds::Kind;
use super::object::{Change, Stored};

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
    pub(super) fn line(self, kind: &Kind, stored: &Stored, change: Change) -> Bytes {
        match self {
            Self::Objects => stored.line(change),
            Self::Table(include) => {
                let metadata = json!({"resourceVersion": stored.version.to_string()});
                let table = table(kind, std::iter::once(&*stored.value), include, &metadata);
                Stored::new(table, stored.version, change).line(change)
            }
        }
    }

    /// A bookmark's object in this form.
    pub(super) fn bookmark(self, kind: &Kind, object: Value) -> Value {
        match self {
            Self::Objects => object,
            Self::Table(include) => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                table(kind, std::iter::once(&object), include, &metadata)
            }
        }
    }
}

/// A table of `objects`, in their order.
pub(super) fn table<'a>(
    kind: &Kind,
    objects: impl Iterator<Item = &'a Value>,
    include: Include,
    metadata: &Value,
) -> Value {
    let column = |name: &str, cell_type: &str, format: &str| json!({"name": name, "type": cell_type, "format": format, "description": "", "priority": 0});
    let mut definitions = vec![column("Name", "string", "name")];
    definitions.extend(kind.columns.iter().map(|c: &Column| column(c.name, c.cell_type, "")));
    definitions.push(column("Age", "string", ""));
    let now = jiff::Timestamp::now();
    let rows: Vec<Value> = objects
        .map(|object| {
            let mut cells = vec![object["metadata"]["name"].clone()];
            cells.extend(kind.columns.iter().map(|column| (column.cell)(object)));
            cells.push(json!(age(&object["metadata"]["creationTimestamp"], now)));
            let mut row = json!({"cells": cells});
            match include {
                Include::None => {}
                Include::Object => row["object"] = object.clone(),
                Include::Metadata => {
                    row["object"] = json!({
                        "kind": "PartialObjectMetadata",
                        "apiVersion": "meta.k8s.io/v1",
                        "metadata": object["metadata"],
                    });
                }
            }
            row
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

/// Time since `created` in kubectl's short form: `42s`, `5m`, `3h`, `12d`.
fn age(created: &Value, now: jiff::Timestamp) -> String {
    let Some(created) = created.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
        return "<unknown>".into();
    };
    match now.as_second().saturating_sub(created.as_second()).max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
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
        let table = table(&SERVICES, std::iter::once(&service), Include::Metadata, &json!({}));
        let columns = table["columnDefinitions"].as_array().unwrap().len();
        assert_eq!(table["rows"][0]["cells"].as_array().unwrap().len(), columns);
        assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "a");
    }

    #[test]
    fn ages_are_short() {
        let now: jiff::Timestamp = "2024-01-03T00:00:00Z".parse().unwrap();
        for (created, want) in [
            ("2024-01-02T23:59:30Z", "30s"),
            ("2024-01-02T23:00:00Z", "60m"),
            ("2024-01-02T00:00:00Z", "24h"),
            ("2023-12-01T00:00:00Z", "33d"),
        ] {
            assert_eq!(age(&json!(created), now), want);
        }
        assert_eq!(age(&Value::Null, now), "<unknown>");
    }
}
