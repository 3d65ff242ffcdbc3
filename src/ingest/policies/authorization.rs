//! JSON of an AuthorizationPolicy to its slim form.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::decode::spelling::HEADER_NAME;
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
    selector: Maybe<Value>,
    target_ref: Maybe<Value>,
    target_refs: Maybe<Vec<Value>>,
    action: Maybe<String>,
    provider: Maybe<Value>,
    rules: Maybe<Vec<Value>>,
    #[serde(flatten)]
    unknown: Fields,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
    #[serde(flatten)]
    unknown: Fields,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct When {
    key: String,
    #[serde(default, deserialize_with = "there")]
    values: Maybe<Maybe<Vec<String>>>,
    #[serde(default)]
    not_values: Maybe<Vec<String>>,
    #[serde(flatten)]
    unknown: Fields,
}

/// What of a rule says who, what and when.
type Part = Vec<Vec<Clause>>;

/// Reads the spec of an AuthorizationPolicy. What cannot be enforced (a field that is not known, a part that is
/// there and empty, a value that cannot be read, an external authorizer) is among the problems of the result,
/// which is enforced on the safe side ([`AuthorizationPolicy::problems`]).
///
/// # Errors
/// A document without the shape of its kind: the part, and what is wrong with it.
pub(super) fn authorization_policy(meta: PolicyMeta, spec: &Value) -> Result<AuthorizationPolicy, String> {
    let spec: Spec = shaped("spec", spec)?;
    let selector = spec.selector.as_ref().map_or_else(|| Ok(WorkloadSelector::default()), selector)?;
    let action = action(spec.action.as_deref())?;
    let mut problems = Vec::new();
    if action == AuthorizationAction::Custom {
        let provider = spec.provider.map(|provider| provider.to_string()).unwrap_or_default();
        problems.push(format!(
            "action CUSTOM {provider}: external authorizers are not supported; what its rules match is refused until \
             ALLOW and DENY policies say instead who may do what"
        ));
    }
    let targets = targets(spec.target_ref.as_ref(), spec.target_refs.as_deref(), &mut problems);
    if targets.is_some() && !selector.is_everything() {
        problems.push("targetRefs: they exclude a selector; it is enforced for both".into());
    }
    let mut rules = Vec::new();
    for (index, value) in spec.rules.unwrap_or_default().iter().enumerate() {
        let place = format!("spec.rules[{index}]");
        let mut reader = Reader { namespace: &meta.id.namespace, place: &place, problems: &mut problems };
        rules.push(reader.rule(shaped(&place, value)?)?);
    }
    let mut reader = Reader { namespace: &meta.id.namespace, place: "spec", problems: &mut problems };
    for field in spec.unknown.into_keys() {
        // Whatever it was to say, every rule says it.
        let clause = reader.unsupported(&field, "is not known");
        rules.iter_mut().for_each(|rule| rule.when.push(clause.clone()));
    }
    Ok(AuthorizationPolicy { meta, selector, targets, dry_run: false, action, rules, problems })
}

/// The policy with what its annotation for a trial says; one that says neither yes nor no is enforced.
pub(super) fn annotated(policy: AuthorizationPolicy, dry_run: &str) -> AuthorizationPolicy {
    match dry_run {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => policy,
        "1" | "t" | "T" | "true" | "TRUE" | "True" => AuthorizationPolicy { dry_run: true, ..policy },
        other => {
            let problem =
                format!("annotation istio.io/dry-run: {other:?} is neither true nor false; it is enforced");
            AuthorizationPolicy { problems: [policy.problems, vec![problem]].concat(), ..policy }
        }
    }
}

