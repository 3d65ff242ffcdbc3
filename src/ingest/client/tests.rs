//! Connections as an API server sees them.

mod connections;
mod credentials;
mod endings;
mod server;
mod targets;

use std::time::Duration;

use futures::StreamExt as _;

use super::*;

const JSON: &str = "application/json";

/// Reads a body to its end.
async fn read(mut answer: Answer) -> Result<Vec<u8>, TransportError> {
    let mut all = Vec::new();
    while let Some(chunk) = answer.body.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

async fn get(server: &ApiServer, path: &str) -> Result<(u16, String), TransportError> {
    let answer = server.get(path.to_owned(), JSON).await?;
    let status = answer.status.as_u16();
    Ok((status, String::from_utf8(read(answer).await?).unwrap()))
}

fn client(config: &kube::Config) -> ApiServer {
    ApiServer::new(config, AddressPolicy::Any).unwrap()
}

/// With other deadlines than the usual ones.
fn patient(config: &kube::Config, change: impl FnOnce(&mut Patience)) -> ApiServer {
    let mut patience = Patience::default();
    change(&mut patience);
    ApiServer::with(config, GuardedResolver::new(AddressPolicy::Any), patience).unwrap()
}
