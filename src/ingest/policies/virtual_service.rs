//! VirtualServices.

mod expression;
mod field;
mod format;
mod http;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use field::Field;

use super::decode::At;
use super::decode::spelling::{HOST, is_label};
use crate::model::policy::{
    Destination, HostPattern, HttpAction, HttpMatch, MESH_GATEWAY, PolicyMeta, Sources, TcpMatch, TcpRoute,
    TlsMatch, TlsRoute, VirtualService, Weighted,
};
use crate::model::{ExportTo, Labels, Name};

/// What names in one object mean.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    namespace: &'a str,
    domain: &'a str,
}

impl Place<'_> {
    /// The full name of a host, in lower case: one without dots is a Service of this namespace, unless it is an address.
    fn host(self, host: &str) -> Name {
        let host = host.to_ascii_lowercase();
        if host.parse::<IpAddr>().is_ok() {
            return host.into();
        }
        if host.contains('.') || host.starts_with('*') {
            return host.trim_end_matches('.').into();
        }
        format!("{host}.{}.svc.{}", self.namespace, self.domain).into()
    }

    /// A gateway as `namespace/name`.
    fn gateway(self, name: &str) -> Name {
        match name {
            MESH_GATEWAY => name.into(),
            name if name.contains('/') => name.into(),
            name => format!("{}/{name}", self.namespace).into(),
        }
    }
}

/// Decodes and checks the `spec` of a VirtualService. `domain` completes short host names. One without hosts is a
/// delegate: it has routes of requests and nothing else. An error names the field and its value.
pub(super) fn virtual_service(
    meta: PolicyMeta,
    spec: &At<'_>,
    domain: &str,
) -> Result<VirtualService, String> {
    let spec = Field::root("spec", spec);
    let namespace = meta.id.namespace.clone();
    let place = Place { namespace: &namespace, domain };
    let routes = |name: &str| spec.get(name)?.list();
    let host_names = spec.get("hosts")?;
    if host_names.list()?.is_empty() {
        return delegate(meta, &spec, place);
    }
    let hosts = hosts(&host_names, place)?;
    let virtual_service = VirtualService {
        gateways: gateways(&spec.get("gateways")?, place)?,
        export_to: export_to(&spec.get("exportTo")?, place)?,
        http: routes("http")?.iter().map(|route| http::route(route, place)).collect::<Result<_, _>>()?,
        tls: routes("tls")?.iter().map(|route| tls(route, place, &hosts)).collect::<Result<_, _>>()?,
        tcp: routes("tcp")?.iter().map(|route| tcp(route, place)).collect::<Result<_, _>>()?,
        hosts,
        meta,
    };
    tell_unreachable(&spec, &virtual_service)?;
    if virtual_service.http.is_empty() && virtual_service.tls.is_empty() && virtual_service.tcp.is_empty() {
        return Err("spec: has none of http, tls, tcp".to_owned());
    }
    Ok(virtual_service)
}

/// Tells of routes behind one that takes every request.
fn tell_unreachable(spec: &Field<'_>, told: &VirtualService) -> Result<(), String> {
    let takes_all = |one: &HttpMatch| one.is_everything() && one.sources == Sources::default();
    // A delegate takes what its own routes take.
    let last = told.http.iter().position(|one| {
        !matches!(one.action, HttpAction::Delegate(_))
            && (one.matches.is_empty() || one.matches.iter().any(takes_all))
    });
    for (index, route) in spec.get("http")?.list()?.iter().enumerate() {
        if let Some(last) = last.filter(|last| *last < index) {
            route.tell(&format!("no request comes here: http[{last}] takes all of them"));
        }
    }
    Ok(())
}

fn hosts(field: &Field<'_>, place: Place<'_>) -> Result<Vec<HostPattern>, String> {
    let mut seen = BTreeSet::new();
    let mut hosts = Vec::new();
    for one in field.list()? {
        let text = one.text()?;
        if !is_host(text) {
            return Err(one.bad(&format!("is not {}", HOST.allowed)));
        }
        let host = place.host(text);
        if seen.insert(host.clone()) {
            hosts.push(HostPattern::new(host));
        }
    }
    Ok(hosts)
}

/// One whose routes others lead on to.
fn delegate(meta: PolicyMeta, spec: &Field<'_>, place: Place<'_>) -> Result<VirtualService, String> {
    for name in ["gateways", "tls", "tcp"] {
        if !spec.get(name)?.list()?.is_empty() {
            return Err(spec
                .get("hosts")?
                .bad(&format!("names no host: only one without {name} is a delegate")));
        }
    }
    let routes = spec.get("http")?.list()?;
    let http: Vec<_> = routes.iter().map(|route| http::route(route, place)).collect::<Result<_, _>>()?;
    if http.is_empty() {
        return Err(spec
            .get("hosts")?
            .bad("names no host, and there is no http for those that lead on to it"));
    }
    let further = http.iter().position(|route| matches!(route.action, HttpAction::Delegate(_)));
    if let Some(index) = further {
        return Err(routes[index].get("delegate")?.bad("is not for delegates: they lead on to nobody"));
    }
    Ok(VirtualService {
        hosts: Vec::new(),
        gateways: Vec::new(),
        export_to: export_to(&spec.get("exportTo")?, place)?,
        http,
        tls: Vec::new(),
        tcp: Vec::new(),
        meta,
    })
}

/// A host, also with a dot at its end, or an address.
fn is_host(text: &str) -> bool {
    let dotted = text.strip_suffix('.').is_some_and(|text| text != "*" && HOST.takes(text));
    HOST.takes(text) || dotted || text.parse::<IpAddr>().is_ok()
}

