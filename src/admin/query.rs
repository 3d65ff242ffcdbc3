//! Query strings.

use std::collections::BTreeMap;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::reply::Refusal;

/// Parameters that are yes or no: `sni-dnat`, `sni-dnat=true`, `sni-dnat=false`.
const SWITCHES: [&str; 6] = ["conflicts", "invalid", "lint", "pretty", "sni-dnat", "verbose"];

/// The parameters of a request; a parameter without a value (`?pretty`) has the empty one.
#[derive(Debug, Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads `a=b&c`. What is said twice, or of a switch neither yes nor no, is refused: an answer to another
    /// question would look like one to this.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let mut parameters = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key), decode(value));
            if SWITCHES.contains(&&*key) && !["", "true", "false", "1", "0"].contains(&&*value) {
                return Err(Refusal::query(format!("{key}={value:?} is neither true nor false")));
            }
            if parameters.contains_key(&key) {
                return Err(Refusal::query(format!("parameter {key:?} is given twice; give it once")));
            }
            parameters.insert(key, value);
        }
        Ok(Self(parameters))
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, switch: &str) -> bool {
        self.0.get(switch).is_some_and(|value| !["false", "0"].contains(&&**value))
    }

    /// Whether a parameter is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The value of a parameter, unless empty.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Refuses parameters that mean nothing here: a misspelt one would silently show something else.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.0.keys().find(|key| !known.contains(&key.as_str()) && *key != "pretty") {
            Some(odd) => {
                Err(Refusal::query(format!("unknown parameter {odd:?}; known are {}", known.join(", "))))
            }
            None => Ok(()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

/// Percent-decoding; what is no valid escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten().and_then(hex);
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("host=a%2Eb&pretty&x=1+2&odd=%zz%4").expect("valid");
        assert_eq!(query.get("host"), Some("a.b"));
        assert!(query.has("pretty") && query.get("pretty").is_none());
        assert_eq!(query.get("x"), Some("1 2"));
        assert_eq!(query.get("odd"), Some("%zz%4"));
        assert!(query.only(&["host", "x", "odd"]).is_ok());
        assert!(query.only(&["host"]).is_err());
    }

    #[test]
    fn switches_are_on_or_off_and_nothing_is_said_twice() {
        let on = |text: &str| Query::parse(text).expect("valid").is_on("sni-dnat");
        assert!(on("sni-dnat") && on("sni-dnat=true") && on("sni-dnat=1"));
        assert!(!on("sni-dnat=false") && !on("sni-dnat=0") && !on(""));
        for wrong in ["sni-dnat=maybe", "host=a&host=b", "host=a&host=a"] {
            assert!(Query::parse(wrong).is_err(), "{wrong}");
        }
    }
}
