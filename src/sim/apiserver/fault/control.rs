//! Faults at run time, over HTTP: `kubectl get|create|replace|delete --raw /tombolo/faults`. No fault but `refuse`
//! strikes these requests.

use http::{Method, Response, StatusCode};
use serde_json::json;

use super::{Board, Fault};
use crate::sim::apiserver::body::{self, Body};
use crate::sim::apiserver::error::ApiError;
use crate::sim::apiserver::payload::{self, Incoming};

/// GET lists the faults, POST adds those of its body (one per line), PUT replaces all by them, DELETE takes all
/// away. Every answer is the list.
///
/// # Errors
/// Another method, or a line that is no fault: nothing is changed then.
pub(in crate::sim::apiserver) async fn answer(
    board: &Board,
    method: &Method,
    body: impl Incoming,
) -> Result<Response<Body>, ApiError> {
    match *method {
        Method::GET => {}
        Method::POST => board.add(faults(body).await?),
        Method::PUT => {
            let faults = faults(body).await?;
            board.clear();
            board.add(faults);
        }
        Method::DELETE => board.clear(),
        _ => return Err(ApiError::MethodNotAllowed),
    }
    Ok(body::value(StatusCode::OK, &json!({"faults": board.texts()})))
}

async fn faults(body: impl Incoming) -> Result<Vec<Fault>, ApiError> {
    let bytes = payload::bytes(body).await?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| ApiError::BadRequest("faults are lines of text".to_owned()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parsed: Result<Vec<Fault>, _> = lines.map(str::parse).collect();
    parsed.map_err(|error| ApiError::BadRequest(error.to_string()))
}
