//! `tombolo sim fleet`.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;

use crate::cli::printing;
use crate::cli::table::{self, Output};
use crate::cli::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::sim::fleet::{
    Behaviour, Fleet, FleetError, FleetSettings, Home, Mix, Proxy, Subscription, Summary, Target,
    assignments, sidecar,
};
use crate::sim::world::{Generate, WorldError};

/// Arguments of `tombolo sim fleet`. The exit code is 1 if proxies that read did not get all they asked for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ADS server
    #[arg(
        long = "xds-address",
        visible_alias = "xds",
        env = "TOMBOLO_FLEET_XDS_ADDRESS",
        value_name = "HOST:PORT"
    )]
    xds_address: String,
    /// Permit a server on another machine: a fleet is a load
    #[arg(long, env = "TOMBOLO_FLEET_ALLOW_REMOTE")]
    allow_remote: bool,
    /// Number of proxies, each with a connection of its own
    #[arg(long, env = "TOMBOLO_FLEET_PROXIES", value_name = "N", default_value_t = 100)]
    proxies: usize,
    /// All proxies speak this
    #[arg(
        long,
        env = "TOMBOLO_FLEET_MODE",
        value_enum,
        value_name = "PROTOCOL",
        conflicts_with = "behaviour"
    )]
    mode: Option<Mode>,
    /// Shares of behaviours: delta and sotw as Envoy; stopped never reads, slow reads slowly, nack rejects everything,
    /// storm leaves together with its like and comes back, random comes and goes; these with /sotw behind speak that.
    /// One without a share gets the rest [default: delta]
    #[arg(long, env = "TOMBOLO_FLEET_BEHAVIOUR", value_name = "NAME=SHARE%,…", value_parser = parse_mix)]
    behaviour: Option<Mix>,
    /// What they ask for
    #[arg(long, env = "TOMBOLO_FLEET_SUBSCRIBE", value_enum, default_value_t = Subscribe::Eds)]
    subscribe: Subscribe,
    /// The world that the proxies are pods of, as given to `sim apiserver`; eds asks for its services
    #[arg(long, env = "TOMBOLO_FLEET_GENERATE", value_name = "SIZE", value_parser = parse_generate,
          default_value = "services=200,endpoints=4000")]
    generate: Generate,
    /// Clusters that the proxies are in, in turn, and their networks
    #[arg(long, env = "TOMBOLO_FLEET_CLUSTERS", value_name = "ID=NETWORK,…", value_delimiter = ',',
          value_parser = parse_home, default_value = "c1=net-c1")]
    clusters: Vec<Home>,
    /// Stop after this time
    #[arg(long, env = "TOMBOLO_FLEET_DURATION", value_name = "TIME", value_parser = humantime::parse_duration,
          default_value = "30s")]
    duration: Duration,
    /// Proxies started per second [default: all at once]
    #[arg(long, env = "TOMBOLO_FLEET_CONNECT_RATE", value_name = "N", value_parser = parse_rate)]
    connect_rate: Option<f64>,
    /// Bytes per second that slow proxies read
    #[arg(long, env = "TOMBOLO_FLEET_SLOW_RATE", value_name = "BYTES", default_value_t = 4096)]
    slow_rate: u32,
    /// Time between two storms
    #[arg(long, env = "TOMBOLO_FLEET_STORM_INTERVAL", value_name = "TIME", value_parser = humantime::parse_duration,
          default_value = "10s")]
    storm_interval: Duration,
    /// Mean time that a random proxy stays
    #[arg(long, env = "TOMBOLO_FLEET_STAY", value_name = "TIME", value_parser = humantime::parse_duration,
          default_value = "10s")]
    stay: Duration,
    /// Seed of everything that is up to chance
    #[arg(long, env = "TOMBOLO_FLEET_SEED", value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Speak TLS and trust the certificates in this PEM file
    #[arg(long, env = "TOMBOLO_FLEET_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Client certificate, a PEM file
    #[arg(long, env = "TOMBOLO_FLEET_TLS_CERT", value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    tls_cert: Option<PathBuf>,
    /// Its key, a PEM file
    #[arg(long, env = "TOMBOLO_FLEET_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Name in the server's certificate [default: the host of --xds-address]
    #[arg(long, env = "TOMBOLO_FLEET_TLS_SERVER_NAME", value_name = "NAME", requires = "tls_ca")]
    tls_server_name: Option<String>,
    /// Form of the summary
    #[arg(long, short, env = "TOMBOLO_FLEET_OUTPUT", value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Delta.
    Delta,
    /// State of the world.
    Sotw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subscribe {
    /// The assignments of all services of the world
    Eds,
    /// Everything, in Envoy's order
    All,
}

fn parse_mix(text: &str) -> Result<Mix, String> {
    text.parse().map_err(|error: FleetError| error.to_string())
}

fn parse_generate(text: &str) -> Result<Generate, String> {
    text.parse().map_err(|error: WorldError| error.to_string())
}

fn parse_home(text: &str) -> Result<Home, String> {
    let (cluster, network) = text.split_once('=').ok_or("expected CLUSTER=NETWORK")?;
    if cluster.is_empty() {
        return Err("a cluster has a name".to_owned());
    }
    Ok(Home { cluster: cluster.to_owned(), network: network.to_owned() })
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected a number above 0".to_owned())
}

