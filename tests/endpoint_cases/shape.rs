//! What a case may look like, and what comes of one.

use serde_json::Value;

/// What one run of a case comes to.
pub(crate) enum Answer {
    /// As expected.
    Equal,
    /// Otherwise: how.
    Differs(String),
    /// The case cannot be understood: why.
    Unknown(String),
}

/// Why a case cannot be understood.
pub(crate) type Shape<T> = Result<T, String>;

/// Turns a comparison, or the lack of one, into an answer.
pub(crate) fn answer(result: Shape<Result<(), String>>) -> Answer {
    match result {
        Ok(Ok(())) => Answer::Equal,
        Ok(Err(how)) => Answer::Differs(how),
        Err(why) => Answer::Unknown(why),
    }
}

/// The comparison of two values of any kind.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: &T, expected: &T) -> Result<(), String> {
    if ours == expected {
        return Ok(());
    }
    Err(format!("{what} {ours:?}, expected {expected:?}"))
}

/// The id of a case.
pub(crate) fn id(case: &Value) -> &str {
    case["id"].as_str().unwrap_or("(without id)")
}

/// Whether an object has no other keys than these: what is not known must not be passed over.
pub(crate) fn only(what: &str, value: &Value, keys: &[&str]) -> Shape<()> {
    let object = value.as_object().ok_or_else(|| format!("{what} is not an object"))?;
    match object.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(format!("field {key} of {what} is not known here")),
        None => Ok(()),
    }
}

/// A text; missing and null are empty.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> Shape<&'a str> {
    match &value[key] {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text),
        other => Err(format!("{key} is {other}, not a text")),
    }
}

/// Yes or no; missing and null are no.
pub(crate) fn truth(value: &Value, key: &str) -> Shape<bool> {
    match &value[key] {
        Value::Null => Ok(false),
        Value::Bool(truth) => Ok(*truth),
        Value::String(text) if text == "true" || text == "false" => Ok(text == "true"),
        other => Err(format!("field {key} is {other}, neither true nor false")),
    }
}

/// A list; missing and null are empty.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> Shape<&'a [Value]> {
    match &value[key] {
        Value::Null => Ok(&[]),
        Value::Array(list) => Ok(list),
        other => Err(format!("{key} is {other}, not a list")),
    }
}

/// A list that must be there.
pub(crate) fn given<'a>(value: &'a Value, key: &str) -> Shape<&'a [Value]> {
    value[key].as_array().map(Vec::as_slice).ok_or_else(|| format!("there is no list {key:?}"))
}

/// Texts of a list.
pub(crate) fn texts(value: &Value, key: &str) -> Shape<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| format!("{key} has {value}"));
    list(value, key)?.iter().map(text).collect()
}
