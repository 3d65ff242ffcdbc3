//! The switches of the peer that what proxies see depends on.

use super::Name;

macro_rules! switches {
    ($($(#[$doc:meta])* $field:ident: $variable:literal = $default:literal;)*) => {
        /// Switches under the names and with the defaults of the peer (appendix A). Those that need another one are
        /// off without it ([`Features::from_variables`]).
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Features {
            $($(#[$doc])* pub $field: bool,)*
            /// `PILOT_DRAINING_LABEL`: the label that marks a draining pod (R4.9).
            pub draining_label: Name,
        }

        impl Default for Features {
            fn default() -> Self {
                Self { $($field: $default,)* draining_label: "istio.io/draining".into() }
            }
        }

        impl Features {
            /// The environment variables that set them.
            pub const VARIABLES: &[&str] = &[$($variable,)* "PILOT_DRAINING_LABEL"];

            /// The effective switches: defaults, changed by those variables that are set and not empty.
            ///
            /// # Errors
            /// The first variable that is neither true nor false, with its value.
            pub fn from_variables(
                get: impl Fn(&str) -> Option<String>,
            ) -> Result<Self, (&'static str, String)> {
                let text = |name: &str| get(name).filter(|value| !value.is_empty());
                let mut features = Self::default();
                $(
                    if let Some(value) = text($variable) {
                        features.$field = truth(&value).ok_or(($variable, value))?;
                    }
                )*
                if let Some(label) = text("PILOT_DRAINING_LABEL") {
                    features.draining_label = label.as_str().into();
                }
                Ok(features.effective())
            }
        }
    };
}

switches! {
    /// Unready endpoints of every service are sent (R4.10).
    send_unhealthy: "PILOT_SEND_UNHEALTHY_ENDPOINTS" = false;
    /// Unready endpoints are sent unless outlier detection has a minimum of healthy ones (R4.10).
    auto_send_unhealthy: "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS" = true;
    /// Further addresses of an endpoint are sent (R4.15).
    dual_stack: "ISTIO_DUAL_STACK" = false;
    /// Ambient mode: without it every switch below that is about it is off. Sidecars and routers then send HBONE to
    /// workloads that take it (R4.16); the Envoys of the mesh need the bootstrap extension
    /// `envoy.bootstrap.internal_listener`, or `DISABLE_HBONE_SEND` in their metadata as sidecars. Nothing is made that
    /// takes HBONE: neither for sidecars nor for waypoints and east-west gateways of an ambient mesh.
    ambient: "PILOT_ENABLE_AMBIENT" = false;
    /// HBONE is preferred to mTLS where an endpoint offers both (R4.16).
    prefer_hbone: "PILOT_PREFER_SENDING_HBONE" = false;
    /// Ambient mode over several networks (R4.20): routers reach other networks by HBONE inside HBONE (R4.24).
    multi_network: "AMBIENT_ENABLE_MULTI_NETWORK" = false;
    /// Waypoints use other networks (R4.21).
    multi_network_waypoint: "AMBIENT_ENABLE_MULTI_NETWORK_WAYPOINT" = true;
    /// Managed ingress gateways use other networks (R4.21).
    multi_network_ingress: "AMBIENT_ENABLE_MULTI_NETWORK_INGRESS" = false;
    /// Ingress gateways send through waypoints (R4.37).
    ingress_waypoints: "ENABLE_INGRESS_WAYPOINT_ROUTING" = true;
    /// Sidecars get headless services by EDS (R5.21).
    eds_for_headless: "PILOT_ENABLE_EDS_FOR_HEADLESS_SERVICES" = false;
    /// Envoy clusters always balance by the weights of localities (R4.36).
    locality_weighted: "ENABLE_LOCALITY_WEIGHTED_LB_CONFIG" = false;
    /// Workload names are told (R4.14).
    telemetry_label: "PILOT_ENABLE_TELEMETRY_LABEL" = true;
    /// Workload names are told with endpoints (R4.14).
    endpoint_telemetry_label: "PILOT_ENDPOINT_TELEMETRY_LABEL" = true;
}

impl Features {
    /// Off what needs ambient mode and has it not.
    #[must_use]
    pub fn effective(mut self) -> Self {
        if !self.ambient {
            self.prefer_hbone = false;
            self.multi_network = false;
            self.multi_network_waypoint = false;
            self.multi_network_ingress = false;
            self.ingress_waypoints = false;
        }
        self
    }

    /// Whether endpoints carry the name of their workload (R4.14).
    pub fn tells_workloads(&self) -> bool {
        self.telemetry_label && self.endpoint_telemetry_label
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &[(&str, &str)]) -> Result<Features, (&'static str, String)> {
        Features::from_variables(|name| {
            set.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn appendix_a_switches_have_their_defaults_and_need_what_they_need() {
        let none = of(&[]).expect("defaults");
        assert!(none.auto_send_unhealthy && !none.send_unhealthy && !none.multi_network_waypoint);
        assert!(!of(&[("AMBIENT_ENABLE_MULTI_NETWORK", "true")]).expect("valid").multi_network);
        let both = [("PILOT_ENABLE_AMBIENT", "1"), ("AMBIENT_ENABLE_MULTI_NETWORK", "T")];
        let both = of(&both).expect("valid");
        assert!(both.multi_network && both.multi_network_waypoint && !both.multi_network_ingress);
        assert_eq!(&*of(&[("PILOT_DRAINING_LABEL", "my/label")]).expect("valid").draining_label, "my/label");
        let wrong = of(&[("ISTIO_DUAL_STACK", "yes")]).expect_err("no switch");
        assert_eq!(wrong, ("ISTIO_DUAL_STACK", "yes".to_owned()));
        assert!(!of(&[("PILOT_ENABLE_TELEMETRY_LABEL", "0")]).expect("valid").tells_workloads());
    }
}
