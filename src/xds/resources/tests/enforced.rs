//! What a real Envoy lets through: each row is a listener of its own with the policies of that row.
//!
//! Needs an Envoy (`$ENVOY`, else the one that `make envoy` installs); without one it is skipped loudly, and fails with
//! `CI=true`.

pub(super) mod client;
pub(super) mod envoy;
mod rows;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde_json::json;

use crate::model::policy::{AuthorizationPolicy, MtlsMode, PeerAuthentication, WorkloadSelector};
use crate::model::{InterceptionMode, Name, PortProtocol};
use crate::registry::{PolicyObject, PolicySnapshot};
use crate::view::{WorkloadKey, WorkloadMtls};
use crate::xds::resources::{InboundPolicy, InboundPort, inbound};
use client::{Application, Request};
use envoy::{Envoy, Trust};
use rows::{Row, policies};

/// The trust domains of the mesh of all rows.
const DOMAINS: [&str; 2] = ["mesh.org", "old.org"];

/// The address of the listener of a row.
fn address(row: usize) -> IpAddr {
    Ipv4Addr::new(127, 93, (row / 200) as u8, (row % 200) as u8 + 1).into()
}

fn mtls(mode: MtlsMode) -> WorkloadMtls {
    let policy = PeerAuthentication {
        meta: Default::default(),
        selector: WorkloadSelector::default(),
        mode: Some(mode),
        ports: Vec::new(),
    };
    let objects = [PolicyObject::PeerAuthentication(Arc::new(policy))];
    WorkloadMtls::of(&PolicySnapshot::with(Default::default(), objects), "", |_| None)
}

fn listeners(
    row: usize,
    port: u16,
    protocol: PortProtocol,
    mode: MtlsMode,
    own: &str,
    authorization: Vec<Arc<AuthorizationPolicy>>,
) -> crate::xds::resources::InboundResources {
    let key =
        WorkloadKey { addresses: vec![address(row)], ..super::fixtures::workload(InterceptionMode::None) };
    let port = InboundPort {
        service: None,
        service_port: port,
        target_port: port,
        protocol,
        bind: None,
        application: None,
        pool: None,
    };
    let policy = InboundPolicy {
        trust_domains: DOMAINS.map(Name::from).into(),
        own_trust_domain: Some(own.into()),
        mtls: mtls(mode),
        authorization,
        ..InboundPolicy::default()
    };
    inbound(&[port], &key, &policy)
}

#[test]
fn envoy_lets_through_what_the_policies_allow_and_nothing_else() {
    let Some(program) = envoy::program() else {
        return;
    };
    let application = Application::start();
    let trust = Trust::plant();
    let rows = rows::all();
    let made = rows.iter().enumerate().map(|(index, row)| {
        let policies = policies(&row.policies);
        listeners(index, application.port, row.protocol, MtlsMode::Permissive, row.own, policies)
    });
    let envoy = Envoy::start(&program, made, &trust);
    let mut wrong = Vec::new();
    for (index, Row { name, asks, .. }) in rows.iter().enumerate() {
        for (request, passes) in asks {
            let answer = request.ask(address(index), application.port, &trust);
            if answer != *passes {
                wrong.push(format!("{name}: {request:?} passes: {answer}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), envoy.log());
}

#[test]
fn envoy_asks_for_mtls_as_the_mode_says() {
    let Some(program) = envoy::program() else {
        return;
    };
    let application = Application::start();
    let trust = Trust::plant();
    let plain = || Request::get("/");
    let mesh = || Request::get("/").of("mesh.org/ns/a/sa/x");
    let cases: Vec<_> = [MtlsMode::Permissive, MtlsMode::Strict, MtlsMode::Disable]
        .into_iter()
        .flat_map(|mode| {
            [PortProtocol::Http, PortProtocol::Tcp, PortProtocol::Auto].map(|protocol| (mode, protocol))
        })
        .collect();
    let made = cases.iter().enumerate().map(|(index, &(mode, protocol))| {
        listeners(200 + index, application.port, protocol, mode, "west.org", Vec::new())
    });
    let envoy = Envoy::start(&program, made, &trust);
    for (index, (mode, protocol)) in cases.iter().enumerate() {
        let ask = |request: Request| request.ask(address(200 + index), application.port, &trust);
        let expected = [*mode != MtlsMode::Strict, *mode != MtlsMode::Disable];
        assert_eq!([ask(plain()), ask(mesh())], expected, "{mode:?} {protocol:?}\n{}", envoy.log());
        // Other trust domains are let in nowhere; that of the workload's own cluster is (D34).
        assert!(!ask(Request::get("/").of("evil.org/ns/a/sa/x")), "{mode:?} {protocol:?}");
        assert_eq!(ask(Request::get("/").of("west.org/ns/a/sa/x")), expected[1], "{mode:?} {protocol:?}");
    }
}

#[test]
fn rows_are_no_two_of_one_name() {
    let names: std::collections::BTreeSet<_> = rows::all().iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows::all().len());
    assert_eq!(policies(&[json!({"rules": [{}]})])[0].problems, [""; 0]);
}
