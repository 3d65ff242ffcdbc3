//! `tombolo dump`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::client::{finish, rows, text};
use super::printing;
use super::table::{self, Output};
use super::value::some_time;
use crate::xds::client::{Answer, Asker, Decoder, Protocol, node};
use crate::xds::resource::ResourceType;

/// Arguments of `tombolo dump`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ADS server, plaintext
    #[arg(long, env = "TOMBOLO_XDS", value_name = "ADDR", default_value = "127.0.0.1:15010", value_parser = parse_address)]
    xds: String,
    /// Who asks: a node as JSON ({"id":…,"metadata":{…}}) or only its id TYPE~IP~POD.NAMESPACE~DOMAIN
    #[arg(long = "as", value_name = "NODE", value_parser = parse_node)]
    viewer: Viewer,
    /// What to ask for
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    kind: Kind,
    /// Ask for this resource; may be repeated [default: all; for eds and rds those that cds and lds name]
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Speak the delta protocol
    #[arg(long)]
    delta: bool,
    /// How long an answer may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    timeout: Duration,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// The types, as people abbreviate them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Envoy clusters
    Cds,
    /// Endpoints
    Eds,
    /// Listeners
    Lds,
    /// Routes
    Rds,
    /// Secrets; private keys are never shown
    Sds,
}

impl From<Kind> for ResourceType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Cds => Self::Cluster,
            Kind::Eds => Self::Endpoint,
            Kind::Lds => Self::Listener,
            Kind::Rds => Self::Route,
            Kind::Sds => Self::Secret,
        }
    }
}

/// A node: id, cluster, metadata.
#[derive(Clone, Debug)]
struct Viewer {
    id: String,
    cluster: String,
    metadata: Map<String, Value>,
    /// Keys that are not sent.
    others: Vec<String>,
}

/// `host:port`.
fn parse_address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        _ if text.contains("://") => Err("HOST:PORT belongs there, without http://".to_owned()),
        _ if text.contains('@') => Err("HOST:PORT belongs there, without a user".to_owned()),
        Some((host, port)) if !host.is_empty() && port.parse().is_ok_and(|port: u16| port != 0) => {
            Ok(text.to_owned())
        }
        _ => Err("HOST:PORT belongs there".to_owned()),
    }
}

fn parse_node(argument: &str) -> Result<Viewer, String> {
    if !argument.trim_start().starts_with('{') {
        return Ok(Viewer {
            id: argument.to_owned(),
            cluster: "dump".to_owned(),
            metadata: Map::new(),
            others: Vec::new(),
        });
    }
    let value: Value = serde_json::from_str(argument).map_err(|error| format!("not JSON: {error}"))?;
    let id = value["id"].as_str().ok_or("it has no text `id`")?.to_owned();
    let metadata = match &value["metadata"] {
        Value::Null => Map::new(),
        Value::Object(map) => map.clone(),
        _ => return Err("`metadata` is not an object".to_owned()),
    };
    let cluster = value["cluster"].as_str().unwrap_or("dump").to_owned();
    let keys = value.as_object().into_iter().flat_map(Map::keys);
    let others = keys.filter(|key| !["id", "cluster", "metadata"].contains(&key.as_str())).cloned().collect();
    Ok(Viewer { id, cluster, metadata, others })
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    finish(show(&args).await)
}

async fn show(args: &Args) -> anyhow::Result<()> {
    if !args.viewer.others.is_empty() {
        let others = args.viewer.others.join(", ");
        printing::note(&format_args!("--as: {others} of the node is not sent; id, cluster and metadata are"));
    }
    let asker = Asker {
        address: args.xds.clone(),
        node: node(&args.viewer.id, &args.viewer.cluster, &args.viewer.metadata),
        protocol: if args.delta { Protocol::Delta } else { Protocol::Sotw },
        limit: args.timeout,
    };
    let decoder = Decoder::new()?;
    let kind = ResourceType::from(args.kind);
    let names = names(args, &asker, &decoder).await?;
    let none = names.as_ref().is_some_and(Vec::is_empty);
    let answer = if none {
        Answer { version: String::new(), resources: Vec::new(), removed: Vec::new() }
    } else {
        asker.fetch(kind, names.unwrap_or_default()).await?
    };
    let resources = decode(&decoder, &answer)?;
    let text = match args.output {
        Output::Table | Output::Wide => columns(args.kind, &resources),
        document => table::document(
            document,
            &json!({"type_url": kind.url(), "version": answer.version, "resources": resources,
                "removed": answer.removed}),
        )?,
    };
    if resources.is_empty() && matches!(args.kind, Kind::Sds) {
        printing::note(
            &"no secrets: a tombolo server sends them with --ca-dir and --insecure-plaintext-sds only",
        );
    }
    printing::data(&text);
    Ok(())
}

fn decode(decoder: &Decoder, answer: &Answer) -> anyhow::Result<Vec<Value>> {
    let decoded = answer.resources.iter().map(|any| decoder.json(any));
    decoded.collect::<Result<_, _>>().context("the server's answer")
}

