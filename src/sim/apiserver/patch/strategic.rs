//! Strategic merge patch: like a merge patch, but lists with a key merge item by item.
//!
//! Directives: `$patch: replace | delete`, `$retainKeys`, `$deleteFromPrimitiveList/<list>` and
//! `$setElementOrder/<list>`. Merged lists keep the order of the patch for the items it names and the
//! order of the object for the others.

use serde_json::{Map, Value};

use super::super::error::ApiError;
use super::order;
use super::shape::{Field, PLAIN, Shape};

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// Applies `patch` to `target`.
///
/// # Errors
/// [`ApiError::BadRequest`] for a malformed directive, [`ApiError::Unprocessable`] for a list item without
/// its key.
pub(super) fn apply(
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    shape: &'static Shape,
) -> Result<(), ApiError> {
    match patch.get(DIRECTIVE).map(|directive| directive.as_str()) {
        None => {}
        Some(Some("replace")) => {
            *target = cleaned_map(patch);
            return Ok(());
        }
        Some(Some("delete")) => {
            target.clear();
            return Ok(());
        }
        Some(other) => return Err(bad_directive(other)),
    }
    retain(target, patch)?;
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            delete_from(target, field, value)?;
        } else if !key.starts_with('$') {
            apply_field(target, key, value, patch.get(&format!("{ORDER}{key}")), shape)?;
        }
    }
    for (key, order) in patch {
        let Some(field) = key.strip_prefix(ORDER) else { continue };
        // With a patch list of the same name the order is already applied.
        if !patch.contains_key(field) {
            let list = target.get_mut(field).and_then(Value::as_array_mut);
            let wanted = order_list(order)?;
            if let Some(list) = list {
                let server = list.clone();
                order::arrange(list, wanted, &server, key_of(shape.field(field)));
            }
        }
    }
    Ok(())
}

fn apply_field(
    target: &mut Map<String, Value>,
    key: &str,
    value: &Value,
    order: Option<&Value>,
    shape: &'static Shape,
) -> Result<(), ApiError> {
    let field = shape.field(key);
    match (target.get_mut(key), value) {
        (_, Value::Null) => {
            target.remove(key);
        }
        (Some(Value::Object(current)), Value::Object(patch)) => {
            let below = match field {
                Field::Object(below) => below,
                _ => &PLAIN,
            };
            apply(current, patch, below)?;
        }
        (Some(Value::Array(current)), Value::Array(patch)) => merge_list(current, patch, order, field)?,
        // New, or of another type than before.
        (_, value) => {
            let mut value = cleaned(value);
            if let (Some(order), Value::Array(list)) = (order, &mut value) {
                order::arrange(list, order_list(order)?, &[], key_of(field));
            }
            target.insert(key.to_owned(), value);
        }
    }
    Ok(())
}

fn merge_list(
    current: &mut Vec<Value>,
    patch: &[Value],
    order: Option<&Value>,
    field: Field,
) -> Result<(), ApiError> {
    let server = current.clone();
    match field {
        Field::List(key, below) | Field::Union(key, below) => {
            let Some(named) = merge_items(current, patch, key, below)? else {
                return Ok(());
            };
            order::arrange(current, &named, &server, Some(key));
        }
        Field::Set => {
            for value in patch {
                if !current.contains(value) {
                    current.push(value.clone());
                }
            }
            order::arrange(current, patch, &server, None);
        }
        Field::Object(_) | Field::Retain | Field::Plain => *current = patch.iter().map(cleaned).collect(),
    }
    if let (Some(order), Field::List(..) | Field::Union(..) | Field::Set) = (order, field) {
        order::arrange(current, order_list(order)?, &server, key_of(field));
    }
    Ok(())
}

/// Merges the items of `patch` into `current` by `key` and returns those it named; `None` when a
/// `$patch: replace` among them replaced the list.
fn merge_items(
    current: &mut Vec<Value>,
    patch: &[Value],
    key: &str,
    below: &'static Shape,
) -> Result<Option<Vec<Value>>, ApiError> {
    let mut named = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let directive = item.get(DIRECTIVE).map(Value::as_str);
        match directive {
            None => named.push(item.clone()),
            Some(Some("replace")) => replace = true,
            Some(Some("delete")) => {
                let wanted = key_value(item, key)?;
                current.retain(|other| other.get(key) != Some(wanted));
            }
            Some(other) => return Err(bad_directive(other)),
        }
    }
    if replace {
        *current = named.iter().map(cleaned).collect();
        return Ok(None);
    }
    for item in &named {
        let wanted = key_value(item, key)?;
        let found = current.iter_mut().find(|other| other.get(key) == Some(wanted));
        match (found.and_then(Value::as_object_mut), item.as_object()) {
            (Some(existing), Some(item)) => apply(existing, item, below)?,
            _ => current.push(cleaned(item)),
        }
    }
    Ok(Some(named))
}

fn key_value<'a>(item: &'a Value, key: &str) -> Result<&'a Value, ApiError> {
    item.get(key).ok_or_else(|| {
        ApiError::Unprocessable(format!("map: {item} does not contain declared merge key: {key}"))
    })
}

fn key_of(field: Field) -> Option<&'static str> {
    match field {
        Field::List(key, _) | Field::Union(key, _) => Some(key),
        _ => None,
    }
}

/// `$retainKeys`: what the patch does not list goes.
fn retain(target: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), ApiError> {
    let Some(keys) = patch.get(RETAIN) else {
        return Ok(());
    };
    let malformed = || ApiError::BadRequest("invalid patch format of retainKeys".into());
    let keys = keys.as_array().ok_or_else(malformed)?;
    let listed = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    if patch.iter().any(|(name, value)| !name.starts_with('$') && !value.is_null() && !listed(name)) {
        return Err(malformed());
    }
    target.retain(|name, _| listed(name));
    Ok(())
}

fn delete_from(target: &mut Map<String, Value>, field: &str, gone: &Value) -> Result<(), ApiError> {
    let gone = gone
        .as_array()
        .ok_or_else(|| ApiError::BadRequest("invalid patch format of primitive list".into()))?;
    if let Some(list) = target.get_mut(field).and_then(Value::as_array_mut) {
        list.retain(|value| !gone.contains(value));
    }
    Ok(())
}

fn order_list(order: &Value) -> Result<&[Value], ApiError> {
    order
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| ApiError::BadRequest("invalid patch format of setElementOrder list".into()))
}

fn bad_directive(directive: Option<&str>) -> ApiError {
    ApiError::BadRequest(format!(
        "unknown patch type {:?}: use \"replace\" or \"delete\"",
        directive.unwrap_or("(not text)")
    ))
}

/// A value that is new to the object: without directives and without nulls in objects.
fn cleaned(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(cleaned_map(map)),
        Value::Array(list) => Value::Array(list.iter().map(cleaned).collect()),
        other => other.clone(),
    }
}

fn cleaned_map(map: &Map<String, Value>) -> Map<String, Value> {
    let kept = map.iter().filter(|(key, value)| !value.is_null() && !is_directive(key));
    kept.map(|(key, value)| (key.clone(), cleaned(value))).collect()
}

fn is_directive(key: &str) -> bool {
    matches!(key, DIRECTIVE | RETAIN) || key.starts_with(DELETE_FROM) || key.starts_with(ORDER)
}

#[cfg(test)]
mod tests;
