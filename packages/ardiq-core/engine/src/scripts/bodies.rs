//! Reads bodies and inputs: arguments that are stored separately. No script is needed for that.

use std::collections::BTreeMap;

use futures_util::stream::{StreamExt, TryStreamExt, iter};
use redis::Value;

use super::reply;
use crate::commands;
use crate::error::Result;
use crate::link::{LARGE, Link, Patience};
use crate::protocol::keys::{Keys, Nonce};
use crate::protocol::record::ResultRecord;

/// Bodies in flight at the same time. Received bodies are kept, so a broken connection loses at
/// most these.
pub const BODIES_IN_FLIGHT: usize = 16;

/// A body as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Its bytes.
    Read(Vec<u8>),
    /// The key is missing or has the wrong type.
    Missing,
    /// It exists, but cannot be read.
    Unreadable,
}

/// The bodies stored under these keys, in order.
pub async fn bodies(link: &Link, names: &[String], patience: Patience) -> Result<Vec<Body>> {
    in_turn(names.iter().map(|name| body(link, name, patience))).await
}

/// Carry out some reads of bodies, a limited number at the same time. One that cannot be read does
/// not prevent the others from being read.
pub async fn in_turn(reads: impl Iterator<Item = impl Future<Output = Result<Option<Vec<u8>>>>>) -> Result<Vec<Body>> {
    let reads: Vec<_> = reads
        .map(|read| async move {
            match read.await {
                Ok(body) => Ok(body.map_or(Body::Missing, Body::Read)),
                Err(error) if error.is_about_this_call() => Ok(Body::Unreadable),
                Err(error) => Err(error),
            }
        })
        .collect();
    iter(reads).buffered(BODIES_IN_FLIGHT).try_collect().await
}

/// The body stored under a key. `None` if the key is missing or has the wrong type.
pub async fn body(link: &Link, name: &str, patience: Patience) -> Result<Option<Vec<u8>>> {
    let patience = patience.for_transfer(0);
    let get = commands::get(name);
    let read = if link.is_transferring().await {
        // A smaller body must not wait behind a transfer.
        match link.command(&commands::length(name), patience).await {
            Ok(Value::Int(length)) if usize::try_from(length).is_ok_and(|length| length <= LARGE) => {
                link.command(&get, patience).await
            }
            Ok(_) => link.transfer(&get, patience).await,
            Err(error) => Err(error),
        }
    } else {
        link.transfer(&get, patience).await
    };
    match read {
        Ok(Value::Nil) => Ok(None),
        Ok(body) => reply::bytes(body).map(Some),
        Err(error) if error.is_of_wrong_type() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The outputs of other jobs that a job gets as arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// How the arguments are made of them: a letter that only hosts know.
    pub mode: char,
    /// The outputs by position: the value of a job that has succeeded, or a whole result record.
    pub values: Vec<Input>,
}

/// One output of another job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The encoded value.
    Value(Vec<u8>),
    /// The result.
    Record(Box<ResultRecord>),
}

/// The mode of a fallback: it has no inputs, unless it replaces a job that had some.
const NOTHING: char = 'n';

/// Fields of the inputs of a job that one command reads.
const INPUTS_PAGE: usize = 500;

/// The inputs of a job. `None` if some of them are missing.
pub async fn inputs(link: &Link, keys: &Keys, id: &str, nonce: Nonce, patience: Patience) -> Result<Option<Inputs>> {
    let (key, mut cursor, mut found) = (keys.inputs(id, nonce), b"0".to_vec(), BTreeMap::new());
    let patience = patience.for_transfer(0);
    let (mut mode, mut expected) = (None, None);
    loop {
        let page = match link.transfer(&commands::scan_hash(&key, &cursor, INPUTS_PAGE), patience).await {
            Err(error) if error.is_of_wrong_type() => return Ok(None),
            page => page?,
        };
        let [next, items] = reply::head(&mut reply::array(page)?.into_iter())?;
        let mut items = reply::array(items)?.into_iter();
        while let (Some(field), Some(value)) = (items.next(), items.next()) {
            let (field, value) = (reply::lossy(field)?, reply::bytes(value)?);
            if field == "mode" {
                mode = value.first().copied().map(char::from);
            } else if field == "expected" {
                expected = String::from_utf8_lossy(&value).parse::<usize>().ok();
            } else if let Ok(position) = field.parse::<u32>() {
                found.insert(position, value);
            }
        }
        cursor = reply::bytes(next)?;
        if cursor == b"0" {
            break;
        }
    }
    let Some(mode) = mode else { return Ok(None) };
    if expected.is_some_and(|expected| expected != found.len()) && mode != NOTHING {
        return Ok(None);
    }
    let mut values = Vec::with_capacity(found.len());
    for stored in found.into_values() {
        match input(link, keys, stored, patience).await? {
            Some(value) => values.push(value),
            None => return Ok(None),
        }
    }
    Ok(Some(Inputs { mode, values }))
}

/// An output, which may have its own key because several jobs need it.
async fn input(link: &Link, keys: &Keys, mut stored: Vec<u8>, patience: Patience) -> Result<Option<Input>> {
    let kind = if stored.is_empty() { return Ok(None) } else { stored.remove(0) };
    if kind != b's' {
        return Ok(kind_of(kind, stored));
    }
    let Some((&kind, owner)) = stored.split_first() else { return Ok(None) };
    let key = keys.output(&String::from_utf8_lossy(owner));
    let field = char::from(kind).to_string();
    match link.transfer(&commands::field(&key, &field), patience).await {
        Ok(Value::Nil) => Ok(None),
        Ok(value) => Ok(kind_of(kind, reply::bytes(value)?)),
        Err(error) if error.is_of_wrong_type() => Ok(None),
        Err(error) => Err(error),
    }
}

fn kind_of(kind: u8, bytes: Vec<u8>) -> Option<Input> {
    match kind {
        b'v' => Some(Input::Value(bytes)),
        b'r' => ResultRecord::decode(&bytes).ok().map(|record| Input::Record(Box::new(record))),
        _ => None,
    }
}
