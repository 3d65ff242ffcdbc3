//! What any kubeconfig's server URL must be.

/// Whether a connection goes where the URL says, and whether the URL may be shown.
///
/// # Errors
/// What is wrong, without the URL.
pub(super) fn check(url: &http::Uri) -> Result<(), &'static str> {
    let (Some(authority), Some(host)) = (url.authority(), url.host()) else {
        return Err("names no host");
    };
    if authority.as_str().contains('@') {
        return Err("must not contain credentials");
    }
    // A port that is none would be the scheme's.
    match (authority.as_str().len() == host.len(), authority.port_u16()) {
        (true, _) | (false, Some(1..)) => Ok(()),
        (false, _) => Err("has a port that is not 1 to 65535"),
    }
}
