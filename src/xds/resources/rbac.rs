//! AuthorizationPolicies as RBAC filters.
//!
//! One filter for each action, in this order: what is audited, what is refused, what is allowed. A rule becomes one
//! policy of its filter. What cannot be checked where the filter stands (an attribute that is not supported, one of
//! requests on opaque connections) never allows more: an ALLOW rule with it matches nothing, every other rule
//! matches as if it were not asked for. External authorizers (CUSTOM) do not exist here: what they would decide
//! on is refused. Policies that are only tried stand in the same filters as shadow rules: Envoy counts what they would
//! refuse, and lets it pass.

mod attributes;
mod identities;
mod terms;

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::listener::v3::{Filter, filter};
use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use crate::model::Name;
use crate::model::policy::{Attribute, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, Clause};
use attributes::{permission, principal};
use terms::Term;

/// The RBAC filters of a workload.
#[derive(Clone, Debug, Default)]
pub(super) struct Filters {
    /// For requests, in order.
    pub(super) http: Vec<HttpFilter>,
    /// For connections, in order.
    pub(super) tcp: Vec<Filter>,
}

/// What rules become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Log,
    Deny,
    Allow,
}

impl Effect {
    const IN_ORDER: [Self; 3] = [Self::Log, Self::Deny, Self::Allow];

    fn of(action: AuthorizationAction) -> Self {
        match action {
            AuthorizationAction::Audit => Self::Log,
            AuthorizationAction::Deny | AuthorizationAction::Custom => Self::Deny,
            AuthorizationAction::Allow => Self::Allow,
        }
    }

    /// What the counters of rules that are only tried begin with; `None` where there is nothing to try.
    fn trial(self) -> Option<&'static str> {
        match self {
            Self::Log => None,
            Self::Deny => Some("istio_dry_run_deny_"),
            Self::Allow => Some("istio_dry_run_allow_"),
        }
    }

    fn action(self) -> rbac::rbac::Action {
        match self {
            Self::Log => rbac::rbac::Action::Log,
            Self::Deny => rbac::rbac::Action::Deny,
            Self::Allow => rbac::rbac::Action::Allow,
        }
    }
}

/// Where a filter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Http,
    Tcp,
}

/// What rules are read by.
#[derive(Clone, Copy, Debug)]
struct Reading<'a> {
    layer: Layer,
    effect: Effect,
    /// The trust domain of the mesh and its aliases.
    trust_domains: &'a [Name],
}

/// The policies of a filter, sorted: the order of a hash map would differ from one encoding to the next (D20).
#[derive(Clone, PartialEq, Message)]
struct Rules {
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(btree_map = "string, message", tag = "2")]
    policies: BTreeMap<String, rbac::Policy>,
}

/// `envoy.extensions.filters.http.rbac.v3.RBAC` with sorted rules.
#[derive(Clone, PartialEq, Message)]
struct HttpRbac {
    #[prost(message, optional, tag = "1")]
    rules: Option<Rules>,
    #[prost(message, optional, tag = "2")]
    shadow_rules: Option<Rules>,
    #[prost(string, tag = "3")]
    shadow_rules_stat_prefix: String,
}

/// `envoy.extensions.filters.network.rbac.v3.RBAC` with sorted rules.
#[derive(Clone, PartialEq, Message)]
struct NetworkRbac {
    #[prost(message, optional, tag = "1")]
    rules: Option<Rules>,
    #[prost(message, optional, tag = "2")]
    shadow_rules: Option<Rules>,
    #[prost(string, tag = "3")]
    stat_prefix: String,
    #[prost(string, tag = "5")]
    shadow_rules_stat_prefix: String,
}

/// What one filter says.
struct Said {
    enforced: Option<Rules>,
    tried: Option<Rules>,
    /// Empty where nothing is tried.
    trial: &'static str,
}

