//! Fresh identifiers and the wall clock: uids, name suffixes, tokens, timestamps.

use super::error::ApiError;

/// Alphabet of generated name suffixes: no vowels, no look-alikes.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0; N];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| ApiError::BadRequest("the operating system gives no randomness".into()))?;
    Ok(bytes)
}

/// A version-4 UUID.
pub(super) fn uid() -> Result<String, ApiError> {
    let mut bytes: [u8; 16] = random()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex(&bytes);
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// Five characters that complete a `generateName`.
pub(super) fn suffix() -> Result<String, ApiError> {
    let bytes: [u8; 5] = random()?;
    Ok(bytes.iter().map(|b| char::from(SUFFIX_ALPHABET[usize::from(*b) % SUFFIX_ALPHABET.len()])).collect())
}

/// A bearer token nobody guesses.
pub(in crate::sim) fn token() -> Result<String, ApiError> {
    Ok(hex(&random::<24>()?))
}

/// Now, as Kubernetes writes times: RFC 3339, whole seconds, UTC.
pub(super) fn timestamp() -> String {
    timestamp_in(0)
}

/// As [`timestamp`], this many seconds from now; now, if that is beyond what can be written.
pub(super) fn timestamp_in(seconds: u64) -> String {
    let now = jiff::Timestamp::now();
    let then = now.checked_add(std::time::Duration::from_secs(seconds)).unwrap_or(now);
    then.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_their_form_and_differ() {
        let (a, b) = (uid().unwrap(), uid().unwrap());
        assert_ne!(a, b);
        assert_eq!((a.len(), &a[14..15]), (36, "4"));
        assert_eq!(suffix().unwrap().len(), 5);
        assert_ne!(token().unwrap(), token().unwrap());
    }

    #[test]
    fn timestamps_are_whole_seconds() {
        let now = timestamp();
        assert!(now.len() == 20 && now.ends_with('Z'), "{now}");
        assert!(now.parse::<jiff::Timestamp>().is_ok());
    }
}
