//! Parses Redis URLs, and shows them without their secrets.

use std::path::PathBuf;
use std::time::Duration;

use redis::{Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use url::Url;

use crate::error::{Error, Result};
use crate::tls::Trust;

/// The supported schemes.
const SCHEMES: [&str; 7] = ["redis", "rediss", "valkey", "valkeys", "unix", "redis+unix", "valkey+unix"];

/// The supported parameters. Their names are those of redis-py.
const PARAMETERS: [&str; 12] = [
    "db",
    "protocol",
    "client_name",
    "username",
    "password",
    "socket_timeout",
    "socket_connect_timeout",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
];

/// The default name of connections on the server.
const NAME: &str = "ardiq";

/// The address of a server, and how to connect to it.
#[derive(Debug, Clone)]
pub struct Address {
    /// Host, user and database. It uses RESP3, because results arrive as push messages.
    pub client: Client,
    /// The address without user, password and parameters.
    pub shown: String,
    /// The name of connections on the server.
    pub name: String,
    /// The TLS certificates.
    pub trust: Trust,
    /// A connection on which a reply is awaited is considered broken after this much silence, if
    /// the URL sets a limit.
    pub silence: Option<Duration>,
    /// The time limit of each step of connecting, if the URL sets one.
    pub connect_limit: Option<Duration>,
}

/// Parse a URL.
///
/// # Errors
/// [`Error::Invalid`]. It names the fault, but never contains a password or the value of a
/// parameter.
pub fn parse(url: &str) -> Result<Address> {
    read(url).map_err(|what| {
        Error::Invalid(format!(
            "redis_url is not usable: {what}. Use, for example, redis://localhost:6379, rediss://user:password@host:6380/0 or unix:///run/redis.sock"
        ))
    })
}

type Read<T> = std::result::Result<T, String>;

fn read(url: &str) -> Read<Address> {
    if url.trim().is_empty() {
        return Err("it is blank".into());
    }
    if url.trim() != url || url.chars().any(char::is_control) {
        return Err("it begins or ends with spaces, or contains control characters".into());
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err("it has no scheme".into());
    };
    if !SCHEMES.contains(&scheme) {
        return Err(format!("the scheme must be one of {}", SCHEMES.join(", ")));
    }
    if rest.contains('#') {
        return Err(
            "it has a fragment, the part after #, which has no meaning in these URLs; write # in a password as %23"
                .into(),
        );
    }
    if !scheme.ends_with("unix") {
        check_authority(rest)?;
    }
    // The library's messages may quote the URL, so they are not passed on.
    let malformed = || "host, port, path or database number is malformed".to_owned();
    let mut bare = Url::parse(url).map_err(|_| malformed())?;
    let options = Options::read(&bare, scheme == "rediss" || scheme == "valkeys")?;
    bare.set_query(None);
    let has_path = !scheme.ends_with("unix") && !bare.path().trim_matches('/').is_empty();
    let info = bare.into_connection_info().map_err(|_| malformed())?;
    let shown = match info.addr() {
        ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
        ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port} (TLS)"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => scheme.to_owned(),
    };
    let mut settings: RedisConnectionInfo = info.redis_settings().clone();
    if let Some(db) = options.db {
        if (settings.db() != 0 || has_path) && settings.db() != db {
            return Err("the path and the parameter db name two databases".into());
        }
        settings = settings.set_db(db);
    }
    if settings.db() < 0 {
        return Err("the database number is negative".into());
    }
    if let Some(username) = options.username.as_deref().filter(|name| !name.is_empty()) {
        settings = settings.set_username(username);
    }
    if let Some(password) = &options.password {
        settings = settings.set_password(password);
    }
    if settings.username().is_some() && settings.password().is_none() {
        // Without a password, the library would leave out the user as well, and connect as another.
        settings = settings.set_password("");
    }
    let settings = settings.set_protocol(ProtocolVersion::RESP3).set_lib_name(NAME, crate::VERSION);
    let client =
        Client::open(info.set_redis_settings(settings)).map_err(|_| "the client library refuses it".to_owned())?;
    Ok(Address {
        client,
        shown,
        name: options.name.unwrap_or_else(|| NAME.to_owned()),
        trust: options.trust,
        silence: options.silence,
        connect_limit: options.connect_limit,
    })
}

/// The parameters of a URL.
#[derive(Default)]
struct Options {
    db: Option<i64>,
    name: Option<String>,
    username: Option<String>,
    password: Option<String>,
    silence: Option<Duration>,
    connect_limit: Option<Duration>,
    trust: Trust,
}

