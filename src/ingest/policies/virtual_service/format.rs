//! Values of headers: text, and commands of Envoy's between percent signs. For a command that it does not know Envoy
//! would refuse all routes of a port.

use crate::ingest::policies::decode::spelling::HEADER_NAME;

/// What stands in brackets behind a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Argument {
    /// Nothing.
    None,
    /// The form of a time, or nothing.
    Time,
    /// One header, or `?` and another one.
    Header,
    /// A key, or several with colons.
    Key,
    /// A key, and perhaps `:PLAIN` or `:TYPED`.
    State,
    /// A kind of metadata and a key.
    Metadata,
}

/// Commands with an argument, and whether they may be cut to a length.
const WITH_ARGUMENT: [(&str, Argument, bool); 16] = [
    ("START_TIME", Argument::Time, false),
    ("DOWNSTREAM_PEER_CERT_V_START", Argument::Time, false),
    ("DOWNSTREAM_PEER_CERT_V_END", Argument::Time, false),
    ("UPSTREAM_PEER_CERT_V_START", Argument::Time, false),
    ("UPSTREAM_PEER_CERT_V_END", Argument::Time, false),
    ("REQ", Argument::Header, true),
    ("RESP", Argument::Header, true),
    ("TRAILER", Argument::Header, true),
    ("DYNAMIC_METADATA", Argument::Key, true),
    ("ENVIRONMENT", Argument::Key, true),
    ("CLUSTER_METADATA", Argument::Key, false),
    ("UPSTREAM_METADATA", Argument::Key, false),
    ("FILTER_STATE", Argument::State, true),
    ("UPSTREAM_FILTER_STATE", Argument::State, true),
    ("METADATA", Argument::Metadata, false),
    ("HOSTNAME", Argument::None, false),
];

/// Commands that stand alone.
const ALONE: [&str; 83] = [
    "ACCESS_LOG_TYPE",
    "BYTES_RECEIVED",
    "BYTES_RETRANSMITTED",
    "BYTES_SENT",
    "CONNECTION_ID",
    "CONNECTION_TERMINATION_DETAILS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_PORT",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_HEADER_BYTES_SENT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_LOCAL_IP_SAN",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_IP_SAN",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    "DOWNSTREAM_WIRE_BYTES_SENT",
    "DURATION",
    "FILTER_CHAIN_NAME",
    "GRPC_STATUS",
    "GRPC_STATUS_NUMBER",
    "LOCAL_REPLY_BODY",
    "PROTOCOL",
    "REQUESTED_SERVER_NAME",
    "REQUEST_DURATION",
    "REQUEST_HEADERS_BYTES",
    "REQUEST_TX_DURATION",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_DURATION",
    "RESPONSE_FLAGS",
    "RESPONSE_FLAGS_LONG",
    "RESPONSE_HEADERS_BYTES",
    "RESPONSE_TRAILERS_BYTES",
    "RESPONSE_TX_DURATION",
    "ROUTE_NAME",
    "STREAM_ID",
    "TLS_JA3_FINGERPRINT",
    "TRACE_ID",
    "UNIQUE_ID",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_CLUSTER_RAW",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT",
    "UPSTREAM_HOST",
    "UPSTREAM_LOCAL_ADDRESS",
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_LOCAL_PORT",
    "UPSTREAM_PEER_CERT",
    "UPSTREAM_PEER_ISSUER",
    "UPSTREAM_PEER_SUBJECT",
    "UPSTREAM_PROTOCOL",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_TLS_CIPHER",
    "UPSTREAM_TLS_SESSION_ID",
    "UPSTREAM_TLS_VERSION",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_WIRE_BYTES_SENT",
    "VIRTUAL_CLUSTER_NAME",
];

/// Checks the value of a header.
///
/// # Errors
/// Why Envoy would refuse it.
pub(super) fn check(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once('%') {
        rest = match behind.strip_prefix('%') {
            Some(behind) => behind,
            None => command(behind).map_err(|why| format!("is no value of a header: {why}"))?,
        };
    }
    Ok(())
}

