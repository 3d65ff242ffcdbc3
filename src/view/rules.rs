//! Which DestinationRule holds for a client and a host (R4.3).

use std::sync::Arc;

use crate::model::policy::{DestinationRule, TrafficPolicy};
use crate::model::{ExportTo, Name, ServiceKey};
use crate::registry::PolicySnapshot;

/// Who asks for rules.
pub struct RuleClient<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its labels: looks one up.
    pub label: &'a dyn Fn(&str) -> Option<Name>,
}

/// Whether a rule holds.
type Holds<'a> = &'a dyn Fn(&DestinationRule) -> bool;

/// The rule for calls of `client` to `service`: those of the client's namespace count first, then those of the
/// service's, then the mesh's; in each the exact host before wildcards, and in the client's own namespace those that
/// select it before those for everybody. Several for one host are one: the first policy, and every subset once. Cost
/// ∝ the rules about the host.
pub fn destination_rule(
    policies: &PolicySnapshot,
    client: &RuleClient<'_>,
    service: &ServiceKey,
) -> Option<Arc<DestinationRule>> {
    let (own, root) = (client.namespace, policies.mesh().root_namespace.as_str());
    let default = &policies.mesh().default_destination_rule_export_to;
    let selects = |rule: &DestinationRule| {
        rule.selector.labels().iter().all(|(key, value)| (client.label)(key).as_ref() == Some(value))
    };
    // A client of the root namespace: what is for the mesh must not hide what is for the service.
    let private = |rule: &DestinationRule| {
        own != root
            || matches!(&rule.export_to, ExportTo::Namespaces(names) if names.len() == 1 && names.contains(own))
    };
    let exported = |rule: &DestinationRule| {
        let of = rule.meta.id.namespace.as_str();
        rule.selector.is_everything() && rule.export_to.reaches(own, of, default)
    };
    let steps: [(&str, Holds<'_>); 3] =
        [(own, &|rule| private(rule) && selects(rule)), (&service.namespace, &exported), (root, &exported)];
    let host = &service.hostname;
    steps.into_iter().find_map(|(namespace, holds)| {
        let all = policies.about::<DestinationRule>(host);
        let mut all = all.filter(|rule| rule.meta.id.namespace.as_str() == namespace && holds(rule));
        let first = all.next()?;
        let mut same: Vec<_> =
            [first].into_iter().chain(all.filter(|rule| rule.host == first.host)).collect();
        if let Some(selector) = same.iter().map(|rule| &rule.selector).find(|one| !one.is_everything()) {
            same.retain(|rule| rule.selector == *selector);
        }
        merged(same.into_iter().cloned())
    })
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
    use crate::model::Labels;
    use crate::model::policy::{
        HostPattern, LoadBalancer, MeshConfig, PolicyId, PolicyMeta, Subset, TrafficSettings,
        WorkloadSelector,
    };
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
            subsets: vec![Subset {
                name: name.into(),
                labels: Labels::new(),
                policy: TrafficPolicy::default(),
            }],
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
            let rules =
                all[..=at].iter().map(|namespace| rule(namespace, namespace, "a.service", 1)).collect();
            assert_eq!(chosen(MeshConfig::default(), rules), Some(vec![(*expected).to_owned()]));
        }
        assert_eq!(chosen(MeshConfig::default(), vec![rule("other", "x", "a.service", 1)]), None);
        let wide = vec![rule("client", "wide", "*", 1), rule("client", "exact", "a.service", 2)];
        assert_eq!(chosen(MeshConfig::default(), wide), Some(vec!["exact".to_owned()]));
        let near = vec![rule("client", "wide", "*", 1), rule("service", "exact", "a.service", 2)];
        assert_eq!(
            chosen(MeshConfig::default(), near),
            Some(vec!["wide".to_owned()]),
            "the namespace counts more"
        );
    }

    #[test]
    fn r4_3_rules_that_select_the_client_count_first_and_others_not_at_all() {
        let selecting = |value: &str, namespace: &str| DestinationRule {
            selector: WorkloadSelector::new([("app".into(), value.into())].into_iter().collect()),
            ..rule(namespace, "selecting", "a.service", 5)
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
