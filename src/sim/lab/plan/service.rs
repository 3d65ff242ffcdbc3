//! The Services of the lab's own application.

use super::NAMESPACE;

/// One Service of the lab's application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppService {
    /// Service name in [`NAMESPACE`].
    pub name: &'static str,
    /// Name of its one port, which tells the protocol.
    pub port_name: &'static str,
    /// The Service's port and its target port.
    pub port: u16,
    /// Last octet of its VIP.
    pub(super) vip: u8,
}

/// One Service per protocol, all in front of the same pods.
pub const SERVICES: [AppService; 3] = [HELLOWORLD, GREETER, ECHO];
/// HTTP/1.1.
pub const HELLOWORLD: AppService = AppService { name: "helloworld", port_name: "http", port: 5000, vip: 10 };
/// HTTP/2.
pub const GREETER: AppService = AppService { name: "greeter", port_name: "http2", port: 7000, vip: 11 };
/// Opaque TCP.
pub const ECHO: AppService = AppService { name: "echo", port_name: "tcp", port: 9000, vip: 12 };

impl AppService {
    /// The fully qualified name.
    pub fn host(&self) -> String {
        format!("{}.{NAMESPACE}.svc.cluster.local", self.name)
    }

    /// Name of Envoy's cluster for it.
    pub fn envoy_cluster(&self) -> String {
        format!("outbound|{}||{}", self.port, self.host())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoy_cluster_names_are_istios() {
        assert_eq!(HELLOWORLD.envoy_cluster(), "outbound|5000||helloworld.sample.svc.cluster.local");
    }
}