/// Runs the command for its duration or until SIGTERM or SIGINT.
pub(super) async fn run(args: Args) -> ExitCode {
    let settings = match settings(&args) {
        Ok(settings) => settings,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    let stop = match crate::lifecycle::interrupted().context("cannot catch signals") {
        Ok(stop) => stop,
        Err(error) => return fail(EXIT_FAILURE, &error),
    };
    let fleet = match Fleet::start(&settings, proxies(&args)) {
        Ok(fleet) => fleet,
        Err(error) => return fail(EXIT_USAGE, &error.into()),
    };
    let (summary, late) = watch(fleet, args.duration, stop).await;
    match show(args.output, args.proxies, &summary) {
        Err(error) => return fail(EXIT_FAILURE, &error),
        Ok(text) => printing::data(&text),
    };
    match late {
        None => ExitCode::SUCCESS,
        Some(error) => fail(EXIT_FAILURE, &error.into()),
    }
}

/// Lets the fleet run for `duration` or until `stop`; with what it counted, what is missing.
async fn watch(
    fleet: Fleet,
    duration: Duration,
    stop: impl Future<Output = ()>,
) -> (Summary, Option<FleetError>) {
    let end = tokio::time::Instant::now() + duration;
    let mut late = None;
    let life = async {
        late = fleet.subscribed(duration).await.err();
        if late.is_none() {
            let slowest = fleet.summary().complete_ms;
            printing::note(&format!(
                "{} proxies have all they asked for, the last after {slowest:.0} ms",
                fleet.readers()
            ));
        }
        tokio::time::sleep_until(end).await;
    };
    // Unbiased: both end it.
    tokio::select! {
        () = life => {}
        () = stop => {}
    }
    (fleet.stop().await, late)
}

fn proxies(args: &Args) -> Vec<Proxy> {
    let mix = match (&args.behaviour, args.mode) {
        (Some(mix), _) => mix.clone(),
        (None, Some(Mode::Sotw)) => Mix::all(Behaviour::SOTW),
        (None, _) => Mix::all(Behaviour::DELTA),
    };
    let subscription = match args.subscribe {
        Subscribe::Eds => Subscription::Assignments,
        Subscribe::All => Subscription::Everything,
    };
    let behaviours = mix.assign(args.proxies, args.seed).into_iter().enumerate();
    behaviours
        .map(|(number, behaviour)| Proxy {
            node: sidecar(&args.clusters, args.generate, number),
            behaviour,
            subscription,
        })
        .collect()
}

fn settings(args: &Args) -> anyhow::Result<FleetSettings> {
    let address = resolve(&args.xds_address)?;
    let tls = args.tls_ca.as_deref().map(|ca| tls(args, ca)).transpose()?;
    Ok(FleetSettings {
        allow_remote: args.allow_remote,
        assignments: assignments(args.generate),
        seed: args.seed,
        connect_rate: args.connect_rate,
        slow_rate: args.slow_rate,
        storm_every: args.storm_interval,
        stay: args.stay,
        ..FleetSettings::new(Target { address, tls })
    })
}

fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let mut found = address
        .to_socket_addrs()
        .with_context(|| format!("--xds-address: {address:?} is no HOST:PORT that can be resolved"))?;
    found.next().with_context(|| format!("--xds-address: {address:?} has no address"))
}

fn tls(args: &Args, ca: &Path) -> anyhow::Result<(Arc<rustls::ClientConfig>, ServerName<'static>)> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates("--tls-ca", ca)? {
        roots.add(certificate).with_context(|| format!("--tls-ca: {}", ca.display()))?;
    }
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
    let mut config = match (&args.tls_cert, &args.tls_key) {
        (Some(chain), Some(key)) => {
            let chain = certificates("--tls-cert", chain)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("--tls-key: cannot read a key from {}", key.display()))?;
            config.with_client_auth_cert(chain, key).context("--tls-cert and --tls-key")?
        }
        _ => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let host = || args.xds_address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
    let name = args.tls_server_name.as_deref().unwrap_or_else(host);
    let name =
        ServerName::try_from(name.to_owned()).with_context(|| format!("--tls-server-name: {name:?}"))?;
    Ok((Arc::new(config), name))
}

fn certificates(flag: &str, path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found =
        read().with_context(|| format!("{flag}: cannot read certificates from {}", path.display()))?;
    anyhow::ensure!(!found.is_empty(), "{flag}: there is no certificate in {}", path.display());
    Ok(found)
}

fn show(output: Output, proxies: usize, summary: &Summary) -> anyhow::Result<String> {
    if !matches!(output, Output::Table | Output::Wide) {
        let mut document = json!(summary);
        document["proxies"] = json!(proxies);
        return table::document(output, &document);
    }
    let types = summary.types.iter().map(|(kind, typed)| {
        let counts = [typed.messages, typed.resources, typed.removed, typed.bytes];
        [(*kind).to_owned()].into_iter().chain(counts.map(|count| count.to_string())).collect()
    });
    let mut text = table::columns(&["TYPE", "MESSAGES", "RESOURCES", "REMOVED", "BYTES"], types);
    let times = &summary.subscribed;
    text += &format!(
        "\n{} of {proxies} proxies subscribed, ms: p50 {:.1}, p90 {:.1}, p99 {:.1}, last {:.1}; {} streams opened\n",
        times.count, times.p50_ms, times.p90_ms, times.p99_ms, times.max_ms, summary.connects
    );
    if !summary.ends.is_empty() {
        let ends = summary.ends.iter().map(|(why, count)| vec![why.clone(), count.to_string()]);
        text += "\n";
        text += &table::columns(&["ENDED-BY", "CONNECTIONS"], ends);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_a_cluster_and_its_network() {
        assert_eq!(parse_home("c1=n1").unwrap(), Home { cluster: "c1".into(), network: "n1".into() });
        assert_eq!(parse_home("c1=").unwrap().network, "");
        assert!(parse_home("c1").is_err() && parse_home("=n1").is_err());
        assert!(parse_rate("0").is_err() && parse_rate("inf").is_err() && parse_rate("0.5").is_ok());
    }
}
