//! Envoy's messages as JSON, by their descriptors (D44).

use std::io::Read as _;

use envoy_types::pb::google::protobuf::Any;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

/// `proto/README.md` says what it holds.
const DESCRIPTORS: &[u8] = include_bytes!("../../../proto/envoy-descriptors.bin.gz");

/// What stands in place of a private key.
const REDACTED: &str = "[redacted]";
/// Fields of a TLS certificate that hold secrets, as the JSON mapping spells them.
const SECRET_FIELDS: [&str; 6] =
    ["private_key", "privateKey", "password", "session_ticket_keys", "sessionTicketKeys", "generic_secret"];

/// *Fatal*: a message cannot be shown.
#[derive(Debug, thiserror::Error)]
#[error("cannot show a {type_url}: {problem}")]
pub struct DecodeError {
    /// Its type.
    pub type_url: String,
    /// Why.
    pub problem: String,
}

/// Turns packed messages into JSON. Making one costs some tens of milliseconds.
#[derive(Debug)]
pub struct Decoder(DescriptorPool);

impl Decoder {
    /// Reads the descriptors.
    ///
    /// # Errors
    /// [`DecodeError`] when the build carries broken ones.
    pub fn new() -> Result<Self, DecodeError> {
        let broken = |problem: String| DecodeError { type_url: "descriptor set".to_owned(), problem };
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(DESCRIPTORS)
            .read_to_end(&mut bytes)
            .map_err(|error| broken(error.to_string()))?;
        let pool = DescriptorPool::decode(bytes.as_slice()).map_err(|error| broken(error.to_string()))?;
        Ok(Self(pool))
    }

    /// `any` in the canonical JSON mapping with the field names of the `.proto` files. Private keys are
    /// replaced.
    ///
    /// # Errors
    /// [`DecodeError`] for a type that is not known or bytes that are not of it.
    pub fn json(&self, any: &Any) -> Result<Value, DecodeError> {
        let failed = |problem: String| DecodeError { type_url: any.type_url.clone(), problem };
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        let descriptor =
            self.0.get_message_by_name(name).ok_or_else(|| failed("its type is not known".to_owned()))?;
        let message = DynamicMessage::decode(descriptor, any.value.as_slice())
            .map_err(|error| failed(error.to_string()))?;
        let options = SerializeOptions::new().use_proto_field_name(true);
        let mut value = message
            .serialize_with_options(serde_json::value::Serializer, &options)
            .map_err(|error| failed(error.to_string()))?;
        redact(&mut value);
        Ok(value)
    }
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                if SECRET_FIELDS.contains(&key.as_str()) {
                    *inner = REDACTED.into();
                } else {
                    redact(inner);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
    use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};
    use prost::Message as _;

    use super::*;
    use crate::xds::resource::ResourceType;

    #[test]
    fn private_keys_are_never_shown() {
        let source = |text: &str| DataSource {
            specifier: Some(data_source::Specifier::InlineString(text.to_owned())),
            ..DataSource::default()
        };
        let certificate = TlsCertificate {
            certificate_chain: Some(source("chain")),
            private_key: Some(source("hunter2")),
            ..TlsCertificate::default()
        };
        let secret =
            Secret { name: "default".to_owned(), r#type: Some(secret::Type::TlsCertificate(certificate)) };
        let any = Any { type_url: ResourceType::Secret.url().to_owned(), value: secret.encode_to_vec() };
        let value = Decoder::new().expect("descriptors").json(&any).expect("a secret");
        assert_eq!(value["name"], "default");
        assert_eq!(value["tls_certificate"]["certificate_chain"]["inline_string"], "chain");
        assert!(!value.to_string().contains("hunter2"), "{value}");
    }

    #[test]
    fn every_served_type_has_its_descriptor() {
        let decoder = Decoder::new().expect("descriptors");
        for kind in ResourceType::ALL {
            let any = Any { type_url: kind.url().to_owned(), value: Vec::new() };
            assert!(decoder.json(&any).is_ok(), "{kind}");
        }
    }
}
