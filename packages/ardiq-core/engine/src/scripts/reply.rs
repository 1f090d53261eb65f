//! Decodes the replies of scripts.

use redis::Value;

use crate::error::{Error, Result};
use crate::printable::text_of;

fn unexpected(what: &str, value: &Value) -> Error {
    Error::Protocol(format!("a script answered {value:?} where {what} was expected"))
}

pub fn int(value: &Value) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse::<f64>().ok())
            // Redis prints scores as floating-point numbers. Ours are all integers below 2^53.
            .map(|number| number as i64)
            .ok_or_else(|| unexpected("a number", value)),
        _ => Err(unexpected("a number", value)),
    }
}

pub fn array(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(unexpected("an array", &value)),
    }
}

pub fn bytes(value: Value) -> Result<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        _ => Err(unexpected("bytes", &value)),
    }
}

pub fn text(value: Value) -> Result<String> {
    let bytes = bytes(value)?;
    String::from_utf8(bytes).map_err(|error| Error::Protocol(format!("text expected: {error}")))
}

/// Text that other software may have written. Bytes that are not UTF-8 become escapes. A number
/// becomes text.
pub fn lossy(value: Value) -> Result<String> {
    if let Value::Int(number) = value {
        return Ok(number.to_string());
    }
    bytes(value).map(text_of)
}

/// Positions in the list that was sent.
pub fn positions(value: Value) -> Result<Vec<usize>> {
    array(value)?
        .iter()
        .map(|item| usize::try_from(int(item)?).map_err(|_| Error::Protocol("a negative position".into())))
        .collect()
}

/// Take exactly `N` items. The rest stays in the iterator.
pub fn head<const N: usize>(items: &mut std::vec::IntoIter<Value>) -> Result<[Value; N]> {
    let taken: Vec<Value> = items.by_ref().take(N).collect();
    taken
        .try_into()
        .map_err(|taken: Vec<Value>| Error::Protocol(format!("a script answered {} values, {N} expected", taken.len())))
}
