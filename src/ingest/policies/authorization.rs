//! JSON of an AuthorizationPolicy to its slim form.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::model::policy::{
    Attribute, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, Clause, PolicyMeta,
    WorkloadSelector,
};
use crate::model::{Labels, Name};

/// A field that may be `null`.
type Maybe<T> = Option<T>;
/// Fields of an object, by name.
type Fields = BTreeMap<String, Value>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    selector: Maybe<Selector>,
    target_ref: Maybe<Value>,
    target_refs: Maybe<Vec<Value>>,
    action: Maybe<String>,
    provider: Maybe<Value>,
    rules: Maybe<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selector {
    match_labels: Maybe<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Rule {
    from: Maybe<Vec<From>>,
    to: Maybe<Vec<To>>,
    when: Maybe<Vec<When>>,
    #[serde(flatten)]
    unknown: Fields,
}

#[derive(Deserialize)]
struct From {
    source: Maybe<Fields>,
}

#[derive(Deserialize)]
struct To {
    operation: Maybe<Fields>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct When {
    key: String,
    values: Maybe<Vec<String>>,
    not_values: Maybe<Vec<String>>,
}

/// Reads the spec of an AuthorizationPolicy. What cannot be enforced (an attribute that is not known, a value
/// that cannot be read, an external authorizer) is among the problems of the result, which is enforced on the
/// safe side ([`AuthorizationPolicy::problems`]).
///
/// # Errors
/// A document without the shape of its kind: the part, and what is wrong with it.
pub(super) fn authorization_policy(meta: PolicyMeta, spec: &Value) -> Result<AuthorizationPolicy, String> {
    let spec: Spec = shaped("spec", spec)?;
    let labels: Labels = spec
        .selector
        .and_then(|selector| selector.match_labels)
        .unwrap_or_default()
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    let action = action(spec.action.as_deref())?;
    let mut problems = Vec::new();
    if action == AuthorizationAction::Custom {
        let provider = spec.provider.map(|provider| provider.to_string()).unwrap_or_default();
        problems.push(format!(
            "action CUSTOM {provider}: external authorizers are not supported; what its rules match is refused"
        ));
    }
    let targets = spec.target_ref.is_some() || spec.target_refs.is_some_and(|targets| !targets.is_empty());
    if targets {
        problems.push(
            "targetRefs: waypoints and Gateway API gateways are not served; nothing is enforced".into(),
        );
    }
    let mut rules = Vec::new();
    for (index, value) in spec.rules.unwrap_or_default().iter().enumerate() {
        let place = format!("rules[{index}]");
        let mut reader = Reader { namespace: &meta.id.namespace, place: &place, problems: &mut problems };
        rules.push(reader.rule(shaped(&place, value)?));
    }
    let selector = WorkloadSelector::new(labels);
    Ok(AuthorizationPolicy { meta, selector, targets, action, rules, problems })
}

fn shaped<T: DeserializeOwned>(place: &str, value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| format!("{place}: {error}"))
}

fn action(text: Option<&str>) -> Result<AuthorizationAction, String> {
    match text {
        None | Some("" | "ALLOW") => Ok(AuthorizationAction::Allow),
        Some("DENY") => Ok(AuthorizationAction::Deny),
        Some("AUDIT") => Ok(AuthorizationAction::Audit),
        Some("CUSTOM") => Ok(AuthorizationAction::Custom),
        Some(other) => Err(format!("action: {other:?} is not one of ALLOW, DENY, AUDIT, CUSTOM")),
    }
}

struct Reader<'a> {
    /// Of the policy.
    namespace: &'a str,
    /// Which rule.
    place: &'a str,
    problems: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn rule(&mut self, rule: Rule) -> AuthorizationRule {
        let sources = rule.from.unwrap_or_default().into_iter();
        let from = sources.map(|one| self.clauses("source", one.source, source_field)).collect();
        let operations = rule.to.unwrap_or_default().into_iter();
        let to = operations.map(|one| self.clauses("operation", one.operation, operation_field)).collect();
        let conditions = rule.when.unwrap_or_default().into_iter();
        let mut when: Vec<_> = conditions.map(|one| self.condition(one)).collect();
        when.extend(rule.unknown.into_keys().map(|field| self.unsupported(&field, "is not known")));
        AuthorizationRule { from, to, when }
    }

    /// The clauses of a source or an operation: a field and the one with `not` are one clause.
    fn clauses(
        &mut self,
        part: &str,
        fields: Option<Fields>,
        attribute: fn(&str) -> Option<(Attribute, bool)>,
    ) -> Vec<Clause> {
        let mut clauses: BTreeMap<Attribute, Clause> = BTreeMap::new();
        let mut unsupported = Vec::new();
        for (field, value) in fields.unwrap_or_default() {
            let place = format!("{part}.{field}");
            let Some((attribute, negated)) = attribute(&field) else {
                unsupported.push(self.unsupported(&place, "is not supported"));
                continue;
            };
            let values = match Maybe::<Vec<String>>::deserialize(&value) {
                Ok(values) => values.unwrap_or_default(),
                Err(error) => {
                    unsupported.push(self.unsupported(&place, &error.to_string()));
                    continue;
                }
            };
            let clause = clauses.entry(attribute.clone()).or_insert_with(|| empty(attribute));
            let list = if negated { &mut clause.not_values } else { &mut clause.values };
            list.extend(values.into_iter().map(Name::from));
        }
        let known = clauses.into_values().map(|clause| self.checked(clause)).collect::<Vec<_>>();
        known.into_iter().chain(unsupported).collect()
    }

    fn condition(&mut self, when: When) -> Clause {
        let names =
            |values: Maybe<Vec<String>>| values.unwrap_or_default().into_iter().map(Name::from).collect();
        match condition_key(&when.key) {
            Some(attribute) => {
                let (values, not_values): (Vec<_>, Vec<_>) = (names(when.values), names(when.not_values));
                if values.is_empty() && not_values.is_empty() {
                    return self.unsupported(&when.key, "has neither values nor notValues");
                }
                self.checked(Clause { attribute, values, not_values })
            }
            None => self.unsupported(&when.key, "is not supported"),
        }
    }

    /// The clause, or one that is not supported when a value of it cannot be read.
    fn checked(&mut self, mut clause: Clause) -> Clause {
        if clause.attribute == Attribute::SourceAccount {
            let full = |value: &mut Name| {
                if !value.contains('/') {
                    *value = format!("{}/{value}", self.namespace).into();
                }
            };
            clause.values.iter_mut().chain(&mut clause.not_values).for_each(full);
        }
        let wrong =
            clause.values.iter().chain(&clause.not_values).find(|value| !clause.attribute.takes(value));
        match wrong {
            Some(value) => {
                let place = format!("{:?}", clause.attribute);
                let reason = format!("does not take the value {value:?}");
                self.unsupported(&place, &reason)
            }
            None => clause,
        }
    }

    fn unsupported(&mut self, what: &str, why: &str) -> Clause {
        self.problems.push(format!(
            "{}: {what} {why}; an ALLOW rule with it matches nothing, another matches without it",
            self.place
        ));
        empty(Attribute::Unsupported(what.into()))
    }
}

