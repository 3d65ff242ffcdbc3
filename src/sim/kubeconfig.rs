//! Kubeconfigs with everything inline.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

/// The kubeconfig of one cluster: cluster, context and user are named after it.
pub(super) fn inline(cluster: &str, url: &str, ca_pem: &str, token: &str) -> String {
    // JSON strings are YAML strings: names need no further quoting rules.
    let quoted = |text: &str| Value::from(text).to_string();
    let (name, url, token) = (quoted(cluster), quoted(url), quoted(token));
    let ca = BASE64.encode(ca_pem);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {name}\nclusters:\n- name: {name}\n  cluster:\n    \
         server: {url}\n    certificate-authority-data: {ca}\nusers:\n- name: {name}\n  user:\n    \
         token: {token}\ncontexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n"
    )
}
