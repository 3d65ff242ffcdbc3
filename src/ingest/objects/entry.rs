//! ServiceEntries and WorkloadEntries.

use super::Labels;
use crate::model::Name;

/// A WorkloadEntry, or an endpoint that stands inside a ServiceEntry (R5.35).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadEntryObject {
    /// An IP address, a host name or `unix://` and a path, as written; empty where nobody says where it is.
    pub address: Name,
    /// Its own port numbers, as written, by the name of the service port.
    pub ports: Vec<(Name, i64)>,
    /// Its labels.
    pub labels: Labels,
    /// Its network; empty when it does not say.
    pub network: Name,
    /// `region/zone/subzone`; empty when it does not say.
    pub locality: Name,
    /// Its weight, as written; 0 for none.
    pub weight: i64,
    /// Its service account; empty when it has none.
    pub service_account: Name,
    /// Whether its health is probed, and was not found good: it stands behind nothing meanwhile.
    pub unready: bool,
    /// Fields of its own that nobody knows.
    pub unknown: Vec<Name>,
}

/// What is said of fields that nobody knows.
fn remarks(unknown: &[Name]) -> Vec<String> {
    unknown.iter().map(|field| format!("{field}: not known here: it has no effect")).collect()
}

impl WorkloadEntryObject {
    /// What has no effect.
    pub fn remarks(&self) -> Vec<String> {
        remarks(&self.unknown)
    }

    /// Its own number for a service port.
    pub fn port(&self, name: &str) -> Option<u16> {
        let (_, number) = self.ports.iter().find(|(own, _)| **own == *name)?;
        u16::try_from(*number).ok().filter(|number| *number != 0)
    }
}

/// How the endpoints of a ServiceEntry are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryResolution {
    /// The client chose the address.
    #[default]
    None,
    /// They are what it says.
    Static,
    /// By DNS, each of them.
    Dns,
    /// By DNS, the first address of the one.
    DnsRoundRobin,
}

/// A ServiceEntry (R5.33).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceEntryObject {
    /// Host names; never none.
    pub hosts: Vec<Name>,
    /// Addresses and blocks, as written.
    pub addresses: Vec<Name>,
    /// `status.addresses`: host name, or empty for all, and address.
    pub allocated: Vec<(Name, Name)>,
    /// Ports.
    pub ports: Vec<EntryPort>,
    /// `location: MESH_EXTERNAL`, the default.
    pub mesh_external: bool,
    /// How endpoints are found.
    pub resolution: EntryResolution,
    /// Endpoints; not looked at beside a selector (R5.37).
    pub endpoints: Vec<WorkloadEntryObject>,
    /// `workloadSelector.labels`; empty selects nothing.
    pub selector: Option<Labels>,
    /// Who may see it; empty for everybody.
    pub export_to: Vec<Name>,
    /// `subjectAltNames`.
    pub alt_names: Vec<Name>,
    /// Labels of the object.
    pub labels: Labels,
    /// Creation time, seconds since the epoch; 0 when not known.
    pub created: i64,
    /// Annotation `networking.istio.io/traffic-distribution` (R4.30).
    pub traffic_distribution: Option<Name>,
    /// Fields, also of its ports and endpoints, that nobody knows.
    pub unknown: Vec<Name>,
}

impl ServiceEntryObject {
    /// What has no effect.
    pub fn remarks(&self) -> Vec<String> {
        remarks(&self.unknown)
    }
}

/// One port of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryPort {
    /// The port clients use, as written.
    pub number: i64,
    /// Its name.
    pub name: Name,
    /// Its protocol, in the spelling of the object.
    pub protocol: Name,
    /// `targetPort`, as written; 0 for none.
    pub target_port: i64,
}
