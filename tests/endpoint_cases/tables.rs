//! Tables: one row in, one value out.

use serde_json::Value;
use tombolo::ingest::convert;

use super::flags::Flags;
use super::shape::{Answer, Shape, answer, given, only, same, text, texts};

/// R4.30.
pub(crate) fn traffic_distribution(case: &Value, _: &Flags) -> Answer {
    let compare = || -> Shape<Result<(), String>> {
        only("input", &case["input"], &["rows"])?;
        only("expect", &case["expect"], &["distribution"])?;
        let ours: Vec<_> = given(&case["input"], "rows")?.iter().map(distribution).collect::<Shape<_>>()?;
        Ok(same("distributions", &ours, &texts(&case["expect"], "distribution")?))
    };
    answer(compare())
}

fn distribution(row: &Value) -> Shape<String> {
    only("a row", row, &["spec", "service", "namespace"])?;
    let service = match &row["service"] {
        Value::Null => None,
        _ => Some(text(row, "service")?),
    };
    let result = convert::traffic_distribution(text(row, "spec")?, service, text(row, "namespace")?);
    Ok(format!("{result:?}"))
}
