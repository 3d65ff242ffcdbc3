//! Which DestinationRule holds for a client and a host (R4.3).

use std::sync::Arc;

use crate::model::policy::{DestinationRule, TrafficPolicy};
use crate::model::{Name, ServiceKey};
use crate::registry::PolicySnapshot;

/// Who asks for rules.
pub struct RuleClient<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its labels: looks one up.
    pub label: &'a dyn Fn(&str) -> Option<Name>,
}

/// The rule for calls of `client` to `service`: those of the client's namespace count first, among them those that
/// select it, then those of the service's namespace, then the mesh's; of one namespace the exact host before
/// wildcards. Several for one host are one: the oldest policy, and every subset once. Cost ∝ the rules about the
/// host.
pub fn destination_rule(
    policies: &PolicySnapshot,
    client: &RuleClient<'_>,
    service: &ServiceKey,
) -> Option<Arc<DestinationRule>> {
    let mesh = policies.mesh();
    let default = &mesh.default_destination_rule_export_to;
    let all: Vec<_> = policies.about::<DestinationRule>(&service.hostname).collect();
    let of = |namespace: &str, selecting: bool| {
        let holds = |rule: &DestinationRule| {
            let own = rule.meta.id.namespace.as_str();
            let seen = own == client.namespace || rule.export_to.reaches(client.namespace, own, default);
            let selector = &rule.selector;
            let selected = selector.labels().iter().all(|(key, value)| (client.label)(key).as_ref() == Some(value));
            own == namespace && seen && selector.is_everything() != selecting && selected
        };
        let first = all.iter().find(|rule| holds(rule))?;
        merged(all.iter().filter(|rule| rule.host == first.host && holds(rule)).map(|rule| Arc::clone(rule)))
    };
    let others = [client.namespace, &service.namespace, &mesh.root_namespace];
    of(client.namespace, true).or_else(|| others.into_iter().find_map(|namespace| of(namespace, false)))
}

/// One rule out of those for one host, the oldest first.
fn merged(mut rules: impl Iterator<Item = Arc<DestinationRule>>) -> Option<Arc<DestinationRule>> {
    let mut one = rules.next()?;
    for other in rules {
        let all = Arc::make_mut(&mut one);
        if all.policy == TrafficPolicy::default() {
            all.policy = other.policy.clone();
        }
        let new = other.subsets.iter().filter(|subset| all.subset(&subset.name).is_none()).cloned();
        let new: Vec<_> = new.collect();
        all.subsets.extend(new);
    }
    Some(one)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::policy::{
        HostPattern, LoadBalancer, MeshConfig, PolicyId, PolicyMeta, Subset, TrafficSettings, WorkloadSelector,
    };
    use crate::model::{ExportTo, Labels};
    use crate::registry::PolicyObject;

    fn rule(namespace: &str, name: &str, host: &str, created: i64) -> DestinationRule {
        DestinationRule {
            meta: PolicyMeta { created, id: PolicyId::new(namespace, name) },
            host: HostPattern::new(host),
            policy: TrafficPolicy {
                settings: TrafficSettings {
                    load_balancer: Some(LoadBalancer {
                        warmup: Some(Duration::from_secs(1)),
                        ..LoadBalancer::default()
                    }),
                    ..TrafficSettings::default()
                },
                ports: Vec::new(),
            },
            subsets: vec![Subset { name: name.into(), labels: Labels::new(), policy: TrafficPolicy::default() }],
            selector: WorkloadSelector::default(),
            export_to: ExportTo::Unset,
        }
    }

    fn chosen(mesh: MeshConfig, rules: Vec<DestinationRule>) -> Option<Vec<String>> {
        let objects = rules.into_iter().map(|rule| PolicyObject::DestinationRule(Arc::new(rule)));
        let policies = PolicySnapshot::with(mesh, objects);
        let label = |key: &str| (key == "app").then(|| "web".into());
        let client = RuleClient { namespace: "client", label: &label };
        let found = destination_rule(&policies, &client, &ServiceKey::new("service", "a.service"))?;
        Some(found.subsets.iter().map(|subset| subset.name.to_string()).collect())
    }

    #[test]
    fn r4_3_the_clients_namespace_then_the_services_then_the_mesh() {
        let all = ["istio-system", "service", "client"];
        for (at, expected) in all.iter().enumerate() {
            let rules = all[..=at].iter().map(|namespace| rule(namespace, namespace, "a.service", 1)).collect();
            assert_eq!(chosen(MeshConfig::default(), rules), Some(vec![(*expected).to_owned()]));
        }
        assert_eq!(chosen(MeshConfig::default(), vec![rule("other", "x", "a.service", 1)]), None);
        let wide = vec![rule("client", "wide", "*", 1), rule("client", "exact", "a.service", 2)];
        assert_eq!(chosen(MeshConfig::default(), wide), Some(vec!["exact".to_owned()]));
        let near = vec![rule("client", "wide", "*", 1), rule("service", "exact", "a.service", 2)];
        assert_eq!(chosen(MeshConfig::default(), near), Some(vec!["wide".to_owned()]), "the namespace counts more");
    }

    #[test]
    fn r4_3_rules_that_select_the_client_count_first_and_others_not_at_all() {
        let selecting = |value: &str, namespace: &str| DestinationRule {
            selector: WorkloadSelector::new([("app".into(), value.into())].into_iter().collect()),
            ..rule(namespace, "selecting", "*", 5)
        };
        let general = || rule("client", "general", "a.service", 1);
        let first = |rules| chosen(MeshConfig::default(), rules).expect("some")[0].clone();
        assert_eq!(first(vec![general(), selecting("web", "client")]), "selecting");
        assert_eq!(first(vec![general(), selecting("db", "client")]), "general");
        assert_eq!(first(vec![general(), selecting("web", "service")]), "general", "its own namespace only");
    }

    #[test]
    fn r4_3_several_rules_of_one_host_are_one() {
        let two = vec![rule("service", "young", "a.service", 2), rule("service", "old", "a.service", 1)];
        assert_eq!(chosen(MeshConfig::default(), two), Some(vec!["old".to_owned(), "young".to_owned()]));
    }

    #[test]
    fn r4_2_rules_are_for_the_namespaces_they_are_exported_to() {
        let hidden = DestinationRule { export_to: ExportTo::Nowhere, ..rule("service", "x", "a.service", 1) };
        assert_eq!(chosen(MeshConfig::default(), vec![hidden]), None);
        let own = ExportTo::Namespaces(["".into()].into());
        let mesh = || MeshConfig { default_destination_rule_export_to: own.clone(), ..MeshConfig::default() };
        assert_eq!(chosen(mesh(), vec![rule("service", "x", "a.service", 1)]), None, "the mesh's default");
        assert!(chosen(mesh(), vec![rule("client", "x", "a.service", 1)]).is_some());
    }
}
