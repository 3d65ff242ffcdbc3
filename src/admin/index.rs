//! The list of pages, and the answer for every other path.

use std::fmt::Write as _;

use axum::response::{Html, IntoResponse, Redirect, Response};
use http::{StatusCode, Uri};

use super::query::Query;
use super::reply;

/// Every debug page with what it shows.
const PAGES: [(&str, &str); 16] = [
    ("clusterz", "clusters and whether they are synced, as istiod prints them"),
    ("clusters", "clusters in full: how fresh, each kind of object, what cannot be read; problems"),
    ("services", "services by namespace: ports, endpoints by cluster, what clusters disagree about"),
    ("gateways", "gateways by network, with what DNS says of their host names"),
    ("policies", "policies by kind: which version of each is in use, and what is wrong with it; MeshConfig"),
    (
        "policies?lint",
        "what has no effect across policies: hosts, subsets and gateways that are not there, selectors that select nothing, objects that others take the place of",
    ),
    ("endpointz", "every service's endpoints, by cluster"),
    ("endpointShardz", "the same"),
    ("networkz", "the gateways of every network"),
    ("syncz", "proxies and what was sent to and accepted by each, as istiod prints them"),
    ("proxies", "proxies in full: subscriptions, versions, rejections"),
    (
        "view?host=HOST&amp;proxy=ID",
        "what a connected proxy gets for a host, and what is hidden from it and why",
    ),
    (
        "view?host=HOST&amp;network=N&amp;cluster=C",
        "the same for a proxy that need not exist; also port, subset, sni-dnat, namespace, ip, type",
    ),
    (
        "explain?host=HOST&amp;proxy=ID",
        "every endpoint of a host with the checks it passed, what would help, weights and priorities; also endpoint, port, subset, sni-dnat",
    ),
    ("list", "the names of these pages, as JSON"),
    ("../version", "the version"),
];

/// `/` leads to the index.
pub(super) async fn root() -> Redirect {
    Redirect::temporary("/debug")
}

/// The index.
pub(super) async fn page() -> Html<String> {
    let mut rows = String::new();
    for (path, what) in PAGES {
        let link = if path.contains("HOST") {
            format!("<code>/debug/{path}</code>")
        } else {
            let and = if path.contains('?') { '&' } else { '?' };
            format!("<a href=\"/debug/{path}{and}pretty\"><code>/debug/{path}</code></a>")
        };
        let _ = writeln!(rows, "<tr><td>{link}</td><td>{what}</td></tr>");
    }
    let rows = rows.replace("/debug/../", "/");
    Html(format!(
        "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>tombolo</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
td {{ padding: .25rem 1.5rem .25rem 0; vertical-align: top }}
</style></head>
<body><h1>tombolo {}</h1>
<p>All are JSON; <code>?pretty</code> indents. <code>/ready?verbose</code> is on the HTTP address,
<code>/metrics</code> on the monitoring address.</p>
<table>
{rows}</table></body></html>
",
        env!("CARGO_PKG_VERSION")
    ))
}

/// The names of the pages, sorted.
pub(super) async fn list(query: Query) -> Response {
    let mut names: Vec<&str> = PAGES
        .iter()
        .map(|(path, _)| path.split('?').next().unwrap_or(path))
        .filter(|name| !name.contains('/'))
        .collect();
    names.sort_unstable();
    names.dedup();
    reply::json(&query, &names)
}

/// Says where the pages are.
pub(super) async fn not_found(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    let text = format!(
        "no page {path:?}; /debug lists the pages, /ready is on the HTTP address, /metrics on the monitoring address\n"
    );
    (StatusCode::NOT_FOUND, text).into_response()
}
