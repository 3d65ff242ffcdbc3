//! What filters do to the requests of one route: faults on purpose, answers to preflights.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3 as delays;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as cors;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3 as faults;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;
use prost::Message;

use super::matching;
use crate::model::policy::{Cors, Fault, HttpRoute, Percent};
use crate::model::{Dialect, Name};
use crate::xds::resources::filters::{CORS, FAULT};
use crate::xds::resources::parts::{flag, time};

/// The last fields of `Route`, as a map in order (D20).
#[derive(Clone, PartialEq, Message)]
struct PerFilter {
    #[prost(btree_map = "string, message", tag = "13")]
    typed_per_filter_config: BTreeMap<String, Any>,
}

/// Appends them to an encoded route that has no such field.
pub(super) fn put(message: &mut Vec<u8>, told: &HttpRoute, dialect: Dialect) {
    // Clients of gRPC refuse settings of a filter that they do not have.
    let cors = told.cors.as_ref().filter(|_| dialect != Dialect::Grpc);
    let cors = cors.map(|told| (CORS.to_owned(), pack_any(cors_policy(told))));
    let fault = told.fault.as_ref().map(|told| (FAULT.to_owned(), pack_any(http_fault(told))));
    let fields = PerFilter { typed_per_filter_config: cors.into_iter().chain(fault).collect() };
    message.extend_from_slice(&fields.encode_to_vec());
}

/// A share of requests.
pub(super) fn fraction(share: Percent) -> FractionalPercent {
    FractionalPercent { numerator: share.millionths(), denominator: DenominatorType::Million.into() }
}

fn http_fault(told: &Fault) -> faults::HttpFault {
    let delay = told.delay.as_ref().map(|told| delays::FaultDelay {
        percentage: Some(fraction(told.share)),
        fault_delay_secifier: time(told.fixed).map(delays::fault_delay::FaultDelaySecifier::FixedDelay),
    });
    let abort = told.abort.as_ref().map(|told| faults::FaultAbort {
        percentage: Some(fraction(told.share)),
        error_type: Some(match told.status {
            Ok(code) => faults::fault_abort::ErrorType::HttpStatus(code.into()),
            Err(code) => faults::fault_abort::ErrorType::GrpcStatus(code),
        }),
        ..Default::default()
    });
    faults::HttpFault { delay, abort, ..Default::default() }
}

fn cors_policy(told: &Cors) -> cors::CorsPolicy {
    let list = |names: &[Name]| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",");
    cors::CorsPolicy {
        allow_origin_string_match: told.origins.iter().map(matching::text).collect(),
        allow_methods: list(&told.methods),
        allow_headers: list(&told.allow_headers),
        expose_headers: list(&told.expose_headers),
        max_age: told.max_age.map(|age| age.as_secs().to_string()).unwrap_or_default(),
        allow_credentials: told.credentials.and_then(flag),
        filter_enabled: Some(RuntimeFractionalPercent {
            default_value: Some(fraction(Percent::ALL)),
            ..Default::default()
        }),
        forward_not_matching_preflights: told.forward_unmatched.and_then(flag),
        ..Default::default()
    }
}