/// Reads a command behind its percent sign; what follows it.
fn command(text: &str) -> Result<&str, String> {
    let end = text.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
    let (name, mut rest) = text.split_at(end.unwrap_or(text.len()));
    let unfinished = || "write %% for a percent sign".to_owned();
    let mut argument = None;
    if let Some(inside) = rest.strip_prefix('(') {
        let (found, behind) = inside.split_once(')').ok_or_else(unfinished)?;
        (argument, rest) = (Some(found), behind);
    }
    let mut cut = false;
    if let Some(length) = rest.strip_prefix(':') {
        let end = length.find(|c: char| !c.is_ascii_digit()).unwrap_or(length.len());
        if !(1..=6).contains(&end) {
            return Err(format!("%{name} has no length behind its colon"));
        }
        (cut, rest) = (true, &length[end..]);
    }
    let rest = rest.strip_prefix('%').filter(|_| !name.is_empty()).ok_or_else(unfinished)?;
    let known = WITH_ARGUMENT.iter().find(|(known, ..)| *known == name);
    let alone = ALONE.contains(&name).then_some((Argument::None, false));
    let (wanted, may_cut) = known
        .map(|(_, wanted, cut)| (*wanted, *cut))
        .or(alone)
        .ok_or_else(|| format!("Envoy has no command %{name}%, or one that not every version knows"))?;
    if !wanted.takes(argument) {
        return Err(format!("%{name}% {}", wanted.told()));
    }
    if cut && !may_cut {
        return Err(format!("%{name}% cannot be cut to a length"));
    }
    Ok(rest)
}

impl Argument {
    fn takes(self, argument: Option<&str>) -> bool {
        let Some(text) = argument else {
            return matches!(self, Self::None | Self::Time);
        };
        match self {
            Self::None => false,
            Self::Time => !text.is_empty(),
            Self::Header => {
                let (first, other) = text.split_once('?').unwrap_or((text, "x"));
                is_header(first) && is_header(other)
            }
            Self::Key => !text.is_empty() && text.split(':').all(|part| !part.is_empty()),
            Self::State => {
                let (key, form) = text.split_once(':').unwrap_or((text, "PLAIN"));
                !key.is_empty() && matches!(form, "PLAIN" | "TYPED")
            }
            Self::Metadata => {
                let kinds = ["DYNAMIC", "CLUSTER", "ROUTE", "UPSTREAM_HOST"];
                let (kind, key) = text.split_once(':').unwrap_or_default();
                kinds.contains(&kind) && Self::Key.takes(Some(key))
            }
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::None => "has no argument",
            Self::Time => "takes the form of a time in brackets, or none",
            Self::Header => {
                "needs the name of a header in brackets, or two with a question mark between them"
            }
            Self::Key => "needs a key in brackets",
            Self::State => "needs a key in brackets, and perhaps :PLAIN or :TYPED behind it",
            Self::Metadata => {
                "needs one of DYNAMIC, CLUSTER, ROUTE, UPSTREAM_HOST, a colon and a key in brackets"
            }
        }
    }
}

/// The name of a header, pseudo headers included.
fn is_header(name: &str) -> bool {
    HEADER_NAME.takes(name.strip_prefix(':').unwrap_or(name))
}

/// A value with every command, for tests.
#[cfg(test)]
pub(super) fn every_command() -> Vec<String> {
    let argument = |kind: Argument| match kind {
        Argument::None => "",
        Argument::Time => "(%Y-%m-%dT%H:%M:%S%z)",
        Argument::Header => "(:path?x-y)",
        Argument::Key => "(a:b)",
        Argument::State => "(a:PLAIN)",
        Argument::Metadata => "(ROUTE:a:b)",
    };
    let with = WITH_ARGUMENT.iter().map(|(name, kind, cut)| {
        format!("100%% %{name}{}{}%", argument(*kind), if *cut { ":10" } else { "" })
    });
    with.chain(ALONE.iter().map(|name| format!("%{name}%"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_known_commands_pass() {
        for text in every_command() {
            assert_eq!(check(&text), Ok(()), "{text}");
        }
        for text in ["", "plain", "%%", "a%%b%REQ(x)%c", "%START_TIME%", "%FILTER_STATE(a)%", "%REQ(X?y):5%"]
        {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_envoy_would_refuse_is_refused() {
        for (text, told) in [
            ("100%", "%%"),
            ("%", "%%"),
            ("%%%", "%%"),
            ("%REQ(x)", "%%"),
            ("%REQ(x", "%%"),
            ("%req(x)%", "%%"),
            ("%USER%", "%USER%"),
            ("%REQ%", "name of a header"),
            ("%REQ()%", "name of a header"),
            ("%REQ(a?b?c)%", "name of a header"),
            ("%REQ(a b)%", "name of a header"),
            ("%REQ(x):%", "length"),
            ("%REQ(x):1a%", "%%"),
            ("%DURATION(x)%", "no argument"),
            ("%DURATION:5%", "cut to a length"),
            ("%START_TIME()%", "form of a time"),
            ("%DYNAMIC_METADATA%", "key"),
            ("%FILTER_STATE(a:ODD)%", "PLAIN"),
            ("%METADATA(ODD:a)%", "DYNAMIC"),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
