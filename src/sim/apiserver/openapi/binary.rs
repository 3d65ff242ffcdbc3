//! OpenAPI v2 in protobuf, the only form in which kubectl reads version 2.
//!
//! kubectl asks for it when version 3 does not know a kind. The answer lists nothing: what is not in version 3
//! is not served.

use prost::Message;

/// The media type clients ask for.
const ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The media type of the answer.
pub(in crate::sim::apiserver) const MEDIA: &str =
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

#[derive(Clone, PartialEq, Message)]
struct Document {
    #[prost(string, tag = "1")]
    swagger: String,
    #[prost(message, optional, tag = "2")]
    info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    paths: Option<Nothing>,
    #[prost(message, optional, tag = "9")]
    definitions: Option<Nothing>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

/// Whether the client wants version 2 in protobuf.
pub(in crate::sim::apiserver) fn is_asked(path: &str, accept: &str) -> bool {
    path == "v2" && accept.split(',').any(|offer| matches!(offer.trim(), ASKED | MEDIA))
}

/// The document.
pub(in crate::sim::apiserver) fn document() -> Vec<u8> {
    let info = Info { title: "Kubernetes".into(), version: super::super::discovery::GIT_VERSION.into() };
    Document {
        swagger: "2.0".into(),
        info: Some(info),
        paths: Some(Nothing {}),
        definitions: Some(Nothing {}),
    }
    .encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_for_those_who_ask_for_it() {
        assert!(is_asked("v2", ASKED) && !is_asked("v2", "application/json") && !is_asked("v3", ASKED));
        let read = Document::decode(document().as_slice()).unwrap();
        assert_eq!(read.swagger, "2.0");
    }
}
