//! What is read of one cluster, and where the API server does the selecting (Z-11).

use std::collections::BTreeSet;

use crate::ingest::objects::{NamespaceObject, ObjectKind};
use crate::ingest::options::Selection;
use crate::model::Name;

/// Up to this many namespaces are read one by one; above that, a cluster is read whole and sorted out here.
const MAX_SINGLE: usize = 16;
/// Up to this many namespaces are left out by the API server.
const MAX_EXCEPT: usize = 32;

/// Which lists and watches a generation opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ingest) struct Plan {
    /// These namespaces only, each by a watch of its own.
    single: Option<BTreeSet<Name>>,
    /// Of all namespaces these only, sorted out here.
    sorted: Option<BTreeSet<Name>>,
    /// Not these; left out by the API server as far as there are not too many, here in any case.
    except: BTreeSet<Name>,
}

impl Plan {
    /// The plan for a selection, given the namespaces known so far. The system namespace is always read: it
    /// holds the gateways.
    pub(super) fn new<'a>(
        selection: &Selection,
        system: &Name,
        namespaces: impl Iterator<Item = (&'a Name, &'a NamespaceObject)>,
    ) -> Self {
        let mut except = selection.except.clone();
        except.remove(system);
        let labelled = selection.is_by_labels().then(|| {
            let matching = namespaces.filter(|(_, namespace)| selection.takes(&namespace.labels));
            matching.map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()
        });
        let only = match (selection.only.clone(), labelled) {
            (Some(only), Some(labelled)) => Some(&only & &labelled),
            (only, labelled) => only.or(labelled),
        };
        let Some(mut only) = only else {
            return Self { except, ..Self::default() };
        };
        only.retain(|name| !except.contains(name));
        only.insert(system.clone());
        if only.len() <= MAX_SINGLE {
            Self { single: Some(only), ..Self::default() }
        } else {
            Self { sorted: Some(only), ..Self::default() }
        }
    }

    /// The namespaces whose objects of a kind are read by a source each; `None` is one source for all.
    pub(super) fn scopes(&self, kind: ObjectKind) -> Vec<Option<Name>> {
        match &self.single {
            Some(single) if has_namespaces(kind) => single.iter().cloned().map(Some).collect(),
            _ => vec![None],
        }
    }

    /// The field selector of a source for all namespaces.
    pub(super) fn fields(&self, kind: ObjectKind, scope: Option<&Name>) -> Option<String> {
        let mut terms = Vec::new();
        if kind == ObjectKind::Pod {
            terms.push("status.phase!=Failed".to_owned());
        }
        if scope.is_none() && has_namespaces(kind) {
            terms.extend(
                self.except.iter().take(MAX_EXCEPT).map(|name| format!("metadata.namespace!={name}")),
            );
        }
        (!terms.is_empty()).then(|| terms.join(","))
    }

    /// Whether a namespace is read.
    pub(super) fn reads(&self, namespace: &Name) -> bool {
        self.admits(namespace) && self.single.as_ref().is_none_or(|only| only.contains(namespace))
    }

    /// Whether an object of this namespace is taken in; cluster-wide objects have none.
    pub(super) fn admits(&self, namespace: &Name) -> bool {
        namespace.is_empty()
            || (self.single.as_ref().or(self.sorted.as_ref()).is_none_or(|only| only.contains(namespace))
                && !self.except.contains(namespace))
    }
}

fn has_namespaces(kind: ObjectKind) -> bool {
    !matches!(kind, ObjectKind::Namespace | ObjectKind::Node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::options::Requirement;

    fn names(names: &[&str]) -> BTreeSet<Name> {
        names.iter().map(|name| Name::from(*name)).collect()
    }

    fn plan(selection: &Selection) -> Plan {
        let prod = NamespaceObject { labels: [("env", "prod")].into(), ..Default::default() };
        let known = [(Name::from("a"), prod), (Name::from("b"), NamespaceObject::default())];
        Plan::new(selection, &"istio-system".into(), known.iter().map(|(name, object)| (name, object)))
    }

    #[test]
    fn z11_a_few_namespaces_are_watched_one_by_one_with_the_system_namespace() {
        let plan = plan(&Selection { only: Some(names(&["a", "b"])), ..Selection::default() });
        let scopes = plan.scopes(ObjectKind::Service);
        assert_eq!(scopes, [Some("a".into()), Some("b".into()), Some("istio-system".into())]);
        assert_eq!(plan.scopes(ObjectKind::Node), [None]);
        assert_eq!(plan.fields(ObjectKind::Pod, Some(&"a".into())).as_deref(), Some("status.phase!=Failed"));
        assert!(plan.admits(&"a".into()) && plan.admits(&"".into()));
        assert!(!plan.admits(&"payments".into()), "whatever the API server answers");
    }

    #[test]
    fn z11_many_are_sorted_out_and_some_are_left_out_by_the_api_server() {
        let many: BTreeSet<_> = (0..17).map(|n| Name::from(format!("n{n}"))).collect();
        let wide = plan(&Selection { only: Some(many), ..Selection::default() });
        assert_eq!(wide.scopes(ObjectKind::Service), [None]);
        assert!(wide.admits(&"n3".into()) && wide.admits(&"istio-system".into()) && wide.admits(&"".into()));
        assert!(!wide.admits(&"other".into()));
        let except = names(&["dev", "istio-system"]);
        let most = plan(&Selection { except, ..Selection::default() });
        assert_eq!(
            most.fields(ObjectKind::Pod, None).as_deref(),
            Some("status.phase!=Failed,metadata.namespace!=dev")
        );
        assert_eq!(most.fields(ObjectKind::Node, None), None);
        assert!(!most.admits(&"dev".into()) && most.admits(&"istio-system".into()));
    }

    #[test]
    fn discovery_selectors_take_the_namespaces_that_match() {
        let labels = vec![Requirement::Is("env".into(), "prod".into())];
        let plan = plan(&Selection { labels, ..Selection::default() });
        assert_eq!(plan.scopes(ObjectKind::Pod), [Some("a".into()), Some("istio-system".into())]);
    }
}
