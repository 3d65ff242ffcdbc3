//! The application protocol of a port (R5.32).

use crate::model::{PortProtocol, Transport};

/// Ports on which the server speaks first, so that detection would wait for ever.
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

/// R5.32.
pub(super) fn protocol(transport: Transport, number: u16, name: &str, app_protocol: &str) -> PortProtocol {
    if transport == Transport::Udp {
        return PortProtocol::Udp;
    }
    let declared = match app_protocol {
        "" => name,
        "kubernetes.io/h2c" => "http2",
        "kubernetes.io/ws" => "http",
        "kubernetes.io/wss" => "https",
        other => other,
    };
    by_name(&declared.to_ascii_lowercase()).unwrap_or(if SERVER_FIRST.contains(&number) {
        PortProtocol::Tcp
    } else {
        PortProtocol::Auto
    })
}

fn by_name(name: &str) -> Option<PortProtocol> {
    if name.starts_with("grpc-web") {
        return Some(PortProtocol::GrpcWeb);
    }
    let prefix = name.split('-').next().unwrap_or_default();
    Some(match prefix {
        "http" => PortProtocol::Http,
        "http2" => PortProtocol::Http2,
        "https" => PortProtocol::Https,
        "grpc" => PortProtocol::Grpc,
        "tls" => PortProtocol::Tls,
        "tcp" | "mongo" | "redis" | "mysql" => PortProtocol::Tcp,
        "udp" => PortProtocol::Udp,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r5_32_protocol_of_a_port() {
        use PortProtocol as P;
        use Transport::{Tcp, Udp};
        for (transport, number, name, app, expected) in [
            (Udp, 53, "http", "", P::Udp),
            (Tcp, 80, "http", "", P::Http),
            (Tcp, 80, "HTTP-web", "", P::Http),
            (Tcp, 80, "http2-x", "", P::Http2),
            (Tcp, 80, "grpc", "", P::Grpc),
            (Tcp, 80, "grpc-web-x", "", P::GrpcWeb),
            (Tcp, 80, "GRPC-Web", "", P::GrpcWeb),
            (Tcp, 443, "https-x", "", P::Https),
            (Tcp, 443, "tls", "", P::Tls),
            (Tcp, 9000, "tcp-metrics", "", P::Tcp),
            (Tcp, 9000, "mongo", "", P::Tcp),
            (Tcp, 9000, "redis", "", P::Tcp),
            (Tcp, 9000, "mysql-a", "", P::Tcp),
            (Tcp, 9000, "udp-x", "", P::Udp),
            (Tcp, 9000, "web", "", P::Auto),
            (Tcp, 9000, "httpx", "", P::Auto),
            (Tcp, 9000, "", "", P::Auto),
            (Tcp, 25, "", "", P::Tcp),
            (Tcp, 53, "x", "", P::Tcp),
            (Tcp, 3306, "", "", P::Tcp),
            (Tcp, 27017, "", "", P::Tcp),
            (Tcp, 80, "tcp", "kubernetes.io/h2c", P::Http2),
            (Tcp, 80, "tcp", "kubernetes.io/ws", P::Http),
            (Tcp, 80, "tcp", "kubernetes.io/wss", P::Https),
            (Tcp, 80, "tcp", "grpc", P::Grpc),
            (Tcp, 80, "http", "example.com/own", P::Auto),
        ] {
            assert_eq!(protocol(transport, number, name, app), expected, "{name} {app} {number}");
        }
    }
}