/// The filters of a workload that these policies are about, in a mesh whose own trust domain is the first of
/// `trust_domains` and the others its aliases. No policies, no filters; one that allows nothing is a filter.
pub(super) fn filters(policies: &[Arc<AuthorizationPolicy>], trust_domains: &[Name]) -> Filters {
    let mut filters = Filters::default();
    for effect in Effect::IN_ORDER {
        let of_effect = |policy: &&Arc<AuthorizationPolicy>| Effect::of(policy.action) == effect;
        let (tried, enforced): (Vec<_>, Vec<_>) =
            policies.iter().filter(of_effect).partition(|policy| policy.dry_run);
        let said = |layer| {
            let reading = Reading { layer, effect, trust_domains };
            let trial = effect.trial().and_then(|trial| Some((rules(&tried, &reading)?, trial)));
            let enforced = rules(&enforced, &reading);
            (enforced.is_some() || trial.is_some()).then(|| {
                let (tried, trial) = trial.map_or((None, ""), |(tried, trial)| (Some(tried), trial));
                Said { enforced, tried, trial }
            })
        };
        filters.http.extend(said(Layer::Http).map(http));
        filters.tcp.extend(said(Layer::Tcp).map(tcp));
    }
    filters
}

/// The rules of some policies; `None` when they change nothing: of policies without rules only those that allow do.
fn rules(policies: &[&Arc<AuthorizationPolicy>], reading: &Reading<'_>) -> Option<Rules> {
    if policies.is_empty() {
        return None;
    }
    let mut rules = BTreeMap::new();
    for policy in policies {
        let id = &policy.meta.id;
        for (index, rule) in policy.rules.iter().enumerate() {
            let name = format!("ns[{}]-policy[{}]-rule[{index}]", id.namespace, id.name);
            rules.extend(reading.rule(rule).map(|rule| (name, rule)));
        }
    }
    let empty = rules.is_empty() && reading.effect != Effect::Allow;
    (!empty).then(|| Rules { action: reading.effect.action().into(), policies: rules })
}

impl Reading<'_> {
    /// `None` for a rule that never matches.
    fn rule(&self, rule: &AuthorizationRule) -> Option<rbac::Policy> {
        let mut permissions = vec![self.any_of(&rule.to, permission)?];
        let mut principals = vec![self.any_of(&rule.from, principal)?];
        for clause in &rule.when {
            // Each attribute is one of the operation or of the source.
            match attributes::is_of_operation(&clause.attribute) {
                true => permissions.extend(self.clause(clause, permission)?),
                false => principals.extend(self.clause(clause, principal)?),
            }
        }
        Some(rbac::Policy {
            permissions: vec![Term::all_of(permissions)],
            principals: vec![Term::all_of(principals)],
            ..Default::default()
        })
    }

    /// One of these lists of clauses must hold, if there are any; `None` when none of them ever does.
    fn any_of<T: Term>(&self, lists: &[Vec<Clause>], make: Make<T>) -> Option<T> {
        if lists.is_empty() {
            return Some(T::anything());
        }
        let all = |clauses: &Vec<Clause>| -> Option<T> {
            let terms: Option<Vec<Vec<T>>> = clauses.iter().map(|clause| self.clause(clause, make)).collect();
            Some(T::all_of(terms?.concat()))
        };
        let terms: Vec<T> = lists.iter().filter_map(all).collect();
        (!terms.is_empty()).then(|| T::one_of(terms))
    }

    /// What must hold for one attribute; `None` when it never does. A value that cannot be checked here makes the
    /// whole clause one that cannot.
    fn clause<T: Term>(&self, clause: &Clause, make: Make<T>) -> Option<Vec<T>> {
        match self.checkable(clause, make) {
            Some(terms) => Some(terms),
            None if self.effect == Effect::Allow => None,
            None => Some(Vec::new()),
        }
    }

    fn checkable<T: Term>(&self, clause: &Clause, make: Make<T>) -> Option<Vec<T>> {
        if self.layer == Layer::Tcp && clause.attribute.is_http() {
            return None;
        }
        // What is refused, and what keeps from being allowed, is read as widely as it can be meant.
        let terms = |values: &[Name], wide: bool| -> Option<Vec<T>> {
            values.iter().map(|value| make(&clause.attribute, value, wide, self.trust_domains)).collect()
        };
        let refusing = self.effect != Effect::Allow;
        let values = terms(&clause.values, refusing)?;
        let not_values = terms(&clause.not_values, !refusing)?;
        let values = (!values.is_empty()).then(|| T::one_of(values));
        let not_values = (!not_values.is_empty()).then(|| T::none_of(T::one_of(not_values)));
        let known = !matches!(clause.attribute, Attribute::Unsupported(_));
        known.then(|| values.into_iter().chain(not_values).collect())
    }
}

