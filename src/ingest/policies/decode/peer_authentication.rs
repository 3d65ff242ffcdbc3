//! PeerAuthentications.

use serde_json::Value;

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
        let told = ports.entries(|port, at| {
            let number = port_of(port).map_or_else(|| at.wrong("its key is no port number"), Ok)?;
            Ok((number, mode_of(at)?))
        })?;
        if selector.is_everything() && !told.is_empty() {
            ports.tell("has no effect without a selector; what `mtls` says holds for all ports");
            return Ok(Vec::new());
        }
        Ok(told)
    })?;
    let mut ports = ports.unwrap_or_default();
    ports.sort_unstable();
    Ok(PeerAuthentication { meta, selector, mode, ports })
}

/// What is enforced of a PeerAuthentication that cannot be read and never could: mTLS only, wherever its modes cannot be
/// read, of the workloads it selects, and of its namespace when that cannot be read either. `None` where nothing of it
/// asks for mTLS and nobody knows of whom.
pub(in crate::ingest) fn closed(meta: PolicyMeta, spec: &Value) -> Option<PeerAuthentication> {
    let spec = At::root("", spec);
    let strict = || Some(MtlsMode::Strict);
    let mode = match spec.object() {
        Ok(()) => spec.read("mtls", mode_of).map_or_else(|_| strict(), Option::flatten),
        Err(_) => strict(),
    };
    let Ok(selector) = names::selector(&spec, "selector", "matchLabels") else {
        let all = PeerAuthentication { meta, selector: Default::default(), mode, ports: Vec::new() };
        return Some(all).filter(|all| all.mode == strict());
    };
    let ports = spec.read("portLevelMtls", |ports| {
        ports.entries(|port, at| {
            Ok(port_of(port).map(|port| (port, mode_of(at).unwrap_or_else(|_| strict()))))
        })
    });
    let ports = ports.ok().flatten().unwrap_or_default();
    let mut ports: Vec<_> = ports.into_iter().flatten().filter(|_| !selector.is_everything()).collect();
    ports.sort_unstable();
    Some(PeerAuthentication { meta, selector, mode, ports })
}

fn port_of(text: &str) -> Option<u16> {
    text.parse().ok().filter(|number| *number != 0)
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
