//! What is found.

use serde::Serialize;

use crate::model::Name;
use crate::model::policy::{PolicyKind, PolicyMeta};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something that was written has no effect, or another one than it says.
    Warning,
    /// It has none now; it may be meant so.
    Info,
}

impl Severity {
    /// Its name, as pages spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// What a finding is about. Names are stable: scripts match them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// No Service and no ServiceEntry has the host.
    UnknownHost,
    /// The host is there, and none of the clients sees it.
    HiddenHost,
    /// The host does not have the port.
    UnknownPort,
    /// No DestinationRule that holds for the clients defines the subset.
    UnknownSubset,
    /// Clients of its own namespace, or its gateways, heed a DestinationRule that does not define the subset.
    HiddenSubset,
    /// No endpoint has the labels of a subset.
    EmptySubset,
    /// No workload has the labels that are asked for.
    SelectsNothing,
    /// A PeerAuthentication of the root namespace selects workloads.
    RootSelector,
    /// A VirtualService is bound to a Gateway that is not there.
    UnknownGateway,
    /// No server of the Gateway serves a host of the VirtualService.
    HostNotOnGateway,
    /// A route leads on to a VirtualService that is not there, or may not be led on to.
    UnknownDelegate,
    /// A VirtualService without hosts that nobody leads on to.
    UnusedDelegate,
    /// Another object of the same scope counts instead.
    Shadowed,
    /// Listeners of proxies can have only one of two chains.
    ChainCollision,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 14] = [
        Self::UnknownHost,
        Self::HiddenHost,
        Self::UnknownPort,
        Self::UnknownSubset,
        Self::HiddenSubset,
        Self::EmptySubset,
        Self::SelectsNothing,
        Self::RootSelector,
        Self::UnknownGateway,
        Self::HostNotOnGateway,
        Self::UnknownDelegate,
        Self::UnusedDelegate,
        Self::Shadowed,
        Self::ChainCollision,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownHost => "unknown-host",
            Self::HiddenHost => "hidden-host",
            Self::UnknownPort => "unknown-port",
            Self::UnknownSubset => "unknown-subset",
            Self::HiddenSubset => "hidden-subset",
            Self::EmptySubset => "empty-subset",
            Self::SelectsNothing => "selects-nothing",
            Self::RootSelector => "root-selector",
            Self::UnknownGateway => "unknown-gateway",
            Self::HostNotOnGateway => "host-not-on-gateway",
            Self::UnknownDelegate => "unknown-delegate",
            Self::UnusedDelegate => "unused-delegate",
            Self::Shadowed => "shadowed",
            Self::ChainCollision => "chain-collision",
        }
    }

    /// How much it matters, where nothing says otherwise.
    pub fn severity(self) -> Severity {
        match self {
            Self::EmptySubset | Self::SelectsNothing | Self::UnusedDelegate => Severity::Info,
            _ => Severity::Warning,
        }
    }
}

/// Something that can have no effect, or not the one it was written for. In order: what matters most first, then by
/// object and field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The kind of the object, as objects spell it.
    pub kind: &'static str,
    /// The namespace of the object; empty for a host of which several objects may be the reason.
    pub namespace: Name,
    /// The name of the object, or that host.
    pub name: Name,
    /// The field.
    pub field: String,
    /// What it is about.
    pub code: Code,
    /// What was looked for and what to do.
    pub message: String,
}

impl Finding {
    /// Something about a field of an object.
    pub(super) fn new(
        code: Code,
        kind: PolicyKind,
        meta: &PolicyMeta,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity: code.severity(),
            kind: kind.name(),
            namespace: meta.id.namespace.clone(),
            name: meta.id.name.clone(),
            field: field.into(),
            code,
            message: message.into(),
        }
    }

    /// The same, which matters this much.
    pub(super) fn mattering(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }
}

/// How many names a message has.
const SHOWN: usize = 5;

/// `a, b and 3 more`.
pub(super) fn listed<T: std::fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    let mut names = names.into_iter();
    let shown: Vec<_> = names.by_ref().take(SHOWN).map(|name| name.to_string()).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `app=a,version=v1`.
pub(super) fn labels<'a>(pairs: impl Iterator<Item = (&'a Name, &'a Name)>) -> String {
    pairs.map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(",")
}
