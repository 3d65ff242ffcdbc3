//! What the user entry of a remote kubeconfig may say (Z-01, R1.13, R1.14).

use serde_json::Value;

use super::Refusal;
use crate::ingest::client::AddressPolicy;

/// Something that reaches from a remote kubeconfig into this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exception {
    Gcp,
    Azure,
    Openstack,
    Exec,
    ClientKey,
    ClientCertificate,
    TokenFile,
}

impl Exception {
    const ALL: [(&str, Self); 7] = [
        ("gcp", Self::Gcp),
        ("azure", Self::Azure),
        ("openstack", Self::Openstack),
        ("exec", Self::Exec),
        ("clientKey", Self::ClientKey),
        ("clientCertificate", Self::ClientCertificate),
        ("tokenFile", Self::TokenFile),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, exception)| *exception)
    }
}

/// What remote kubeconfigs may do on this machine; by default nothing. Whoever may write Secrets in our
/// namespace can use what is permitted here: run programs, read files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KubeconfigPolicy {
    permitted: u8,
    /// The peer's rules instead of ours: for comparisons, never for connections.
    peer: bool,
}

/// *Fatal* at start: a name that permits nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--insecure-kubeconfig-options: {0:?} is none of gcp, azure, openstack, exec, clientKey, clientCertificate, tokenFile"
)]
pub struct UnknownOption(String);

impl KubeconfigPolicy {
    /// Exceptions by the names of R1.14, separated by commas.
    ///
    /// # Errors
    /// A name is not one of them.
    pub fn parse(options: &str) -> Result<Self, UnknownOption> {
        let mut policy = Self::default();
        for name in options.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let exception = Exception::named(name);
            policy.permit(exception.ok_or_else(|| UnknownOption(name.chars().take(60).collect()))?);
        }
        Ok(policy)
    }

    /// The peer's rules (R1.13) with its exceptions, names it does not know included. [`RemoteKubeconfig`]
    /// keeps ours whatever policy it is given (D34).
    ///
    /// [`RemoteKubeconfig`]: super::RemoteKubeconfig
    pub fn peer<'a>(options: impl IntoIterator<Item = &'a str>) -> Self {
        let mut policy = Self { permitted: 0, peer: true };
        options.into_iter().filter_map(Exception::named).for_each(|exception| policy.permit(exception));
        policy
    }

    /// The same exceptions under our rules.
    pub(super) fn strict(self) -> Self {
        Self { peer: false, ..self }
    }

    fn permit(&mut self, exception: Exception) {
        self.permitted |= 1 << exception as u8;
    }

    fn permits(self, exception: Exception) -> bool {
        self.permitted & (1 << exception as u8) != 0
    }
}

/// Everything that is not in a kubeconfig and decides about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeconfigRules {
    /// Which addresses its server may have.
    pub addresses: AddressPolicy,
    /// What its user may do here.
    pub policy: KubeconfigPolicy,
}

/// No exceptions.
impl From<AddressPolicy> for KubeconfigRules {
    fn from(addresses: AddressPolicy) -> Self {
        Self { addresses, policy: KubeconfigPolicy::default() }
    }
}

/// Whether a user entry (the value below `user:`) may be used.
///
/// # Errors
/// Names the first field that may not.
pub fn verdict(auth: &Value, policy: KubeconfigPolicy) -> Result<(), Refusal> {
    let user = auth.as_object().ok_or(Refusal::Missing("users"))?;
    user.iter().filter(|(_, value)| is_set(value)).try_for_each(|(name, value)| field(name, value, policy))
}

/// Fields that mean nothing when empty, null or false.
pub(super) fn is_set(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && value.as_str() != Some("")
}

fn field(name: &str, value: &Value, policy: KubeconfigPolicy) -> Result<(), Refusal> {
    let (exception, why) = match name {
        "token" | "client-certificate-data" | "client-key-data" | "username" | "password" | "extensions" => {
            return Ok(());
        }
        "exec" => (Some(Exception::Exec), "no program is run on behalf of a remote cluster"),
        "auth-provider" => return provider(value, policy),
        "tokenFile" => (Some(Exception::TokenFile), "use token"),
        "client-certificate" => (Some(Exception::ClientCertificate), "use client-certificate-data"),
        "client-key" => (Some(Exception::ClientKey), "use client-key-data"),
        _ if policy.peer => return Ok(()),
        name if name.starts_with("as") => (None, "nobody is impersonated"),
        _ => (None, "the field is not known"),
    };
    if exception.is_some_and(|exception| policy.permits(exception)) {
        return Ok(());
    }
    Err(Refusal::NotAllowed(shown(name), why))
}

