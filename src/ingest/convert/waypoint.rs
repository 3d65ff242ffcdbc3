//! Labels of Services and Namespaces → the waypoint through which ingress gateways send (R4.37).

use super::ClusterContext;
use crate::ingest::objects::{Labels, NamespaceObject, ObjectKey};
use crate::model::{Name, ServiceKey};

/// Label with the name of a waypoint; `none` says that there is none, whatever the Namespace says.
const WAYPOINT: &str = "istio.io/use-waypoint";
/// Label with the namespace of that waypoint, where it is another one.
const WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
/// Label that sends ingress gateways through it too.
const BY_INGRESS: &str = "istio.io/ingress-use-waypoint";
/// What a label says that wants no waypoint.
const NONE: &str = "none";

/// The service of the waypoint of a Service in `own`, if ingress gateways are to send through one. A waypoint is the
/// Service of the same name that its controller makes. What the Service does not say its Namespace says; the namespace of
/// a waypoint is that beside its name.
pub(super) fn of_ingress(
    context: &ClusterContext,
    own: &Name,
    service: &Labels,
    namespace: Option<&NamespaceObject>,
) -> Option<ServiceKey> {
    let all = || [Some(service), namespace.map(|namespace| &namespace.labels)].into_iter().flatten();
    let by_ingress = all().find_map(|labels| said(labels, BY_INGRESS));
    by_ingress.filter(|value| value.eq_ignore_ascii_case("true"))?;
    let labels = all().find(|labels| said(labels, WAYPOINT).is_some())?;
    let name = said(labels, WAYPOINT).filter(|name| name.as_str() != NONE)?;
    let namespace = said(labels, WAYPOINT_NAMESPACE).unwrap_or(own);
    Some(context.service_key(&ObjectKey::new(namespace.clone(), name.clone())))
}

/// What labels say of waypoints: equal where they say the same.
pub fn says_of_waypoints(labels: &Labels) -> [Option<Name>; 3] {
    [WAYPOINT, WAYPOINT_NAMESPACE, BY_INGRESS].map(|label| said(labels, label).cloned())
}

fn said<'a>(labels: &'a Labels, label: &str) -> Option<&'a Name> {
    labels.get(label).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::test_context;
    use super::*;

    fn of(service: &[(&str, &str)], namespace: &[(&str, &str)]) -> Option<String> {
        let labels = |all: &[(&str, &str)]| -> Labels {
            all.iter().map(|&(label, value)| (label.into(), value.into())).collect()
        };
        let namespace = NamespaceObject { labels: labels(namespace), ..NamespaceObject::default() };
        let found = of_ingress(&test_context(), &"a".into(), &labels(service), Some(&namespace));
        found.map(|key| key.to_string())
    }

    #[test]
    fn r4_37_the_service_speaks_before_its_namespace() {
        let own = Some("a/w.a.svc.cluster.local".to_owned());
        let other = Some("b/w.b.svc.cluster.local".to_owned());
        let by_ingress = (BY_INGRESS, "true");
        assert_eq!(of(&[(WAYPOINT, "w"), by_ingress], &[]), own);
        assert_eq!(of(&[(WAYPOINT, "w")], &[]), None, "ingress gateways go straight");
        assert_eq!(of(&[(WAYPOINT, "w"), (BY_INGRESS, "false")], &[by_ingress]), None);
        assert_eq!(of(&[by_ingress], &[]), None);
        assert_eq!(of(&[by_ingress], &[(WAYPOINT, "w")]), own);
        assert_eq!(of(&[by_ingress], &[(WAYPOINT, "w"), (WAYPOINT_NAMESPACE, "b")]), other);
        assert_eq!(of(&[(WAYPOINT, "w"), by_ingress], &[(WAYPOINT, "x"), (WAYPOINT_NAMESPACE, "b")]), own);
        assert_eq!(of(&[(WAYPOINT, NONE), by_ingress], &[(WAYPOINT, "w")]), None);
        assert_eq!(of(&[], &[(WAYPOINT, "w"), by_ingress]), own);
    }
}
