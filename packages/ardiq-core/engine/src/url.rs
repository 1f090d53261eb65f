//! Redis URLs: what is accepted, and how they are shown without their secrets.

use redis::{Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

use crate::error::{Error, Result};

/// Schemes that the engine understands.
const SCHEMES: [&str; 7] = ["redis", "rediss", "valkey", "valkeys", "unix", "redis+unix", "valkey+unix"];

/// A server's address, ready to connect to.
#[derive(Debug, Clone)]
pub struct Address {
    /// The client that opens connections; speaks RESP3, since results arrive as pushes.
    pub client: Client,
    /// The address without user, password and query.
    pub shown: String,
}

/// Read a URL.
///
/// # Errors
/// [`Error::Invalid`], which names the fault and never the password.
pub fn parse(url: &str) -> Result<Address> {
    let invalid = |what: &str| {
        Error::Invalid(format!(
            "redis_url is not usable: {what}. Give for example redis://localhost:6379, rediss://user:password@host:6380/0 or unix:///run/redis.sock"
        ))
    };
    if url.trim().is_empty() {
        return Err(invalid("it is blank"));
    }
    if url.trim() != url || url.chars().any(char::is_control) {
        return Err(invalid("it has spaces or control characters around or in it"));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(invalid("it has no scheme"));
    };
    if !SCHEMES.contains(&scheme) {
        return Err(invalid(&format!("the scheme must be one of {}", SCHEMES.join(", "))));
    }
    if !scheme.ends_with("unix") {
        check_authority(rest).map_err(|what| invalid(&what))?;
    }
    // The library's own messages may quote the URL, so they are not passed on.
    let info = url.into_connection_info().map_err(|_| invalid("host, port, path or database number is malformed"))?;
    let shown = match info.addr() {
        ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
        ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port} (TLS)"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => scheme.to_owned(),
    };
    let settings: RedisConnectionInfo = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let client =
        Client::open(info.set_redis_settings(settings)).map_err(|_| invalid("the client library refuses it"))?;
    Ok(Address { client, shown })
}

/// The part between scheme and path: the library is lenient about ports and hosts, we are not.
fn check_authority(rest: &str) -> std::result::Result<(), String> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (host, port) = match place.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((host, after)) => (host, after.strip_prefix(':')),
            None => return Err("the IPv6 address has no closing bracket".into()),
        },
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("it names no host".into());
    }
    match port.map(str::parse::<u16>) {
        Some(Ok(0) | Err(_)) => Err("the port must be a number from 1 to 65535".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_urls_are_accepted_and_shown_without_secrets() {
        let cases = [
            ("redis://localhost:6379", "localhost:6379"),
            ("redis://user:hunter2@db.example:7000/3", "db.example:7000"),
            ("rediss://:hunter2@db.example:6380", "db.example:6380 (TLS)"),
            ("valkey://[::1]:6379", "::1:6379"),
            ("unix:///tmp/a.sock", "/tmp/a.sock"),
        ];
        for (url, shown) in cases {
            assert_eq!(parse(url).map(|address| address.shown).ok().as_deref(), Some(shown), "{url}");
        }
    }

    #[test]
    fn malformed_urls_are_refused_without_showing_the_password() {
        let cases = [
            "",
            "  ",
            "localhost",
            "http://hunter2@x",
            "redis://",
            "redis://h:0",
            "redis://h:hunter2",
            "redis://:hunter2@h:99999",
            "redis://h/hunter2x",
            " redis://h",
        ];
        for url in cases {
            let message = parse(url).err().map(|error| error.to_string());
            assert!(message.as_ref().is_some_and(|message| !message.contains("hunter2")), "{url}: {message:?}");
        }
    }
}
