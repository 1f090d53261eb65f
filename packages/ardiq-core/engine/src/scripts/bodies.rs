//! Reads bodies: arguments that are stored separately. No script is needed for that.

use futures_util::stream::{StreamExt, TryStreamExt, iter};
use redis::Value;

use super::reply;
use crate::commands;
use crate::error::Result;
use crate::link::{LARGE, Link, Patience};

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