/// What to ask for; `None` is everything. Types without a wildcard are asked for by the names that the wildcard
/// types give, as Envoy does.
async fn names(args: &Args, asker: &Asker, decoder: &Decoder) -> anyhow::Result<Option<Vec<String>>> {
    if !args.name.is_empty() {
        return Ok(Some(args.name.clone()));
    }
    let mut names = match args.kind {
        Kind::Cds | Kind::Lds => return Ok(None),
        Kind::Sds => vec!["default".to_owned(), "ROOTCA".to_owned()],
        Kind::Eds => {
            let clusters = decode(decoder, &asker.fetch(ResourceType::Cluster, Vec::new()).await?)?;
            let eds = clusters.iter().filter(|cluster| cluster["type"] == "EDS");
            eds.map(|cluster| match text(&cluster["eds_cluster_config"], "service_name") {
                name if name.is_empty() => text(cluster, "name"),
                name => name,
            })
            .collect()
        }
        Kind::Rds => {
            let listeners = decode(decoder, &asker.fetch(ResourceType::Listener, Vec::new()).await?)?;
            let mut found = Vec::new();
            listeners.iter().for_each(|listener| route_names(listener, &mut found));
            found
        }
    };
    names.sort();
    names.dedup();
    Ok(Some(names))
}

/// Every `rds.route_config_name` in a listener.
fn route_names(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("rds").and_then(|rds| rds["route_config_name"].as_str()) {
                found.push(name.to_owned());
            }
            map.values().for_each(|inner| route_names(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| route_names(inner, found)),
        _ => {}
    }
}

fn columns(kind: Kind, resources: &[Value]) -> String {
    let each = |line: fn(&Value) -> Vec<String>| resources.iter().map(line).collect::<Vec<_>>();
    match kind {
        Kind::Cds => table::columns(&["NAME", "TYPE"], each(|r| vec![text(r, "name"), text(r, "type")])),
        Kind::Lds => {
            let line = |r: &Value| {
                let chains = rows(&r["filter_chains"]).len();
                vec![text(r, "name"), socket(&r["address"]), chains.to_string()]
            };
            table::columns(&["NAME", "ADDRESS", "FILTER-CHAINS"], each(line))
        }
        Kind::Rds => {
            let line = |r: &Value| vec![text(r, "name"), rows(&r["virtual_hosts"]).len().to_string()];
            table::columns(&["NAME", "VIRTUAL-HOSTS"], each(line))
        }
        Kind::Sds => {
            let line = |r: &Value| {
                let kinds = ["tls_certificate", "validation_context"];
                let kind = kinds.into_iter().find(|kind| !r[*kind].is_null());
                vec![text(r, "name"), kind.unwrap_or("other").to_owned()]
            };
            table::columns(&["NAME", "KIND"], each(line))
        }
        Kind::Eds => {
            let header = ["ENDPOINT", "STATUS", "WEIGHT", "LOCALITY", "CLUSTER"];
            table::columns(&header, resources.iter().flat_map(assignment))
        }
    }
}

/// One line per endpoint; one that says so for a name without any.
fn assignment(resource: &Value) -> Vec<Vec<String>> {
    let name = text(resource, "cluster_name");
    let mut lines = Vec::new();
    for group in rows(&resource["endpoints"]) {
        let place = ["region", "zone", "sub_zone"].map(|part| text(&group["locality"], part)).join("/");
        for member in rows(&group["lb_endpoints"]) {
            let health = text(member, "health_status");
            lines.push(vec![
                socket(&member["endpoint"]["address"]),
                if health.is_empty() { "HEALTHY".to_owned() } else { health },
                text(member, "load_balancing_weight"),
                place.trim_end_matches('/').to_owned(),
                name.clone(),
            ]);
        }
    }
    if lines.is_empty() {
        let none = || "-".to_owned();
        lines.push(vec![none(), none(), none(), String::new(), name]);
    }
    lines
}

fn socket(address: &Value) -> String {
    let socket = &address["socket_address"];
    format!("{}:{}", text(socket, "address"), text(socket, "port_value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_an_id_or_json() {
        assert_eq!(parse_node("sidecar~1.1.1.1~a.b~c").expect("an id").id, "sidecar~1.1.1.1~a.b~c");
        let viewer = parse_node(r#"{"id":"x","metadata":{"NETWORK":"n"}}"#).expect("JSON");
        assert_eq!(viewer.metadata["NETWORK"], "n");
        let viewer = parse_node(r#"{"id":"x","meta":{},"locality":{}}"#).expect("JSON");
        assert_eq!(viewer.others, ["locality", "meta"]);
        assert!(parse_address("localhost:15010").is_ok() && parse_address("[::1]:1").is_ok());
        for wrong in ["http://a:1", "a", "a:x", ":1", "u:p@a:1"] {
            assert!(parse_address(wrong).is_err(), "{wrong}");
        }
        for wrong in ["{", "{}", r#"{"id":"x","metadata":1}"#] {
            assert!(parse_node(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn routes_are_found_inside_filters() {
        let listener = json!({"filter_chains": [{"filters": [{"typed_config":
            {"rds": {"route_config_name": "80"}}}]}]});
        let mut found = Vec::new();
        route_names(&listener, &mut found);
        assert_eq!(found, ["80"]);
    }
}
