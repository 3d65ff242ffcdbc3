//! Label and field selectors: parsing and matching, pure.

use serde_json::Value;

use super::error::ApiError;
use super::kinds::Kind;
use super::metadata::{is_label_key, is_label_value};
use super::object::{Labels, Stored};

/// A parsed label selector and field selector; both must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selector {
    labels: Vec<LabelRule>,
    fields: Vec<FieldRule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum LabelRule {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
    Greater(String, i64),
    Less(String, i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldRule {
    path: Vec<String>,
    value: String,
    wanted: bool,
}

impl Selector {
    /// Parses the two query parameters; empty text selects everything.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] naming the requirement that cannot be read or the field that `kind` does
    /// not offer for selection.
    pub(super) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let labels =
            split_requirements(labels).into_iter().map(parse_label_rule).collect::<Result<_, _>>()?;
        let fields = fields
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| parse_field_rule(kind, part))
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Whether every object is selected.
    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether `object` is selected. Cost: nothing of note with labels, name and namespace; the length of the
    /// object with other fields.
    pub(super) fn matches(&self, object: &Stored) -> bool {
        self.may_match(object) && (!self.reads_fields() || self.matches_fields(&object.value()))
    }

    /// Whether labels, name and namespace are right. Cheap; enough unless [`Self::reads_fields`].
    pub(super) fn may_match(&self, object: &Stored) -> bool {
        self.labels.iter().all(|rule| rule.matches(object.labels()))
            && self.fields.iter().all(|rule| rule.matches_key(object).unwrap_or(true))
    }

    /// Whether an object must be read to be selected.
    pub(super) fn reads_fields(&self) -> bool {
        self.fields.iter().any(|rule| !rule.is_of_key())
    }

    fn matches_fields(&self, value: &Value) -> bool {
        self.fields.iter().all(|rule| rule.is_of_key() || rule.matches(value))
    }
}

impl LabelRule {
    fn matches(&self, labels: &Labels) -> bool {
        let label = |key: &str| labels.get(key);
        let number = |key: &str| label(key).and_then(|text| text.parse::<i64>().ok());
        match self {
            Self::In(key, values) => label(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Self::NotIn(key, values) => !label(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Self::Exists(key) => label(key).is_some(),
            Self::Missing(key) => label(key).is_none(),
            Self::Greater(key, bound) => number(key).is_some_and(|n| n > *bound),
            Self::Less(key, bound) => number(key).is_some_and(|n| n < *bound),
        }
    }
}

impl FieldRule {
    fn is_of_key(&self) -> bool {
        matches!(self.path[..], [ref parent, ref field] if parent == "metadata" && (field == "name" || field == "namespace"))
    }

    /// The answer of a rule on name or namespace.
    fn matches_key(&self, object: &Stored) -> Option<bool> {
        self.is_of_key().then(|| {
            let part = if self.path[1] == "name" { &object.key.name } else { &object.key.namespace };
            (**part == *self.value) == self.wanted
        })
    }

    fn matches(&self, object: &Value) -> bool {
        let field = self.path.iter().fold(object, |value, step| &value[step.as_str()]);
        let same = match field {
            Value::Null => self.value.is_empty(),
            Value::String(text) => *text == self.value,
            // Numbers and booleans are compared as written in JSON.
            other => self.value.parse().is_ok_and(|value: Value| value == *other),
        };
        same == self.wanted
    }
}

/// Splits at commas outside parentheses.
fn split_requirements(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn parse_label_rule(text: &str) -> Result<LabelRule, ApiError> {
    let bad = || ApiError::BadRequest(format!("unable to parse requirement: {text:?}"));
    let rule = if let Some((key, value)) = text.split_once("!=") {
        LabelRule::NotIn(key.trim().into(), vec![value.trim().into()])
    } else if let Some((key, value)) = text.split_once('=') {
        LabelRule::In(key.trim().into(), vec![value.strip_prefix('=').unwrap_or(value).trim().into()])
    } else if let Some((head, set)) = text.split_once('(') {
        let set = set.strip_suffix(')').ok_or_else(bad)?;
        let values = set.split(',').map(|v| v.trim().to_owned()).collect();
        match head.split_whitespace().collect::<Vec<_>>()[..] {
            [key, "in"] => LabelRule::In(key.into(), values),
            [key, "notin"] => LabelRule::NotIn(key.into(), values),
            _ => return Err(bad()),
        }
    } else if let Some(key) = text.strip_prefix('!') {
        LabelRule::Missing(key.trim().into())
    } else if let Some((key, bound)) = text.split_once('>') {
        LabelRule::Greater(key.trim().into(), bound.trim().parse().map_err(|_| bad())?)
    } else if let Some((key, bound)) = text.split_once('<') {
        LabelRule::Less(key.trim().into(), bound.trim().parse().map_err(|_| bad())?)
    } else {
        LabelRule::Exists(text.into())
    };
    if is_label_key(rule.key()) && rule.values().iter().all(|value| is_label_value(value)) {
        Ok(rule)
    } else {
        Err(bad())
    }
}

impl LabelRule {
    fn key(&self) -> &str {
        match self {
            Self::In(key, _)
            | Self::NotIn(key, _)
            | Self::Exists(key)
            | Self::Missing(key)
            | Self::Greater(key, _)
            | Self::Less(key, _) => key,
        }
    }

    fn values(&self) -> &[String] {
        match self {
            Self::In(_, values) | Self::NotIn(_, values) => values,
            Self::Exists(_) | Self::Missing(_) | Self::Greater(..) | Self::Less(..) => &[],
        }
    }
}

fn parse_field_rule(kind: &Kind, text: &str) -> Result<FieldRule, ApiError> {
    let (path, value, wanted) = if let Some((path, value)) = text.split_once("!=") {
        (path, value, false)
    } else if let Some((path, value)) = text.split_once('=') {
        (path, value.trim_start_matches('='), true)
    } else {
        return Err(ApiError::BadRequest(format!("invalid field selector: {text:?}; can't understand it")));
    };
    let path = path.trim();
    let always = path == "metadata.name" || (path == "metadata.namespace" && kind.is_namespaced());
    if !always && !kind.selectable.iter().any(|field| field == path) {
        return Err(ApiError::BadRequest(format!("field label not supported: {path}")));
    }
    Ok(FieldRule {
        path: path.split('.').map(str::to_owned).collect(),
        value: value.trim().to_owned(),
        wanted,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::kinds::PODS;
    use super::super::object::Change;
    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"name": "a", "namespace": "n", "labels": {"app": "web", "tier": "front", "rank": "7"}},
               "spec": {"nodeName": "node-1"}, "status": {"phase": "Running"}})
    }

    fn selects(labels: &str, fields: &str) -> bool {
        let pod = Stored::new(&pod(), 1, Change::Added);
        Selector::parse(&PODS, labels, fields).unwrap().matches(&pod)
    }

    #[test]
    fn label_selectors_match_as_kubectl_documents_them() {
        for yes in [
            "",
            "app=web",
            "app==web",
            "app!=db",
            "absent!=x",
            "app in (db, web)",
            "app notin (db),tier",
            "!absent",
            "app,tier=front",
            "rank>6",
            "rank<8",
        ] {
            assert!(selects(yes, ""), "{yes}");
        }
        for no in
            ["app=db", "app!=web", "app in (db)", "app notin (web)", "absent", "!app", "rank>7", "app>1"]
        {
            assert!(!selects(no, ""), "{no}");
        }
    }

    #[test]
    fn field_selectors_match_and_refuse_unknown_fields() {
        assert!(selects("", "metadata.name=a,status.phase!=Failed"));
        assert!(selects("", "spec.nodeName==node-1"));
        assert!(selects("", "status.nominatedNodeName="));
        assert!(!selects("", "metadata.namespace=other"));
        let error = Selector::parse(&PODS, "", "spec.color=red").unwrap_err();
        assert!(error.to_string().contains("field label not supported: spec.color"));
    }

    #[test]
    fn unreadable_requirements_are_named() {
        for bad in
            ["app in web", "app in (a", "=x", "rank>many", "a b", "app===x", "app=x y", "app notin (x, -)"]
        {
            let error = Selector::parse(&PODS, bad, "").unwrap_err();
            assert_eq!(error.code(), 400, "{bad}");
        }
    }
}
