//! Small message parts that many messages share.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::BufMut;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf::{BoolValue, Duration, UInt32Value};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::model::IpFamilies;
use crate::xds::resource::{Encoded, Entry, ResourceType};

/// An optional `true` or `false`.
pub(super) fn flag(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// An optional number.
pub(super) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// Whole seconds.
pub(super) fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

/// A time.
pub(super) fn time(time: std::time::Duration) -> Option<Duration> {
    // Below a thousand million.
    let nanos = i32::try_from(time.subsec_nanos()).unwrap_or(0);
    Some(Duration { seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), nanos })
}

/// A TCP address.
pub(super) fn socket(address: IpAddr, port: u16) -> core::SocketAddress {
    core::SocketAddress {
        address: address.to_string(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port.into())),
        ..Default::default()
    }
}

/// A TCP address where any kind of address may stand.
pub(super) fn address(ip: IpAddr, port: u16) -> Option<core::Address> {
    Some(core::Address { address: Some(core::address::Address::SocketAddress(socket(ip, port))) })
}

/// The wildcard address of proxies with these families.
pub(super) fn wildcard(families: IpFamilies) -> IpAddr {
    families.wildcard()
}

/// "Ask this stream": waiting for the answer never times out.
pub(super) fn ads() -> Option<core::ConfigSource> {
    let specifier = core::config_source::ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {});
    Some(core::ConfigSource {
        initial_fetch_timeout: seconds(0),
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(specifier),
        ..Default::default()
    })
}

/// Appends `message` as the field `tag` of an enclosing message.
pub(super) fn put_field(tag: u32, message: &impl Message, buffer: &mut impl BufMut) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(message.encoded_len() as u64, buffer);
    message.encode_raw(buffer);
}

/// Appends encoded bytes as the field `tag` of an enclosing message.
pub(super) fn put_bytes(tag: u32, bytes: &[u8], buffer: &mut impl BufMut) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(bytes.len() as u64, buffer);
    buffer.put_slice(bytes);
}

/// A list entry out of a message.
pub(super) fn entry(kind: ResourceType, name: &str, message: &impl Message) -> Entry {
    Entry { name: name.into(), encoded: Arc::new(Encoded::new(kind, name, &message.encode_to_vec())) }
}