fn empty(attribute: Attribute) -> Clause {
    Clause { attribute, values: Vec::new(), not_values: Vec::new() }
}

/// The attribute of a field of `source`, and whether it names what must not be.
fn source_field(field: &str) -> Option<(Attribute, bool)> {
    Some(match field {
        "principals" => (Attribute::SourcePrincipal, false),
        "notPrincipals" => (Attribute::SourcePrincipal, true),
        "namespaces" => (Attribute::SourceNamespace, false),
        "notNamespaces" => (Attribute::SourceNamespace, true),
        "serviceAccounts" => (Attribute::SourceAccount, false),
        "notServiceAccounts" => (Attribute::SourceAccount, true),
        "ipBlocks" => (Attribute::SourceIp, false),
        "notIpBlocks" => (Attribute::SourceIp, true),
        "remoteIpBlocks" => (Attribute::RemoteIp, false),
        "notRemoteIpBlocks" => (Attribute::RemoteIp, true),
        _ => return None,
    })
}

/// The attribute of a field of `operation`, and whether it names what must not be.
fn operation_field(field: &str) -> Option<(Attribute, bool)> {
    Some(match field {
        "hosts" => (Attribute::Host, false),
        "notHosts" => (Attribute::Host, true),
        "ports" => (Attribute::DestinationPort, false),
        "notPorts" => (Attribute::DestinationPort, true),
        "methods" => (Attribute::Method, false),
        "notMethods" => (Attribute::Method, true),
        "paths" => (Attribute::Path, false),
        "notPaths" => (Attribute::Path, true),
        _ => return None,
    })
}

