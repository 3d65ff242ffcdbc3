//! `tombolo services`.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, ServerArgs, encode, rows, text};
use super::table::{self, Output};

/// Arguments of `tombolo services`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only services of this namespace
    #[arg(long, short, value_name = "NS")]
    namespace: Option<String>,
    /// Only services that this cluster has a part of
    #[arg(long, value_name = "ID")]
    cluster: Option<String>,
    /// Only services whose ports the clusters disagree about
    #[arg(long)]
    conflicts: bool,
    #[command(flatten)]
    server: ServerArgs,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    client::finish(show(&args).await)
}

async fn show(args: &Args) -> anyhow::Result<()> {
    let given = [("namespace", &args.namespace), ("cluster", &args.cluster)];
    let given =
        given.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", encode(value.as_ref()?))));
    let mut query: Vec<_> = given.collect();
    query.extend(args.conflicts.then(|| "conflicts".to_owned()));
    let answer = client::fetch(&args.server, &format!("/debug/services?{}", query.join("&"))).await?;
    table::show(args.output, &answer, short, wide)
}

fn short(answer: &Value) -> String {
    let line = |row: &Value| {
        let conflicts = rows(&row["conflicts"]).len();
        let conflicts = if conflicts == 0 { String::new() } else { conflicts.to_string() };
        vec![text(row, "namespace"), text(row, "name"), ports(&row["ports"]), clusters(row), conflicts]
    };
    let header = ["NAMESPACE", "NAME", "PORTS", "ENDPOINTS", "CONFLICTS"];
    table::columns(&header, rows(&answer["services"]).iter().map(line))
}

fn wide(answer: &Value) -> String {
    let line = |row: &Value| {
        let conflicts: Vec<_> = rows(&row["conflicts"]).iter().filter_map(Value::as_str).collect();
        vec![
            text(row, "namespace"),
            text(row, "hostname"),
            text(row, "resolution"),
            ports(&row["ports"]),
            clusters(row),
            conflicts.join("; "),
        ]
    };
    let header = ["NAMESPACE", "HOST", "RESOLUTION", "PORTS", "ENDPOINTS", "CONFLICTS"];
    table::columns(&header, rows(&answer["services"]).iter().map(line))
}

/// `http:80,dns:53/udp`; what Envoy carries has no suffix.
fn ports(ports: &Value) -> String {
    let one = |port: &Value| {
        let transport = text(port, "transport").to_lowercase();
        let suffix = if transport == "tcp" { String::new() } else { format!("/{transport}") };
        let name = text(port, "name");
        let name = if name.is_empty() { name } else { name + ":" };
        format!("{name}{}{suffix}", text(port, "number"))
    };
    rows(ports).iter().map(one).collect::<Vec<_>>().join(",")
}

/// `east=3 west=1/2`: ready ones, and where they differ all.
fn clusters(row: &Value) -> String {
    let one = |(id, cluster): (&String, &Value)| {
        let (ready, all) = (text(cluster, "ready"), text(cluster, "endpoints"));
        if ready == all { format!("{id}={all}") } else { format!("{id}={ready}/{all}") }
    };
    let all = row["clusters"].as_object().into_iter().flatten();
    all.map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_clusters_and_conflicts_are_one_line_each() {
        let port = |number: u16, name: &str, transport: &str| json!({"number": number, "name": name, "transport": transport});
        let answer = json!({"services": [{
            "namespace": "sample", "name": "a", "hostname": "a.sample.svc.cluster.local", "resolution": "vip",
            "ports": [port(80, "http", "Tcp"), port(53, "", "Udp")],
            "clusters": {"east": {"endpoints": 3, "ready": 3}, "west": {"endpoints": 2, "ready": 1}},
            "conflicts": ["port 53 is missing in west"],
        }]});
        let text = short(&answer);
        assert!(text.contains("sample     a     http:80,53/udp  east=3 west=1/2  1"), "{text}");
        assert!(wide(&answer).contains("port 53 is missing in west"));
    }
}
