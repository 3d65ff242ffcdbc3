//! PeerAuthentications.

use super::{At, Terms, names};
use crate::model::policy::{MtlsMode, PeerAuthentication, PolicyMeta};

/// Reads the spec of a PeerAuthentication.
///
/// # Errors
/// What is wrong, naming the field.
pub(in crate::ingest) fn peer_authentication(
    meta: PolicyMeta,
    spec: &At<'_>,
    _: &Terms,
) -> Result<PeerAuthentication, String> {
    let selector = names::selector(spec, "selector", "matchLabels")?;
    let mode = spec.read("mtls", mode_of)?.flatten();
    let ports = spec.read("portLevelMtls", |ports| {
        if selector.is_everything() {
            return ports.wrong("only with a selector");
        }
        ports.entries(|port, at| {
            let number = port.parse().ok().filter(|number| *number != 0);
            let number: u16 = number.map_or_else(|| at.wrong("its key is no port number"), Ok)?;
            Ok((number, mode_of(at)?))
        })
    })?;
    let mut ports = ports.unwrap_or_default();
    ports.sort_unstable();
    Ok(PeerAuthentication { meta, selector, mode, ports })
}

/// `mode` of an `mtls`; `None` inherits.
fn mode_of(at: &At<'_>) -> Result<Option<MtlsMode>, String> {
    at.object()?;
    let modes = [
        ("UNSET", None),
        ("DISABLE", Some(MtlsMode::Disable)),
        ("PERMISSIVE", Some(MtlsMode::Permissive)),
        ("STRICT", Some(MtlsMode::Strict)),
    ];
    Ok(at.read("mode", |mode| mode.one_of(&modes))?.flatten())
}
