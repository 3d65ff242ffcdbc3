//! `tombolo sim apiserver`.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};

use crate::cli::{EXIT_FAILURE, EXIT_USAGE, fail, printing};
use crate::sim::apiserver::{ApiServer, ApiServerError, DEFAULT_HISTORY, Fault, RunningApiServer};
use crate::sim::world::{self, Generate};
use crate::trust::Secret;

/// Arguments of `tombolo sim apiserver`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "TOMBOLO_SIM_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Name of the cluster, its context and its user in the kubeconfig
    #[arg(long, env = "TOMBOLO_SIM_CLUSTER", value_name = "NAME", default_value = "Kubernetes")]
    cluster: String,
    /// YAML file of objects to start with, applied in order; may be repeated
    #[arg(long, env = "TOMBOLO_SIM_WORLD", value_name = "FILE", value_delimiter = ',')]
    world: Vec<PathBuf>,
    /// Generate a world: services=N,endpoints=M[,seed=S]
    #[arg(long, env = "TOMBOLO_SIM_GENERATE", value_name = "SIZE", value_parser = parse_generate)]
    generate: Option<Generate>,
    /// Bearer token clients must send [default: generated, and told in the kubeconfig only]
    #[arg(long, env = "TOMBOLO_SIM_TOKEN", hide_env_values = true, value_name = "TOKEN", value_parser = parse_token)]
    token: Option<Secret>,
    /// Further name or address in the certificate; may be repeated
    #[arg(long, env = "TOMBOLO_SIM_TLS_SAN", value_name = "NAME", value_delimiter = ',')]
    tls_san: Vec<String>,
    /// Write a kubeconfig with everything inline to this file (mode 0600)
    #[arg(long, env = "TOMBOLO_SIM_KUBECONFIG_OUT", value_name = "FILE")]
    kubeconfig_out: Option<PathBuf>,
    /// URL in the kubeconfig instead of the listening address
    #[arg(long, env = "TOMBOLO_SIM_SERVER_URL", value_name = "URL")]
    server_url: Option<String>,
    /// Events of each kind that can be watched and paged from; older ones are answered with 410
    #[arg(long, env = "TOMBOLO_SIM_HISTORY", value_name = "EVENTS", default_value_t = DEFAULT_HISTORY,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    history: usize,
    /// Fault from the start, e.g. stall-headers,on=watch/pods,after=5s,for=1m; may be repeated. At run time: kubectl
    /// create --raw /tombolo/faults -f FILE (one per line), get and delete --raw likewise
    #[arg(long, env = "TOMBOLO_SIM_FAULT", value_name = "FAULT", value_delimiter = ';')]
    fault: Vec<Fault>,
    /// Log requests to stderr
    #[arg(long, short)]
    verbose: bool,
}

/// Never fails: a refusal here would repeat the token.
fn parse_token(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

fn parse_generate(text: &str) -> Result<Generate, String> {
    text.parse().map_err(|error: world::WorldError| error.to_string())
}

/// Runs the command until SIGTERM or SIGINT.
pub(super) async fn run(args: Args) -> ExitCode {
    if args.verbose {
        super::log_verbosely();
    }
    let objects = match load_world(&args) {
        Ok(objects) => objects,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    match serve(args, objects).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let configured = matches!(
                error.downcast_ref(),
                Some(ApiServerError::World { .. } | ApiServerError::Certificate { .. })
            );
            fail(if configured { EXIT_USAGE } else { EXIT_FAILURE }, &error)
        }
    }
}

fn load_world(args: &Args) -> anyhow::Result<Vec<Value>> {
    if args.token.as_ref().is_some_and(|token| !is_token(token.reveal())) {
        anyhow::bail!("--token: a token is made of visible ASCII characters without spaces");
    }
    if args.cluster.is_empty() || args.cluster.contains(|c: char| c.is_whitespace() || c.is_control()) {
        anyhow::bail!("--cluster: a name is not empty and has no blanks");
    }
    if let Some(url) = args.server_url.as_deref().filter(|url| !is_url(url)) {
        anyhow::bail!("--server-url {url:?}: give one like https://host:port");
    }
    let mut objects = Vec::new();
    for path in &args.world {
        objects.extend(world::read(path)?);
    }
    for fault in &args.fault {
        check_fault(fault, &objects)?;
    }
    Ok(objects)
}

fn is_url(text: &str) -> bool {
    let url = text.parse::<http::Uri>();
    url.is_ok_and(|url| url.scheme_str() == Some("https") && url.host().is_some_and(|host| !host.is_empty()))
}

/// A fault of a resource that is not there would never befall anything.
fn check_fault(fault: &Fault, objects: &[Value]) -> anyhow::Result<()> {
    let Some(resource) = fault.resource() else {
        return Ok(());
    };
    let mut defined = objects.iter().map(|object| &object["spec"]["names"]["plural"]);
    if world::has_resource(resource) || defined.any(|plural| plural == resource) {
        return Ok(());
    }
    anyhow::bail!(
        "--fault {fault}: there is no resource {resource:?}; resources are called like pods and endpointslices"
    )
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

async fn serve(args: Args, objects: Vec<Value>) -> anyhow::Result<()> {
    let stop = crate::lifecycle::interrupted().context("cannot catch signals")?;
    let nobody_knows_the_token = args.token.is_none() && args.kubeconfig_out.is_none();
    let generated = args.generate.into_iter().flat_map(world::generate);
    let mut builder = ApiServer::builder()
        .cluster(&args.cluster)
        .listen(args.listen)
        .history(args.history)
        .faults(args.fault)
        .world(generated)
        .world(objects);
    if let Some(token) = args.token {
        builder = builder.token(token.reveal());
    }
    if let Some(url) = args.server_url {
        builder = builder.server_url(url);
    }
    for name in args.tls_san {
        builder = builder.tls_san(name);
    }
    let server = builder.start().await?;
    if nobody_knows_the_token {
        printing::note(
            &"the token is generated and told nowhere, so nobody can log in: give --kubeconfig-out FILE or --token TOKEN",
        );
    }
    let announced = announce(&server, args.kubeconfig_out.as_deref());
    if announced.is_ok() {
        stop.await;
    }
    server.shutdown().await;
    announced
}

/// Writes the kubeconfig, then says where the server is: a reader of the line finds the file complete.
fn announce(server: &RunningApiServer, kubeconfig: Option<&Path>) -> anyhow::Result<()> {
    if let Some(path) = kubeconfig {
        write_private(path, &server.kubeconfig())
            .with_context(|| format!("cannot write the kubeconfig to {}", path.display()))?;
    }
    printing::line(&json!({"cluster": server.cluster(), "url": server.url(), "kubeconfig": kubeconfig}));
    Ok(())
}

/// Writes a file only its owner reads, whatever it was before.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}