/// What is enforced of an AuthorizationPolicy that cannot be read and never could: nothing is allowed that the
/// workloads it selects are asked for; those of its namespace when that cannot be read either.
pub(super) fn closed(meta: PolicyMeta, spec: &Value) -> AuthorizationPolicy {
    let selected = spec.get("selector").and_then(|told| selector(told).ok()).unwrap_or_default();
    let several = spec.get("targetRefs").and_then(Value::as_array).map(Vec::as_slice);
    let one = spec.get("targetRef").filter(|target| !target.is_null());
    let mut problems = vec!["it cannot be read; all that it selects is refused".to_owned()];
    AuthorizationPolicy {
        meta,
        selector: selected,
        targets: targets(one, several, &mut problems),
        dry_run: false,
        action: AuthorizationAction::Allow,
        rules: Vec::new(),
        problems,
    }
}

/// The Gateways that targets name; `None` without targets. One that cannot be read may be any of them.
fn targets(one: Maybe<&Value>, several: Maybe<&[Value]>, problems: &mut Vec<String>) -> Maybe<Vec<Name>> {
    let all: Vec<&Value> = one.into_iter().chain(several.into_iter().flatten()).collect();
    let mut gateways = Vec::new();
    for target in &all {
        let text = |field: &str| target.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        match (text("kind"), text("name")) {
            (Some("Gateway"), Some(name)) => gateways.push(name.into()),
            (Some(kind @ ("Service" | "ServiceEntry" | "GatewayClass")), _) => problems.push(format!(
                "targetRefs: {kind} is for waypoints, which enforce nothing here; select workloads instead"
            )),
            (kind, _) => {
                gateways.push(AuthorizationPolicy::ANY_GATEWAY.into());
                problems.push(format!(
                    "targetRefs: {} without a name that can be read; it is enforced by every gateway of the namespace",
                    kind.unwrap_or("a target")
                ));
            }
        }
    }
    (!all.is_empty()).then_some(gateways)
}

fn selector(value: &Value) -> Result<WorkloadSelector, String> {
    let selector: Selector = shaped("spec.selector", value)?;
    if let Some(field) = selector.unknown.keys().next() {
        return Err(format!("spec.selector: {field} is not known; workloads are selected by matchLabels"));
    }
    let labels = selector.match_labels.into_iter().map(|(key, value)| (key.into(), value.into()));
    Ok(WorkloadSelector::new(labels.collect::<Labels>()))
}

