//! Variables that deployments of the peer already set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{McsSettings, Settings};
use crate::model::Features;

/// *Fatal* at start: a variable's value cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name}={value:?}: {problem}; correct it or give {flag}")]
pub struct VariableError {
    name: &'static str,
    value: String,
    problem: String,
    flag: &'static str,
}

/// Settings from istiod's variables, read by `get`. Empty values count as absent.
///
/// # Errors
/// [`VariableError`] for the first value that cannot be read.
pub fn from_istiod_variables(get: impl Fn(&str) -> Option<String>) -> Result<Settings, VariableError> {
    let text = |name: &str| get(name).filter(|value| !value.is_empty());
    let duration = |name: &'static str, flag: &'static str| -> Result<Option<Duration>, VariableError> {
        let Some(value) = text(name) else {
            return Ok(None);
        };
        let parsed = humantime::parse_duration(&value);
        parsed.map(Some).map_err(|_| VariableError {
            name,
            value: value.clone(),
            problem: "not a duration such as 30s".to_owned(),
            flag,
        })
    };
    let switch = |name: &'static str, flag: &'static str| -> Result<Option<bool>, VariableError> {
        let Some(value) = text(name) else {
            return Ok(None);
        };
        match value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            _ => Err(VariableError { name, value, problem: "neither true nor false".to_owned(), flag }),
        }
    };
    // R1.9: both are needed.
    let external = switch("EXTERNAL_ISTIOD", "--local-cluster-secret-watcher")?;
    let watcher = switch("LOCAL_CLUSTER_SECRET_WATCHER", "--local-cluster-secret-watcher")?;
    let mcs = McsSettings {
        service_discovery: switch("ENABLE_MCS_SERVICE_DISCOVERY", "mcs, service-discovery in --config")?,
        host: switch("ENABLE_MCS_HOST", "mcs, host in --config")?,
        cluster_local: switch("ENABLE_MCS_CLUSTER_LOCAL", "mcs, cluster-local in --config")?,
        auto_export: switch("ENABLE_MCS_AUTO_EXPORT", "mcs, auto-export in --config")?,
        api_group: text("MCS_API_GROUP"),
        api_version: text("MCS_API_VERSION"),
    };
    // Dual stack is a setting of its own.
    let own = Features::VARIABLES.iter().filter(|name| **name != "ISTIO_DUAL_STACK");
    let features: BTreeMap<_, _> = own.filter_map(|name| Some(((*name).to_owned(), text(name)?))).collect();
    Features::from_variables(|name| features.get(name).cloned()).map_err(|(name, value)| VariableError {
        name,
        value,
        problem: "neither true nor false".to_owned(),
        flag: "features in --config",
    })?;
    Ok(Settings {
        cluster_id: text("CLUSTER_ID"),
        kubeconfig_dir: text("PILOT_MULTICLUSTER_KUBECONFIG_PATH").map(PathBuf::from),
        insecure_kubeconfig_options: text("PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS"),
        remote_cluster_timeout: duration("PILOT_REMOTE_CLUSTER_TIMEOUT", "--remote-cluster-timeout")?,
        debounce_after: duration("PILOT_DEBOUNCE_AFTER", "--debounce-after")?,
        debounce_max: duration("PILOT_DEBOUNCE_MAX", "--debounce-max")?,
        resolve_hostname_gateways: switch("RESOLVE_HOSTNAME_GATEWAYS", "--resolve-hostname-gateways")?,
        discover_gateway_api: switch("PILOT_MULTI_NETWORK_DISCOVER_GATEWAY_API", "--discover-gateway-api")?,
        ca_dir: text("ROOT_CA_DIR").map(PathBuf::from),
        dual_stack: switch("ISTIO_DUAL_STACK", "dual-stack in --config")?,
        revision: text("REVISION"),
        persistent_session_label: text("PILOT_PERSISTENT_SESSION_LABEL"),
        persistent_session_header_label: text("PILOT_PERSISTENT_SESSION_HEADER_LABEL"),
        cross_cluster_workload_entries: switch(
            "PILOT_ENABLE_CROSS_CLUSTER_WORKLOAD_ENTRY",
            "cross-cluster-workload-entries in --config",
        )?,
        services_select_workload_entries: switch(
            "PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES",
            "services-select-workload-entries in --config",
        )?,
        service_entries_select_pods: switch(
            "PILOT_ENABLE_SERVICEENTRY_SELECT_PODS",
            "service-entries-select-pods in --config",
        )?,
        mcs: (mcs != McsSettings::default()).then_some(mcs),
        features: (!features.is_empty()).then_some(features),
        local_cluster_secret_watcher: (external == Some(true) && watcher == Some(true)).then_some(true),
        ..Settings::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istiods_variables_are_read_and_errors_name_them() {
        let settings = from_istiod_variables(|name| (name == "CLUSTER_ID").then(|| "east".to_owned()));
        assert_eq!(settings.expect("valid").cluster_id.as_deref(), Some("east"));
        let off = from_istiod_variables(|name| (name == "RESOLVE_HOSTNAME_GATEWAYS").then(|| "0".to_owned()));
        assert_eq!(off.expect("valid").resolve_hostname_gateways, Some(false));
        let name = "PILOT_MULTI_NETWORK_DISCOVER_GATEWAY_API";
        let error =
            from_istiod_variables(|asked| (asked == name).then(|| "no".to_owned())).expect_err("no switch");
        assert!(error.to_string().contains("--discover-gateway-api"), "{error}");
        let external = |other: &'static str| {
            let get =
                move |name: &str| (name == "EXTERNAL_ISTIOD" || name == other).then(|| "true".to_owned());
            from_istiod_variables(get).expect("valid").local_cluster_secret_watcher
        };
        assert_eq!((external("x"), external("LOCAL_CLUSTER_SECRET_WATCHER")), (None, Some(true)), "R1.9");
        let name = "PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS";
        let settings = from_istiod_variables(|asked| (asked == name).then(|| "exec".to_owned()));
        assert_eq!(settings.expect("valid").complete().expect("valid").insecure_kubeconfig_options, "exec");
        let mcs = from_istiod_variables(|name| (name == "ENABLE_MCS_HOST").then(|| "true".to_owned()));
        assert!(
            mcs.expect("valid")
                .mcs
                .is_some_and(|mcs| mcs.host == Some(true) && mcs.service_discovery.is_none())
        );
        let name = "PILOT_ENABLE_SERVICEENTRY_SELECT_PODS";
        let settings = from_istiod_variables(|asked| (asked == name).then(|| "false".to_owned()));
        let config = settings.expect("valid").complete().expect("valid");
        assert!(!config.service_entries_select_pods && config.services_select_workload_entries);
        let draining =
            from_istiod_variables(|name| (name == "PILOT_SEND_UNHEALTHY_ENDPOINTS").then(|| "T".to_owned()));
        let config = draining.expect("valid").complete().expect("valid");
        assert!(config.features.send_unhealthy && config.features.auto_send_unhealthy);
        let error = from_istiod_variables(|name| (name == "PILOT_ENABLE_AMBIENT").then(|| "on".to_owned()))
            .expect_err("no switch")
            .to_string();
        assert!(error.contains("PILOT_ENABLE_AMBIENT=\"on\"") && error.contains("features"), "{error}");
        let dual_stack = |value: &'static str| {
            from_istiod_variables(|name| (name == "ISTIO_DUAL_STACK").then(|| value.to_owned()))
                .map(|settings| settings.dual_stack)
        };
        assert_eq!((dual_stack("t"), dual_stack("False")), (Ok(Some(true)), Ok(Some(false))));
        let error = dual_stack("yes").expect_err("no switch").to_string();
        assert!(error.contains("ISTIO_DUAL_STACK=\"yes\"") && error.contains("dual-stack"), "{error}");
        let error = from_istiod_variables(|name| (name == "PILOT_DEBOUNCE_MAX").then(|| "soon".to_owned()))
            .expect_err("not a duration")
            .to_string();
        assert!(error.contains("PILOT_DEBOUNCE_MAX=\"soon\"") && error.contains("--debounce-max"), "{error}");
    }
}