/// What one value of an attribute means: `(attribute, value, as widely as it can be meant, trust domains)`; `None`
/// when that cannot be checked.
type Make<T> = fn(&Attribute, &str, bool, &[Name]) -> Option<T>;

fn http(said: Said) -> HttpFilter {
    let message = HttpRbac {
        rules: said.enforced,
        shadow_rules: said.tried,
        shadow_rules_stat_prefix: said.trial.to_owned(),
    };
    let config = any("envoy.extensions.filters.http.rbac.v3.RBAC", &message);
    HttpFilter {
        name: "envoy.filters.http.rbac".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

fn tcp(said: Said) -> Filter {
    let config = NetworkRbac {
        rules: said.enforced,
        shadow_rules: said.tried,
        stat_prefix: "tcp.".to_owned(),
        shadow_rules_stat_prefix: said.trial.to_owned(),
    };
    Filter {
        name: "envoy.filters.network.rbac".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(any(
            "envoy.extensions.filters.network.rbac.v3.RBAC",
            &config,
        ))),
    }
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as Http;
    use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as Network;

    use super::*;
    use crate::model::policy::{PolicyId, PolicyMeta, WorkloadSelector};

    fn policy(name: &str, action: AuthorizationAction, dry_run: bool) -> Arc<AuthorizationPolicy> {
        Arc::new(AuthorizationPolicy {
            meta: PolicyMeta { created: 0, id: PolicyId::new("ns", name) },
            selector: WorkloadSelector::default(),
            targets: None,
            dry_run,
            action,
            rules: vec![AuthorizationRule::default()],
            problems: Vec::new(),
        })
    }

    /// `enforced, tried, prefix` of each filter for requests, which are those for connections.
    fn seen(policies: &[Arc<AuthorizationPolicy>]) -> Vec<(Vec<String>, Vec<String>, String)> {
        let names = |rules: Option<rbac::Rbac>| {
            let mut names: Vec<_> = rules.into_iter().flat_map(|rules| rules.policies.into_keys()).collect();
            names.sort();
            names
        };
        let made = filters(policies, &["mesh.org".into()]);
        let http = made.http.into_iter().map(|filter| {
            let Some(http_filter::ConfigType::TypedConfig(any)) = filter.config_type else { panic!("none") };
            let config = Http::decode(any.value.as_slice()).expect("RBAC");
            (names(config.rules), names(config.shadow_rules), config.shadow_rules_stat_prefix)
        });
        let tcp = made.tcp.into_iter().map(|filter| {
            let Some(filter::ConfigType::TypedConfig(any)) = filter.config_type else { panic!("none") };
            let config = Network::decode(any.value.as_slice()).expect("RBAC");
            assert_eq!(config.stat_prefix, "tcp.");
            (names(config.rules), names(config.shadow_rules), config.shadow_rules_stat_prefix)
        });
        let http: Vec<_> = http.collect();
        assert_eq!(http, tcp.collect::<Vec<_>>());
        http
    }

    #[test]
    fn what_is_only_tried_is_shadow_rules_and_refuses_nothing() {
        use AuthorizationAction::{Allow, Audit, Custom, Deny};
        let name = |name: &str| vec![format!("ns[ns]-policy[{name}]-rule[0]")];
        let allow = "istio_dry_run_allow_".to_owned();
        assert_eq!(seen(&[policy("a", Allow, true)]), [(vec![], name("a"), allow.clone())]);
        let both = [policy("a", Allow, true), policy("b", Allow, false)];
        assert_eq!(seen(&both), [(name("b"), name("a"), allow)]);
        let deny = "istio_dry_run_deny_".to_owned();
        assert_eq!(seen(&[policy("a", Custom, true)]), [(vec![], name("a"), deny.clone())]);
        let mixed = [policy("a", Deny, true), policy("b", Audit, true), policy("c", Custom, false)];
        assert_eq!(seen(&mixed), [(name("c"), name("a"), deny)]);
    }
}