/// A field that is there, be it `null`.
fn there<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Maybe<T>, D::Error> {
    T::deserialize(value).map(Some)
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
        Some(other) => Err(format!("spec.action: {other:?} is not one of ALLOW, DENY, AUDIT, CUSTOM")),
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
    fn rule(&mut self, mut rule: Fields) -> Result<AuthorizationRule, String> {
        let mut when = Vec::new();
        let sources = self.items::<Fields>(&mut rule, "from", &mut when)?.into_iter();
        let from: Part =
            sources.map(|one| self.only(one, "source", source_field)).collect::<Result<_, _>>()?;
        let operations = self.items::<Fields>(&mut rule, "to", &mut when)?.into_iter();
        let to: Part =
            operations.map(|one| self.only(one, "operation", operation_field)).collect::<Result<_, _>>()?;
        let conditions = self.items::<When>(&mut rule, "when", &mut when)?;
        conditions.into_iter().for_each(|one| when.extend(self.condition(one)));
        when.extend(rule.into_keys().map(|field| self.unsupported(&field, "is not known")));
        Ok(AuthorizationRule { from, to, when })
    }

    /// The items of a list of the rule; one that is there and empty is a condition that is not supported: what was
    /// left out cannot be known.
    fn items<T: DeserializeOwned>(
        &mut self,
        rule: &mut Fields,
        part: &str,
        when: &mut Vec<Clause>,
    ) -> Result<Vec<T>, String> {
        let Some(value) = rule.remove(part) else {
            return Ok(Vec::new());
        };
        let items: Vec<T> =
            shaped::<Maybe<_>>(&format!("{}.{part}", self.place), &value)?.unwrap_or_default();
        if items.is_empty() {
            when.push(self.unsupported(part, "is empty"));
        }
        Ok(items)
    }

    /// The clauses of an item of `from` or `to`, which has one field and no other.
    fn only(
        &mut self,
        mut item: Fields,
        part: &str,
        attribute: fn(&str) -> Option<(Attribute, bool)>,
    ) -> Result<Vec<Clause>, String> {
        let fields = item.remove(part).unwrap_or_default();
        let fields: Maybe<Fields> = shaped(&format!("{}.{part}", self.place), &fields)?;
        let mut clauses = self.clauses(part, fields.unwrap_or_default(), attribute);
        clauses.extend(item.into_keys().map(|field| self.unsupported(&field, "is not known")));
        if clauses.is_empty() {
            clauses.push(self.unsupported(part, "is missing or empty"));
        }
        Ok(clauses)
    }

    /// The clauses of a source or an operation: a field and the one with `not` are one clause.
    fn clauses(
        &mut self,
        part: &str,
        fields: Fields,
        attribute: fn(&str) -> Option<(Attribute, bool)>,
    ) -> Vec<Clause> {
        let mut clauses: BTreeMap<Attribute, Clause> = BTreeMap::new();
        let mut unsupported = Vec::new();
        for (field, value) in fields {
            let place = format!("{part}.{field}");
            let Some((attribute, negated)) = attribute(&field) else {
                let why = if is_of_token(&field) { UNCHECKED_TOKEN } else { "is not supported" };
                unsupported.push(self.unsupported(&place, why));
                continue;
            };
            let values = match Maybe::<Vec<String>>::deserialize(&value) {
                Ok(values) => values.unwrap_or_default(),
                Err(error) => {
                    unsupported.push(self.unsupported(&place, &error.to_string()));
                    continue;
                }
            };
            if values.is_empty() {
                // Nothing that must not be is nothing; nothing that must be was meant to be something.
                unsupported.extend((!negated).then(|| self.unsupported(&place, "is empty")));
                continue;
            }
            let clause = clauses.entry(attribute.clone()).or_insert_with(|| empty(attribute));
            let list = if negated { &mut clause.not_values } else { &mut clause.values };
            list.extend(values.into_iter().map(Name::from));
        }
        let known = clauses.into_values().map(|clause| self.checked(clause)).collect::<Vec<_>>();
        known.into_iter().chain(unsupported).collect()
    }

    /// The clause of a condition, and one for each field that is not known.
    fn condition(&mut self, when: When) -> Vec<Clause> {
        let When { key, values, not_values, unknown } = when;
        let names =
            |values: Maybe<Vec<String>>| values.unwrap_or_default().into_iter().map(Name::from).collect();
        let is_told = values.is_some();
        let (values, not_values): (Vec<_>, Vec<_>) = (names(values.flatten()), names(not_values));
        let clause = match condition_key(&key) {
            Some(_) if values.is_empty() && not_values.is_empty() => {
                self.unsupported(&key, "has neither values nor notValues")
            }
            Some(_) if values.is_empty() && is_told => self.unsupported(&key, "has empty values"),
            Some(attribute) => self.checked(Clause { attribute, values, not_values }),
            None if is_of_token(&key) => self.unsupported(&key, UNCHECKED_TOKEN),
            None => self.unsupported(&key, "is not supported"),
        };
        let mut clauses = vec![clause];
        for field in unknown.into_keys() {
            clauses.push(self.unsupported(&format!("{key}: {field}"), "is not known"));
        }
        clauses
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

/// Why attributes of tokens are not supported, and what to do.
const UNCHECKED_TOKEN: &str = "is told by JSON web tokens, which are not checked here: name principals or namespaces of the mesh instead";

/// Whether a field or a key is about the token of a request.
fn is_of_token(name: &str) -> bool {
    matches!(name, "requestPrincipals" | "notRequestPrincipals") || name.starts_with("request.auth.")
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
    if let Some(header) =
        header.filter(|header| HEADER_NAME.takes(header.strip_prefix(':').unwrap_or(header)))
    {
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
mod tests;
