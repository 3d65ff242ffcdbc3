//! Policy objects → slim, checked values.

mod virtual_service;

pub use virtual_service::virtual_service;