fn gateways(field: &Field<'_>, place: Place<'_>) -> Result<Vec<Name>, String> {
    let names = field.list()?;
    if names.is_empty() {
        return Ok(vec![MESH_GATEWAY.into()]);
    }
    names.iter().map(|name| Ok(place.gateway(name.text()?))).collect()
}

fn export_to(field: &Field<'_>, place: Place<'_>) -> Result<ExportTo, String> {
    let names = field.list()?;
    if names.is_empty() {
        return Ok(ExportTo::Unset);
    }
    let mut namespaces = BTreeSet::new();
    for one in names {
        match one.text()? {
            "*" => return Ok(ExportTo::Everywhere),
            "~" => {}
            "." => drop(namespaces.insert(place.namespace.into())),
            name if !is_label(name) => {
                return Err(one.bad("is none of `.`, `*`, `~` and no name of a namespace"));
            }
            name => drop(namespaces.insert(name.into())),
        }
    }
    Ok(if namespaces.is_empty() { ExportTo::Nowhere } else { ExportTo::Namespaces(namespaces) })
}

fn tls(route: &Field<'_>, place: Place<'_>, hosts: &[HostPattern]) -> Result<TlsRoute, String> {
    let matches = route.get("match")?;
    let all = matches.list()?;
    if all.is_empty() {
        return Err(matches.bad("is needed for TLS routes"));
    }
    let one = |field: &Field<'_>| {
        let names = field.get("sniHosts")?;
        let server_names = names.list()?;
        let server_names = server_names.iter().map(|name| server_name(name, place, hosts));
        let server_names = server_names.collect::<Result<Vec<_>, String>>()?;
        if server_names.is_empty() {
            return Err(names.bad("names no server"));
        }
        Ok(TlsMatch { server_names, subnets: subnets(field)?, sources: sources(field, place)? })
    };
    Ok(TlsRoute { matches: all.iter().map(one).collect::<Result<_, _>>()?, to: weighted(route, place)? })
}

/// A full server name, `*.suffix`, or `*`: others Envoy refuses. One of the object's hosts must cover it: connections
/// to other names are not the object's.
fn server_name(field: &Field<'_>, place: Place<'_>, hosts: &[HostPattern]) -> Result<Name, String> {
    let text = field.text()?;
    if !HOST.takes(text) {
        return Err(field.bad("is no server name, *.suffix or *"));
    }
    let text = text.to_ascii_lowercase();
    let full = place.host(&text);
    if !hosts.iter().any(|host| host.matches(&text) || host.matches(&full)) {
        return Err(field.bad("is under none of spec.hosts"));
    }
    Ok(text.into())
}

fn tcp(route: &Field<'_>, place: Place<'_>) -> Result<TcpRoute, String> {
    let one = |field: &Field<'_>| Ok(TcpMatch { subnets: subnets(field)?, sources: sources(field, place)? });
    let matches = route.get("match")?.list()?.iter().map(one).collect::<Result<_, String>>()?;
    Ok(TcpRoute { matches, to: weighted(route, place)? })
}

fn subnets(field: &Field<'_>) -> Result<Vec<ipnet::IpNet>, String> {
    field.get("destinationSubnets")?.list()?.iter().map(Field::block).collect()
}

fn sources(field: &Field<'_>, place: Place<'_>) -> Result<Sources, String> {
    let gateways = field.get("gateways")?.list()?;
    let labels = field.get("sourceLabels")?.map()?;
    let pair = |(name, value): &(&str, Field<'_>)| Ok((Name::from(*name), Name::from(value.text()?)));
    Ok(Sources {
        gateways: gateways
            .iter()
            .map(|name| Ok(place.gateway(name.text()?)))
            .collect::<Result<_, String>>()?,
        labels: labels.iter().map(pair).collect::<Result<Labels, String>>()?,
        namespace: field.get("sourceNamespace")?.text()?.into(),
        port: field.get("port")?.port()?,
    })
}

/// The destinations of a route with their shares.
fn weighted(route: &Field<'_>, place: Place<'_>) -> Result<Vec<Weighted>, String> {
    let field = route.get("route")?;
    let all = field.list()?;
    if all.is_empty() {
        return Err(field.bad("names no destination"));
    }
    let single = all.len() == 1;
    let mut sum = 0_u32;
    let mut to = Vec::new();
    for one in &all {
        let weight_field = one.get("weight")?;
        let weight = weight_field.number(0, u32::MAX)?.unwrap_or_default();
        let weight = if single { weight.max(1) } else { weight };
        sum = sum.checked_add(weight).ok_or_else(|| weight_field.bad("makes a sum beyond 32 bits"))?;
        to.push(Weighted {
            destination: destination(&one.get("destination")?, place)?,
            weight,
            headers: http::headers(&one.get("headers")?)?,
        });
    }
    if sum == 0 {
        return Err(field.bad("has no weight above 0"));
    }
    to.retain(|one| one.weight > 0);
    Ok(to)
}

fn destination(field: &Field<'_>, place: Place<'_>) -> Result<Destination, String> {
    let host = field.get("host")?;
    let subset = field.get("subset")?;
    if !is_host(host.text()?) || host.text()?.starts_with('*') {
        return Err(host.bad("is no host name"));
    }
    if !subset.text()?.is_empty() && !is_label(subset.text()?) {
        return Err(subset.bad("is no name of a subset: letters, digits and `-`, at most 63"));
    }
    Ok(Destination {
        host: place.host(host.text()?),
        subset: subset.text()?.into(),
        port: field.get("port")?.get("number")?.port()?,
    })
}
