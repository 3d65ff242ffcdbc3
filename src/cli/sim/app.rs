//! `tombolo sim app`.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use crate::cli::{EXIT_FAILURE, fail, printing};
use crate::sim::app::{EchoApp, EchoProtocol, EchoSettings, host_name};

/// Port of the application unless it is told: that of the well-known helloworld sample.
const DEFAULT_PORT: u16 = 5000;

/// Arguments of `tombolo sim app`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; without a port 5000
    #[arg(long, env = "TOMBOLO_APP_LISTEN", value_name = "ADDR[:PORT]", value_parser = parse_listen,
          default_value = "127.0.0.1")]
    listen: SocketAddr,
    /// Version it answers with
    #[arg(long, env = "TOMBOLO_APP_VERSION", value_name = "VERSION", default_value = "v1")]
    version: String,
    /// Cluster it answers with
    #[arg(long, env = "TOMBOLO_APP_CLUSTER", value_name = "NAME", default_value = "Kubernetes")]
    cluster: String,
    /// Name of the application
    #[arg(long, env = "TOMBOLO_APP_NAME", value_name = "NAME", default_value = "helloworld")]
    name: String,
    /// Name of this instance [default: the host name]
    #[arg(long, env = "TOMBOLO_APP_INSTANCE", value_name = "NAME")]
    instance: Option<String>,
    /// What to speak
    #[arg(long, env = "TOMBOLO_APP_PROTOCOL", value_enum, default_value_t = EchoProtocol::Http)]
    protocol: EchoProtocol,
    /// Log connections to stderr
    #[arg(long, short)]
    verbose: bool,
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let ip = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DEFAULT_PORT));
    text.parse().or_else(|_| ip()).map_err(|_| "expected an IP address, with or without a port".to_owned())
}

/// Runs the command until SIGTERM or SIGINT.
pub(super) async fn run(args: Args) -> ExitCode {
    if args.verbose {
        super::log_verbosely();
    }
    match serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_FAILURE, &error),
    }
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let stop = crate::lifecycle::interrupted().context("cannot catch signals")?;
    let app = EchoApp::start(EchoSettings {
        listen: args.listen,
        version: args.version,
        cluster: args.cluster,
        name: args.name.clone(),
        instance: args.instance.unwrap_or_else(host_name),
        protocol: args.protocol,
    })
    .await?;
    printing::line(&json!({"app": args.name, "address": app.address()}));
    stop.await;
    app.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_may_be_left_out() {
        assert_eq!(parse_listen("127.0.0.7").unwrap().to_string(), "127.0.0.7:5000");
        assert_eq!(parse_listen("[::1]:81").unwrap().to_string(), "[::1]:81");
        assert!(parse_listen("localhost").is_err());
    }
}