fn provider(value: &Value, policy: KubeconfigPolicy) -> Result<(), Refusal> {
    let name = value.as_object().and_then(|provider| provider.get("name")?.as_str()).unwrap_or_default();
    let exception = match name {
        "oidc" if policy.peer => return Ok(()),
        "gcp" => Exception::Gcp,
        "azure" => Exception::Azure,
        "openstack" => Exception::Openstack,
        "exec" if policy.peer => Exception::Exec,
        _ => return Err(refused_provider()),
    };
    if policy.permits(exception) { Ok(()) } else { Err(refused_provider()) }
}

fn refused_provider() -> Refusal {
    Refusal::NotAllowed("auth-provider".to_owned(), "no program is run on behalf of a remote cluster")
}

/// A name from outside, fit for a message.
pub(super) fn shown(field: &str) -> String {
    field.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The rows of case `secret-08` and what the peer says to them; last, what we say.
    fn rows() -> Vec<(Value, &'static [&'static str], bool, bool)> {
        let exec = json!({"exec": {"command": "sleep"}});
        let provider = |name: &str| json!({"auth-provider": {"name": name}});
        vec![
            (json!({}), &[], true, true),
            (exec.clone(), &[], false, false),
            (exec, &["exec"], true, true),
            (json!({"client-key": "/k"}), &[], false, false),
            (json!({"client-key": "/k"}), &["clientKey"], true, true),
            (json!({"client-certificate": "/c"}), &[], false, false),
            (json!({"tokenFile": "/t"}), &[], false, false),
            (provider("gcp"), &[], false, false),
            (provider("gcp"), &["gcp"], true, true),
            (provider("oidc"), &[], true, false),
            (json!({"token": "x"}), &[], true, true),
            (json!({"client-key-data": "..", "client-certificate-data": ".."}), &[], true, true),
            (json!({"username": "u", "password": "p"}), &[], true, true),
            // Beyond the case.
            (json!({"as": "root", "as-groups": ["system:masters"]}), &[], true, false),
            (json!({"somethingNew": 1}), &[], true, false),
            (provider("gcp"), &["azure", "exec"], false, false),
            (provider("azure"), &["azure"], true, true),
            (provider("openstack"), &["openstack"], true, true),
            (provider("other"), &["gcp", "azure", "openstack", "exec"], false, false),
            (json!({"auth-provider": "gcp"}), &["gcp"], false, false),
            (json!({"client-certificate": "/c"}), &["clientCertificate"], true, true),
            (json!({"tokenFile": "/t"}), &["tokenFile"], true, true),
            (json!({"tokenFile": "/t", "exec": {"command": "x"}}), &["tokenFile"], false, false),
            (json!({"tokenFile": "", "exec": null}), &[], true, true),
        ]
    }

    #[test]
    fn r1_13_r1_14_exceptions_permit_what_they_name_and_z_wins_over_the_peer() {
        for (auth, allow, peer, ours) in rows() {
            let theirs = verdict(&auth, KubeconfigPolicy::peer(allow.iter().copied()));
            assert_eq!(theirs.is_ok(), peer, "peer: {auth} {allow:?} {theirs:?}");
            let policy = KubeconfigPolicy::parse(&allow.join(",")).unwrap();
            let result = verdict(&auth, policy);
            assert_eq!(result.is_ok(), ours, "{auth} {allow:?} {result:?}");
        }
        assert_eq!(verdict(&json!([]), KubeconfigPolicy::default()), Err(Refusal::Missing("users")));
    }

    #[test]
    fn r1_14_names_are_separated_by_commas_and_unknown_ones_are_fatal() {
        assert_eq!(KubeconfigPolicy::parse(""), Ok(KubeconfigPolicy::default()));
        assert_eq!(KubeconfigPolicy::parse(" exec , gcp,"), KubeconfigPolicy::parse("gcp,exec"));
        let error = KubeconfigPolicy::parse("exec,oidc").unwrap_err().to_string();
        assert!(error.contains("\"oidc\"") && error.contains("tokenFile"), "{error}");
    }
}
