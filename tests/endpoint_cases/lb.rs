//! The locality step, and tables about what proxies see.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tombolo::model::policy::{LoadBalancer, MeshConfig};
use tombolo::model::{ClusterLocalHosts, Locality, Name, TrafficDistribution};
use tombolo::view::lb::{Client, Group, Member, Plan, Setting, Source, apply, plan, setting};

use super::flags::Flags;
use super::policies::{labels, locality_lb, mesh, zone_aware};
use super::proxy;
use super::shape::{Answer, Shape, answer, given, list, only, same, text, texts, truth};

struct Told {
    address: String,
    weight: u128,
    labels: BTreeMap<String, String>,
}

impl Member for Told {
    fn label(&self, label: &str) -> &str {
        self.labels.get(label).map(String::as_str).unwrap_or_default()
    }

    fn weight(&self) -> u128 {
        self.weight
    }
}

/// R4.31–R4.35.
pub(crate) fn check(case: &Value, flags: &Flags) -> Answer {
    answer(compare(case, flags))
}

const INPUT: [&str; 7] =
    ["proxyLocality", "proxyLabels", "settingKind", "setting", "outlierDetection", "forceFailover", "groups"];

fn compare(case: &Value, flags: &Flags) -> Shape<Result<(), String>> {
    let input = &case["input"];
    only("input", input, &INPUT)?;
    only("expect", &case["expect"], &["groups"])?;
    let (locality, zones);
    let chosen = match text(input, "settingKind")? {
        "" | "locality" => {
            locality = locality_lb(&input["setting"])?;
            Setting::Locality(Source::Rule, &locality)
        }
        "zoneAware" => {
            zones = zone_aware(&input["setting"])?;
            Setting::ZoneAware(Source::Rule, &zones)
        }
        other => return Err(format!("settingKind {other:?}")),
    };
    let outliers = truth(input, "outlierDetection")? || truth(input, "forceFailover")?;
    let plan: Plan<'_> = plan(Some(chosen), outliers, flags.quirks());
    let own: Vec<(Name, Name)> =
        labels(&input["proxyLabels"])?.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let from = Locality::parse(text(input, "proxyLocality")?);
    let client = Client { locality: &from, labels: Some(own.as_slice()).filter(|own| !own.is_empty()) };
    let groups = given(input, "groups")?.iter().map(group).collect::<Shape<Vec<_>>>()?;
    let ours: Vec<_> = apply(&plan, client, groups).iter().map(shown).collect();
    let expected = given(&case["expect"], "groups")?.iter().map(expected).collect::<Shape<Vec<_>>>()?;
    Ok(same("groups", &ours, &expected))
}

fn number(value: &Value, field: &str) -> Shape<Option<u128>> {
    match &value[field] {
        Value::Null => Ok(None),
        value => {
            value.as_u64().map(|number| Some(number.into())).ok_or_else(|| format!("{field} is {value}"))
        }
    }
}

fn group(told: &Value) -> Shape<Group<Told>> {
    only("a group", told, &["locality", "priority", "weight", "endpoints"])?;
    let member = |told: &Value| -> Shape<Told> {
        only("an endpoint", told, &["address", "weight", "labels"])?;
        let labels = labels(&told["labels"])?;
        Ok(Told {
            address: text(told, "address")?.to_owned(),
            weight: number(told, "weight")?.unwrap_or(1),
            labels: labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        })
    };
    Ok(Group {
        locality: Locality::parse(text(told, "locality")?),
        priority: number(told, "priority")?.unwrap_or(0) as u32,
        weight: number(told, "weight")?,
        members: list(told, "endpoints")?.iter().map(member).collect::<Shape<_>>()?,
    })
}

fn shown(group: &Group<Told>) -> Value {
    let addresses: Vec<_> = group.members.iter().map(|member| member.address.as_str()).collect();
    let weight = group.weight.and_then(|weight| u64::try_from(weight).ok());
    json!({"locality": group.locality.to_string(), "priority": group.priority, "weight": weight,
        "addresses": addresses})
}

fn expected(told: &Value) -> Shape<Value> {
    only("an expected group", told, &["locality", "priority", "weight", "addresses"])?;
    let locality = Locality::parse(text(told, "locality")?).to_string();
    Ok(json!({"locality": locality, "priority": number(told, "priority")?.unwrap_or(0) as u64,
        "weight": told["weight"], "addresses": texts(told, "addresses")?}))
}

/// One row in, one value out.
pub(crate) fn table(case: &Value, field: &str, row: impl Fn(&Value) -> Shape<Value>) -> Answer {
    let compare = || -> Shape<Result<(), String>> {
        only("input", &case["input"], &["rows"])?;
        only("expect", &case["expect"], &[field])?;
        let ours = given(&case["input"], "rows")?.iter().map(row).collect::<Shape<Vec<_>>>()?;
        Ok(same(field, &ours, &given(&case["expect"], field)?.to_vec()))
    };
    answer(compare())
}

/// R4.5.
pub(crate) fn cluster_local(case: &Value, _: &Flags) -> Answer {
    table(case, "clusterLocal", |row| {
        only("a row", row, &["mesh", "host"])?;
        let local = ClusterLocalHosts::new("cluster.local", "istio-system");
        Ok(json!(local.says(&mesh(&row["mesh"])?.service_settings, text(row, "host")?)))
    })
}

/// R2.8.
pub(crate) fn proxy_view(case: &Value, _: &Flags) -> Answer {
    table(case, "visible", proxy::proxy_view)
}

/// R4.29.
pub(crate) fn effective(case: &Value, _: &Flags) -> Answer {
    table(case, "setting", |row| {
        only("a row", row, &["meshLocality", "meshZoneAware", "drLocality", "drZoneAware", "service"])?;
        let locality = |field: &str| -> Shape<_> {
            if row[field].is_null() { Ok(None) } else { locality_lb(&row[field]).map(Some) }
        };
        let zones = |field: &str| -> Shape<_> {
            if row[field].is_null() { Ok(None) } else { zone_aware(&row[field]).map(Some) }
        };
        let mesh = MeshConfig {
            locality_lb: locality("meshLocality")?,
            zone_aware_lb: zones("meshZoneAware")?,
            ..MeshConfig::default()
        };
        let rule = LoadBalancer {
            locality: locality("drLocality")?,
            zone_aware: zones("drZoneAware")?,
            ..LoadBalancer::default()
        };
        let service = match text(row, "service")? {
            "" | "Any" => TrafficDistribution::Any,
            "PreferClose" | "PreferSameZone" => TrafficDistribution::PreferSameZone,
            "PreferSameNode" => TrafficDistribution::PreferSameNode,
            other => return Err(format!("service {other:?}")),
        };
        Ok(json!(spelled(setting(Some(&rule), service, &mesh))))
    })
}

fn spelled(setting: Option<Setting<'_>>) -> String {
    let of = |source| if source == Source::Rule { "dr" } else { "mesh" };
    match setting {
        None => "none".to_owned(),
        Some(Setting::Locality(source, _)) => format!("{} locality", of(source)),
        Some(Setting::Distribution(TrafficDistribution::PreferSameNode)) => {
            "service node (forced)".to_owned()
        }
        Some(Setting::Distribution(_)) => "service zone (forced)".to_owned(),
        Some(Setting::ZoneAware(source, setting)) if setting.enabled => {
            format!("{} zone-aware (forced)", of(source))
        }
        Some(Setting::ZoneAware(source, _)) => format!("{} zone-aware disabled", of(source)),
    }
}
