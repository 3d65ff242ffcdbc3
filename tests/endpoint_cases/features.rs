//! The environment switches of a case.

use serde_json::Value;

use super::shape::Shape;

/// Switches of rules that none of the kinds here is about: when something is pushed, how clients and timeouts are set.
/// Whatever they say, the answers are the same.
const ELSEWHERE: [&str; 7] = [
    "PILOT_DEBOUNCE_AFTER",
    "PILOT_DEBOUNCE_MAX",
    "PILOT_ENABLE_EDS_DEBOUNCE",
    "PILOT_PUSH_THROTTLE",
    "PILOT_REMOTE_CLUSTER_TIMEOUT",
    "PILOT_XDS_CACHE_SIZE",
    "ISTIO_DELTA_XDS",
];

/// The switches as they are set; those of a case are *effective* values.
pub(crate) struct Features {
    pub(crate) dual_stack: bool,
    pub(crate) gateway_api: bool,
    pub(crate) resolve_hosts: bool,
    pub(crate) mcs_discovery: bool,
    pub(crate) mcs_host: bool,
    pub(crate) mcs_cluster_local: bool,
    pub(crate) mcs_auto_export: bool,
    pub(crate) mcs_group: Option<String>,
    pub(crate) mcs_version: Option<String>,
    pub(crate) cross_cluster_entries: bool,
    pub(crate) services_select_entries: bool,
    pub(crate) entries_select_pods: bool,
    pub(crate) session_label: Option<String>,
    pub(crate) session_header_label: Option<String>,
    /// Those that what proxies see depends on.
    pub(crate) view: tombolo::model::Features,
}

impl Features {
    pub(crate) fn read(features: &Value) -> Shape<Self> {
        let mut read = Self {
            dual_stack: false,
            gateway_api: true,
            resolve_hosts: true,
            mcs_discovery: false,
            mcs_host: false,
            mcs_cluster_local: false,
            mcs_auto_export: false,
            mcs_group: None,
            mcs_version: None,
            cross_cluster_entries: true,
            services_select_entries: true,
            entries_select_pods: true,
            session_label: None,
            session_header_label: None,
            view: tombolo::model::Features::default(),
        };
        let view = &mut read.view;
        for (name, value) in switches(features)? {
            match name {
                "ISTIO_DUAL_STACK" => {
                    read.dual_stack = is_on(name, value)?;
                    view.dual_stack = read.dual_stack;
                }
                "PILOT_SEND_UNHEALTHY_ENDPOINTS" => view.send_unhealthy = is_on(name, value)?,
                "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS" => view.auto_send_unhealthy = is_on(name, value)?,
                "PILOT_DRAINING_LABEL" => view.draining_label = text(name, value)?.as_str().into(),
                "PILOT_ENABLE_AMBIENT" => view.ambient |= is_on(name, value)?,
                "PILOT_PREFER_SENDING_HBONE" => view.prefer_hbone = is_on(name, value)?,
                "AMBIENT_ENABLE_MULTI_NETWORK" => view.multi_network = is_on(name, value)?,
                "AMBIENT_ENABLE_MULTI_NETWORK_WAYPOINT" => view.multi_network_waypoint = is_on(name, value)?,
                "AMBIENT_ENABLE_MULTI_NETWORK_INGRESS" => view.multi_network_ingress = is_on(name, value)?,
                "ENABLE_INGRESS_WAYPOINT_ROUTING" => view.ingress_waypoints = is_on(name, value)?,
                // About tables of names (R5.30), never about endpoints.
                "ENABLE_MULTICLUSTER_HEADLESS" => _ = is_on(name, value)?,
                "PILOT_ENABLE_EDS_FOR_HEADLESS_SERVICES" => view.eds_for_headless = is_on(name, value)?,
                "ENABLE_LOCALITY_WEIGHTED_LB_CONFIG" => view.locality_weighted = is_on(name, value)?,
                "PILOT_ENABLE_TELEMETRY_LABEL" => view.telemetry_label = is_on(name, value)?,
                "PILOT_ENDPOINT_TELEMETRY_LABEL" => view.endpoint_telemetry_label = is_on(name, value)?,
                "PILOT_MULTI_NETWORK_DISCOVER_GATEWAY_API" => read.gateway_api = is_on(name, value)?,
                "RESOLVE_HOSTNAME_GATEWAYS" => read.resolve_hosts = is_on(name, value)?,
                "ENABLE_MCS_SERVICE_DISCOVERY" => read.mcs_discovery |= is_on(name, value)?,
                "ENABLE_MCS_HOST" => read.mcs_host |= is_on(name, value)?,
                "ENABLE_MCS_CLUSTER_LOCAL" => read.mcs_cluster_local = is_on(name, value)?,
                "ENABLE_MCS_AUTO_EXPORT" => read.mcs_auto_export = is_on(name, value)?,
                "MCS_API_GROUP" => read.mcs_group = Some(text(name, value)?),
                "MCS_API_VERSION" => read.mcs_version = Some(text(name, value)?),
                "PILOT_ENABLE_CROSS_CLUSTER_WORKLOAD_ENTRY" => {
                    read.cross_cluster_entries = is_on(name, value)?;
                }
                "PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES" => {
                    read.services_select_entries = is_on(name, value)?;
                }
                "PILOT_ENABLE_SERVICEENTRY_SELECT_PODS" => read.entries_select_pods = is_on(name, value)?,
                "PILOT_PERSISTENT_SESSION_LABEL" => read.session_label = Some(text(name, value)?),
                "PILOT_PERSISTENT_SESSION_HEADER_LABEL" => {
                    read.session_header_label = Some(text(name, value)?);
                }
                other if ELSEWHERE.contains(&other) => {}
                other => return Err(format!("feature {other} is not known here")),
            }
        }
        // What a switch needs is on with it.
        read.mcs_host |= read.mcs_cluster_local;
        read.mcs_discovery |= read.mcs_host;
        read.view.ambient |= read.view.prefer_hbone || read.view.multi_network;
        Ok(read)
    }
}

/// The switches that send every unhealthy endpoint, of those that updates of shards may be told with. In cases
/// endpoints say so themselves: a switch that is not listed says nothing.
pub(crate) fn sends_unhealthy(features: &Value) -> Shape<bool> {
    let mut sent = false;
    for (name, value) in switches(features)? {
        match name {
            "PILOT_SEND_UNHEALTHY_ENDPOINTS" | "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS" => {
                sent |= is_on(name, value)?;
            }
            other => return Err(format!("feature {other} is not known here")),
        }
    }
    Ok(sent)
}

fn switches(features: &Value) -> Shape<Vec<(&str, &Value)>> {
    match features {
        Value::Null => Ok(Vec::new()),
        Value::Object(all) => Ok(all.iter().map(|(name, value)| (name.as_str(), value)).collect()),
        other => Err(format!("features are {other}, not an object")),
    }
}

fn is_on(name: &str, value: &Value) -> Shape<bool> {
    match value {
        Value::Bool(on) => Ok(*on),
        Value::String(on) if ["true", "1"].contains(&on.to_ascii_lowercase().as_str()) => Ok(true),
        Value::String(on) if ["false", "0"].contains(&on.to_ascii_lowercase().as_str()) => Ok(false),
        other => Err(format!("feature {name} is {other}, neither true nor false")),
    }
}

fn text(name: &str, value: &Value) -> Shape<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("feature {name} is {value}, not a text"))
}
