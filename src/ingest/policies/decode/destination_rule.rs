//! DestinationRules.

use super::spelling::is_label;
use super::{At, Terms, names, traffic};
use crate::model::ExportTo;
use crate::model::policy::{DestinationRule, PolicyMeta, Subset};

/// Reads the spec of a DestinationRule.
///
/// # Errors
/// What is wrong, naming the field.
pub(in crate::ingest) fn destination_rule(
    meta: PolicyMeta,
    spec: &At<'_>,
    terms: &Terms,
) -> Result<DestinationRule, String> {
    let Some(host) = spec.read("host", |host| names::host(host, &meta, terms))? else {
        return Err("host: the host it is about is needed".to_owned());
    };
    let selector = names::selector(spec, "workloadSelector", "matchLabels")?;
    let own = &meta.id.namespace;
    let mut export_to = names::export_to(spec, own, &terms.destination_rule_export_to)?;
    if !selector.is_everything() {
        let own = ExportTo::Namespaces([own.clone()].into());
        if spec.field("exportTo").is_some() && export_to != own {
            return Err("exportTo: only `.` is allowed with a workloadSelector".to_owned());
        }
        export_to = own;
    }
    let subsets = spec.list("subsets", subset)?;
    for (index, one) in subsets.iter().enumerate() {
        if subsets[..index].iter().any(|other| other.name == one.name) {
            return Err(format!("subsets[{index}].name: `{}` comes twice", one.name));
        }
    }
    let policy = spec.read("trafficPolicy", traffic::traffic_policy)?.unwrap_or_default();
    Ok(DestinationRule { host, policy, subsets, selector, export_to, meta })
}

fn subset(at: &At<'_>) -> Result<Subset, String> {
    at.object()?;
    let name = at.read("name", |name| {
        let text = name.text()?;
        if is_label(text) { Ok(text.into()) } else { name.wrong("letters, digits and `-`, at most 63") }
    })?;
    let Some(name) = name else {
        return Err(format!("{at}.name: the name of the subset is needed"));
    };
    let labels = at.read("labels", names::labels)?.unwrap_or_default();
    if labels.is_empty() {
        at.tell("without labels it is every endpoint of the host");
    }
    Ok(Subset {
        name,
        labels,
        policy: at.read("trafficPolicy", traffic::traffic_policy)?.unwrap_or_default(),
    })
}