/// The attribute of a condition.
fn condition_key(key: &str) -> Option<Attribute> {
    let header = key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']'));
    if let Some(header) = header.filter(|header| !header.is_empty()) {
        return Some(Attribute::Header(header.to_ascii_lowercase().into()));
    }
    Some(match key {
        "source.ip" => Attribute::SourceIp,
        "remote.ip" => Attribute::RemoteIp,
        "source.namespace" => Attribute::SourceNamespace,
        "source.principal" => Attribute::SourcePrincipal,
        "source.serviceAccount" => Attribute::SourceAccount,
        "destination.ip" => Attribute::DestinationIp,
        "destination.port" => Attribute::DestinationPort,
        "connection.sni" => Attribute::Sni,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::policy::PolicyId;

    fn read(spec: Value) -> Result<AuthorizationPolicy, String> {
        authorization_policy(PolicyMeta { created: 1, id: PolicyId::new("ns", "p") }, &spec)
    }

    #[test]
    fn fields_and_those_with_not_are_one_clause() {
        let policy = read(json!({"selector": {"matchLabels": {"app": "a"}}, "action": "DENY", "rules": [{
            "from": [{"source": {"principals": ["a"], "notPrincipals": ["b"], "serviceAccounts": ["x", "o/y"]}}],
            "to": [{"operation": {"paths": ["/a/{*}/b/{**}"], "ports": ["80"]}}],
            "when": [{"key": "request.headers[X-A]", "values": ["1"]}]}]}))
        .expect("valid");
        assert_eq!((policy.action, policy.problems.len()), (AuthorizationAction::Deny, 0));
        let rule = &policy.rules[0];
        let of = |attribute, values: &[&str], not_values: &[&str]| Clause {
            attribute,
            values: values.iter().map(|&value| value.into()).collect(),
            not_values: not_values.iter().map(|&value| value.into()).collect(),
        };
        assert_eq!(
            rule.from[0],
            [
                of(Attribute::SourcePrincipal, &["a"], &["b"]),
                of(Attribute::SourceAccount, &["ns/x", "o/y"], &[])
            ]
        );
        assert_eq!(rule.to[0].len(), 2);
        assert_eq!(rule.when, [of(Attribute::Header("x-a".into()), &["1"], &[])]);
    }

    #[test]
    fn what_cannot_be_enforced_is_told_and_marked() {
        let rule = |rule: Value| {
            let policy = read(json!({"rules": [rule]})).expect("a shape");
            assert_eq!(policy.problems.len(), 1, "{:?}", policy.problems);
            let rule = policy.rules.into_iter().next().expect("a rule");
            rule.from
                .into_iter()
                .chain(rule.to)
                .flatten()
                .chain(rule.when)
                .next()
                .expect("a clause")
                .attribute
        };
        let from = |field: &str, value: &str| rule(json!({"from": [{"source": {field: [value]}}]}));
        let to = |field: &str, value: &str| rule(json!({"to": [{"operation": {field: [value]}}]}));
        for attribute in [
            from("requestPrincipals", "*"),
            from("notRequestPrincipals", "*"),
            from("novelty", "x"),
            from("ipBlocks", "10.0.0.0/33"),
            from("serviceAccounts", "a/*"),
            from("principals", ""),
            to("ports", "http"),
            to("paths", "/a/{**}/b"),
            to("paths", "/a{*}"),
            rule(json!({"when": [{"key": "request.auth.claims[iss]", "values": ["x"]}]})),
            rule(json!({"when": [{"key": "source.ip"}]})),
            rule(json!({"until": "tomorrow"})),
            rule(json!({"from": [{"source": {"principals": "x"}}]})),
        ] {
            assert!(matches!(attribute, Attribute::Unsupported(_)), "{attribute:?}");
        }
        let custom =
            read(json!({"action": "CUSTOM", "provider": {"name": "x"}, "rules": [{}]})).expect("read");
        assert!(custom.problems[0].contains("external authorizers"));
        assert!(read(json!({"targetRefs": [{"kind": "Gateway"}]})).expect("read").targets);
    }

    #[test]
    fn a_document_of_another_shape_is_an_error() {
        assert!(read(json!({"action": "MAYBE"})).unwrap_err().contains("MAYBE"));
        assert!(read(json!({"rules": {}})).unwrap_err().starts_with("spec"));
        assert!(read(json!({"rules": [{"when": [{"values": ["x"]}]}]})).unwrap_err().starts_with("rules[0]"));
    }
}
