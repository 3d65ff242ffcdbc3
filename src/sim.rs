//! Synthetic API servers, the echo application, load, and the lab.

mod accept;
pub mod apiserver;
pub mod app;
pub mod controllers;
pub mod lab;
pub mod load;
pub mod world;
