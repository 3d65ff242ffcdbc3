//! Plain values: ids, services, endpoints, gateways, proxies. No I/O, no protobuf.