impl Options {
    fn read(url: &Url, has_tls: bool) -> Read<Self> {
        let mut options = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in url.query_pairs() {
            if seen.iter().any(|earlier| *earlier == name) {
                return Err(format!("the parameter {name} appears twice"));
            }
            if name.starts_with("ssl_") && PARAMETERS.contains(&&*name) && !has_tls {
                return Err(format!("the parameter {name} needs rediss:// or valkeys://"));
            }
            options.set(&name, value.into_owned())?;
            seen.push(name.into_owned());
        }
        if options.trust.certificate.is_some() != options.trust.key.is_some() {
            return Err("ssl_certfile and ssl_keyfile go together: set both or neither".into());
        }
        if options.trust != Trust::default() {
            // A file that cannot be used is a mistake in the URL. It must not look like an outage.
            options.trust.config()?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: String) -> Read<()> {
        let file = |value: String| {
            if value.is_empty() {
                Err(format!("the parameter {name} must name a file"))
            } else {
                Ok(Some(PathBuf::from(value)))
            }
        };
        match name {
            "db" => {
                let number = value
                    .parse::<u32>()
                    .map_err(|_| "the parameter db must be a whole number of at least 0".to_owned())?;
                self.db = Some(number.into());
            }
            "protocol" if value == "3" => {}
            "protocol" => {
                return Err(
                    "the parameter protocol must be 3: ArdiQ gets results as RESP3 pushes, which RESP2 lacks".into()
                );
            }
            "client_name" => {
                if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err("the parameter client_name must be ASCII without spaces".into());
                }
                self.name = Some(value);
            }
            "username" | "user" => self.username = Some(value),
            "password" | "pass" => self.password = Some(value),
            "socket_timeout" => self.silence = Some(seconds(name, &value)?),
            "socket_connect_timeout" => self.connect_limit = Some(seconds(name, &value)?),
            "ssl_ca_certs" => self.trust.authorities = file(value)?,
            "ssl_certfile" => self.trust.certificate = file(value)?,
            "ssl_keyfile" => self.trust.key = file(value)?,
            "ssl_cert_reqs" if value == "required" => {}
            "ssl_cert_reqs" => {
                return Err(
                    "the parameter ssl_cert_reqs must be required: name your own authority with ssl_ca_certs".into()
                );
            }
            "ssl_check_hostname" if ["true", "True", "1", "yes"].contains(&value.as_str()) => {}
            "ssl_check_hostname" => return Err("the parameter ssl_check_hostname must be true".into()),
            _ => {
                let name: String = name.chars().filter(|letter| !letter.is_control()).take(40).collect();
                return Err(format!(
                    "the parameter {name} is unknown; the supported ones are {}",
                    PARAMETERS.join(", ")
                ));
            }
        }
        Ok(())
    }
}

fn seconds(name: &str, value: &str) -> Read<Duration> {
    match value.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("the parameter {name} must be a number of seconds greater than 0 and at most 86400")),
    }
}

/// Check the part between scheme and path more strictly than the library, which ignores mistakes in
/// hosts and ports.
fn check_authority(rest: &str) -> std::result::Result<(), String> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, after)| after);
    let (host, port) = match host_port.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((host, after)) => (host, after.strip_prefix(':')),
            None => return Err("the IPv6 address has no closing bracket".into()),
        },
        None => host_port.split_once(':').map_or((host_port, None), |(host, port)| (host, Some(port))),
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

    #[test]
    fn parameters_are_honored() {
        let of = |url: &str| parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        let db = |url: &str| of(url).client.get_connection_info().redis_settings().db();
        assert_eq!(db("redis://h?db=5"), 5);
        assert_eq!(db("redis://h/5?db=5"), 5);
        assert_eq!(db("unix:///s?db=2&protocol=3"), 2);
        let named = of("redis://h?client_name=shop&socket_timeout=2.5&socket_connect_timeout=1");
        let limits = [named.silence, named.connect_limit].map(|limit| limit.map(|limit| limit.as_millis()));
        assert_eq!((named.name.as_str(), limits), ("shop", [Some(2500), Some(1000)]));
        assert_eq!((of("redis://h").name.as_str(), of("redis://h").silence), (NAME, None));
        let user = of("unix:///s?username=u&password=p%40ss");
        let settings = user.client.get_connection_info().redis_settings().clone();
        assert_eq!((settings.username(), settings.password()), (Some("u"), Some("p@ss")));
    }

    #[test]
    fn a_user_without_a_password_is_still_that_user() {
        let urls = ["redis://u@h", "redis://u:@h", "rediss://u@h/2", "redis://h?username=u", "unix:///s?user=u"];
        for url in urls {
            let address = parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            let settings = address.client.get_connection_info().redis_settings().clone();
            assert_eq!((settings.username(), settings.password()), (Some("u"), Some("")), "{url}");
        }
        for url in ["redis://h", "redis://:p@h", "redis://h?username=&password=p"] {
            let address = parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            let settings = address.client.get_connection_info().redis_settings().clone();
            assert_eq!(settings.username(), None, "{url}");
        }
    }

    #[test]
    fn unsupported_parameters_are_refused_by_name_and_without_their_value() {
        let cases = [
            ("redis://h?db=hunter2", "db"),
            ("redis://h?db=-1", "db"),
            ("redis://h/1?db=2", "db"),
            ("redis://h/0?db=2", "db"),
            ("redis://h?db=1&db=1", "db"),
            ("redis://h?protocol=2", "protocol"),
            ("redis://h?client_name=hunter2%20x", "client_name"),
            ("redis://h?socket_timeout=hunter2", "socket_timeout"),
            ("redis://h?socket_connect_timeout=0", "socket_connect_timeout"),
            ("redis://h?decode_responses=hunter2", "decode_responses"),
            ("redis://h?DB=hunter2", "DB"),
            ("redis://h?ssl_ca_certs=hunter2", "ssl_ca_certs"),
            ("rediss://h?ssl_ca_certs=/hunter2", "ssl_ca_certs"),
            ("rediss://h?ssl_certfile=/hunter2", "ssl_keyfile"),
            ("rediss://h?ssl_cert_reqs=none", "ssl_cert_reqs"),
            ("rediss://h?ssl_check_hostname=false", "ssl_check_hostname"),
            ("redis://h#hunter2", "fragment"),
            ("rediss://h#insecure", "fragment"),
            ("redis://:pass#hunter2@h", "%23"),
        ];
        for (url, named) in cases {
            let Err(Error::Invalid(message)) = parse(url) else { panic!("{url} is accepted") };
            assert!(message.contains(named) && !message.contains("hunter2"), "{url}: {message}");
        }
    }
}
