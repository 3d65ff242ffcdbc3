//! Policy objects → slim, checked values.

mod authorization;
mod gateway;
mod virtual_service;

pub use authorization::authorization_policy;
pub use gateway::gateway;
pub use virtual_service::virtual_service;
