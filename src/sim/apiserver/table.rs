//! The table `kubectl get` prints.

use serde_json::{Value, json};

use super::columns::Column;
use super::kinds::Kind;
use super::media;

/// How much of an object a table row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    None,
    Metadata,
    Object,
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
        Include::Metadata => json!({"cells": cells, "object": media::partial(&object)}),
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::SERVICES;
    use super::*;

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
