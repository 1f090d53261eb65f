//! Classifies errors from the server: whether they concern one call or every call, and what the
//! operator can do.

use std::fmt;

use redis::{Arg, Cmd, ErrorKind, RedisError, ServerErrorKind};

use crate::protocol::keys::PATTERN;

/// An error reply of the server, kept so that callers can act on its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The first word of the reply, such as `NOPERM`. Empty if the engine itself refuses.
    pub code: String,
    /// The rest of the reply, without control characters.
    pub text: String,
}

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The call: it is too large, or its keys have the wrong type. Repeating it returns the same
    /// error, while other calls may succeed.
    Call,
    /// The server, a proxy, or our permissions: any call could receive this error, and the same
    /// call may succeed later.
    Server,
}

/// Codes that depend only on the call and its keys.
/// `BROKEN` is our own code: every connection that carried the call was cut, while other calls
/// worked. `CUT`, also our own, says that others were cut too, so it is not about the call.
const ABOUT_THE_CALL: [&str; 6] = ["WRONGTYPE", "EXECABORT", "INVALIDOBJ", "BUSYKEY", "NOGROUP", "BROKEN"];

/// Codes that are about the server, even if a script received them.
const ABOUT_THE_SERVER: [&str; 11] = [
    "NOPERM",
    "NOAUTH",
    "WRONGPASS",
    "OOM",
    "READONLY",
    "MISCONF",
    "NOREPLICAS",
    "MOVED",
    "ASK",
    "CROSSSLOT",
    "DENIED",
];

/// Parts of replies with the code ERR that are about the call.
const CALL_PHRASES: [&str; 8] = [
    "exceeds maximum allowed size",
    "wrong number of arguments",
    "syntax error",
    "not an integer",
    "not a valid float",
    "out of range",
    "Protocol error",
    "Invalid stream ID",
];

/// How servers say that they do not know a command. A script learns it in its own ways.
const UNKNOWN_COMMAND: [&str; 4] =
    ["unknown command", "Unknown command", "command called from script", "passed to redis.acl_check_cmd"];

impl Refusal {
    /// Extract the server's reply from an error of the client library.
    pub fn new(error: &RedisError) -> Self {
        let code = match error.kind() {
            // The library replaces the code by its own text here.
            ErrorKind::AuthenticationFailed => "WRONGPASS",
            ErrorKind::RESP3NotSupported => "ERR",
            _ => error.code().unwrap_or_default(),
        };
        let text = match (error.kind(), error.detail()) {
            (ErrorKind::RESP3NotSupported, _) => "unknown command 'HELLO'".to_owned(),
            (_, Some(detail)) => detail.to_owned(),
            (ErrorKind::Server(_) | ErrorKind::Extension, None) => String::new(),
            (_, None) => error.to_string(),
        };
        // Valkey reports a permission that a script lacks as a general error.
        let code = if code == "ERR" && text.contains("ACL failure in script") { "NOPERM" } else { code };
        Self { code: printable(code), text: printable(without_arguments(&text)) }
    }

    /// A refusal by the engine itself.
    pub fn ours(text: impl Into<String>) -> Self {
        Self { code: String::new(), text: text.into() }
    }

    /// Whether it is about this call, or any call could have received it.
    pub fn subject(&self) -> Subject {
        let is_in_script = self.text.contains(", on @user_script") || self.text.contains("user_script:");
        let has = |phrase: &&str| self.text.contains(*phrase);
        if ABOUT_THE_CALL.contains(&self.code.as_str()) {
            Subject::Call
        } else if ABOUT_THE_SERVER.contains(&self.code.as_str()) || self.advice().is_some() {
            Subject::Server
        } else if is_in_script || (self.code == "ERR" && CALL_PHRASES.iter().any(has)) {
            Subject::Call
        } else {
            // The error may come from a proxy and be temporary. Repeating the call costs less than
            // giving it up wrongly.
            Subject::Server
        }
    }

    /// Advice for the operator, as a sentence.
    pub fn advice(&self) -> Option<String> {
        let has = |phrase: &str| self.text.contains(phrase);
        let sentence = match self.code.as_str() {
            "NOAUTH" => "Give a password in the URL: redis://user:password@host:6379".into(),
            "ERR" if has("without any password configured") => {
                "The server has no password: leave it out of the URL, or set one with requirepass or an ACL user".into()
            }
            "WRONGPASS" => {
                "Check user and password in the URL, and that the user is enabled. Characters such as @ : / # must be percent-encoded"
                    .into()
            }
            "NOPERM" => format!("Grant the permission: ACL SETUSER <user> {}", self.missing_rule()),
            "ERR" if has("user executing the script can't") => {
                format!("Grant the permission: ACL SETUSER <user> {}", self.missing_rule())
            }
            "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" => {
                "The server is part of a Redis Cluster, which ArdiQ does not support: give the URL of a single server".into()
            }
            "READONLY" => "The server is a read-only replica: give the URL of its primary".into(),
            "NOPROTO" | "ERR" if has("HELLO") || has("protocol version") => {
                "ArdiQ needs RESP3 (HELLO 3): Redis 7.0 or Valkey 7.2 or later, also behind a proxy".into()
            }
            "ERR" if UNKNOWN_COMMAND.iter().any(|phrase| has(phrase)) => {
                "ArdiQ needs Redis 7.0 or Valkey 7.2 or later, with scripts and streams, and no command renamed or \
                 disabled (see rename-command in the server's configuration) or blocked by a proxy"
                    .into()
            }
            "ERR" if has("DB index") || has("invalid DB index") || has("SELECT is not allowed") => {
                "Choose a database that the server has: its setting `databases` says how many (16 by default)".into()
            }
            "OOM" => "The server's memory is full: raise maxmemory, or remove data".into(),
            "MISCONF" => "The server cannot save its data to disk: see its log".into(),
            "NOREPLICAS" => "Too few replicas are connected: see min-replicas-to-write".into(),
            "ERR" if has("max number of clients") => "Raise the server's setting maxclients, or use fewer processes".into(),
            "BROKEN" => {
                "Raise the limit that it exceeds: client-output-buffer-limit normal or proto-max-bulk-len of the server, or a limit of a proxy in front of it"
                    .into()
            }
            "DENIED" => "The server runs in protected mode: set a password, or bind it to an address".into(),
            _ => return None,
        };
        Some(sentence)
    }

    /// The ACL rule that grants the missing permission, as far as the server says which one it is.
    fn missing_rule(&self) -> String {
        let text = self.text.to_ascii_lowercase();
        let command = text.split_once("run the '").and_then(|(_, rest)| rest.split_once('\''));
        if let Some((command, _)) = command {
            return format!("+{command}");
        }
        if text.contains("channel") {
            return format!("&{PATTERN}");
        }
        if text.contains("key") {
            return format!("~{PATTERN}");
        }
        format!("+@all -@admin ~{PATTERN} &{PATTERN}")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gap = if self.code.is_empty() || self.text.is_empty() { "" } else { " " };
        match self.advice() {
            Some(advice) => write!(out, "{}{gap}{}. {advice}", self.code, self.text.trim_end_matches('.')),
            None => write!(out, "{}{gap}{}", self.code, self.text),
        }
    }
}

/// Describe any error, with the server's code and message if it has them.
pub fn explain(error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::Server(_)
        | ErrorKind::Extension
        | ErrorKind::AuthenticationFailed
        | ErrorKind::RESP3NotSupported => Refusal::new(error).to_string(),
        // The library's own words are about bytes.
        ErrorKind::Parse if error.to_string().contains("end of input") => {
            "the connection was closed in the middle of a reply".to_owned()
        }
        _ => printable(&error.to_string()),
    }
}

/// Whether the server does not support the command, or its operator has disabled it.
pub fn is_denied(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) || Refusal::new(error).text.contains("nknown command")
}

/// Whether the library could not read a reply because it is not text. Only the error for an unknown
/// command is that: it quotes the first bytes of arguments.
pub fn is_not_text(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Parse && error.to_string().contains("invalid utf-8")
}

/// The refusal of a command whose reply is not text.
pub fn not_text(cmd: &Cmd) -> Refusal {
    let name = match cmd.args_iter().next() {
        Some(Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    };
    Refusal { code: "ERR".into(), text: format!("unknown command '{}'", printable(&name)) }
}

/// Leave out the arguments that a reply quotes: they can be a password, or data of the user.
fn without_arguments(text: &str) -> &str {
    let lower = text.to_ascii_lowercase();
    let end = if lower.contains("unknown command") {
        // The command's name comes before the first comma.
        text.find(',')
    } else {
        lower.find("hello option").map(|start| start + "hello option".len())
    };
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

/// Replace control characters. The text comes from a server and may contain data from a key.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> Refusal {
        let reply = format!("-{line}\r\n");
        let value = redis::parse_redis_value(reply.as_bytes()).and_then(|value| value.extract_error());
        Refusal::new(&value.err().unwrap_or_else(|| unreachable!("an error reply parses to an error")))
    }

    #[test]
    fn a_refusal_is_about_its_call_or_about_the_server() {
        let script = "script: 5f0c, on @user_script:12.";
        let about_the_call = [
            "WRONGTYPE Operation against a key holding the wrong kind of value".to_owned(),
            format!("WRONGTYPE Operation against a key holding the wrong kind of value {script}"),
            format!("ERR user_script:3: attempt to index a nil value {script}"),
            format!("ERR value is not an integer or out of range {script}"),
            "ERR string exceeds maximum allowed size (proto-max-bulk-len)".to_owned(),
            "ERR Protocol error: invalid bulk length".to_owned(),
            "ERR wrong number of arguments for 'set' command".to_owned(),
        ];
        for line in &about_the_call {
            assert_eq!(refusal(line).subject(), Subject::Call, "{line}");
        }
        let about_the_server = [
            "NOPERM this user has no permissions to run the 'evalsha' command".to_owned(),
            format!("NOPERM ACL failure in script: No permissions to access a key {script}"),
            format!("ERR The user executing the script can't run this command or subcommand {script}"),
            "NOAUTH Authentication required.".to_owned(),
            "WRONGPASS invalid username-password pair or user is disabled.".to_owned(),
            format!("OOM command not allowed when used memory > 'maxmemory'. {script}"),
            "MOVED 3999 127.0.0.1:6381".to_owned(),
            "ERR unknown command 'EVALSHA', with args beginning with: ".to_owned(),
            "ERR DB index is out of range".to_owned(),
            "ERR upstream failure".to_owned(),
            "PROXYERR the backend is away".to_owned(),
        ];
        for line in &about_the_server {
            assert_eq!(refusal(line).subject(), Subject::Server, "{line}");
        }
    }

    #[test]
    fn a_refusal_contains_advice() {
        let cases = [
            ("NOPERM this user has no permissions to run the 'evalsha' command", "ACL SETUSER <user> +evalsha"),
            (
                "NOPERM User w has no permissions to run the 'client|unblock' command",
                "ACL SETUSER <user> +client|unblock",
            ),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                "ACL SETUSER <user> ~ardiq:*",
            ),
            ("NOPERM No permissions to access a channel", "ACL SETUSER <user> &ardiq:*"),
            ("ERR The user executing the script can't publish to the channel mentioned", "ACL SETUSER <user> &ardiq:*"),
            ("NOAUTH Authentication required.", "redis://user:password@host"),
            ("WRONGPASS invalid username-password pair or user is disabled.", "percent-encoded"),
            ("MOVED 3999 127.0.0.1:6381", "Redis Cluster"),
            ("CLUSTERDOWN Hash slot not served", "Redis Cluster"),
            ("READONLY You can't write against a read only replica.", "URL of its primary"),
            ("ERR unknown command 'XREADGROUP', with args beginning with: ", "Redis 7.0"),
            ("ERR unknown command 'HELLO', with args beginning with: '3'", "RESP3"),
            ("NOPROTO unsupported protocol version", "RESP3"),
            ("ERR DB index is out of range", "`databases`"),
            ("OOM command not allowed when used memory > 'maxmemory'.", "maxmemory"),
            ("ERR max number of clients reached", "maxclients"),
        ];
        for (line, advice) in cases {
            let refusal = refusal(line);
            let text = refusal.to_string();
            assert!(text.contains(advice) && text.starts_with(&refusal.code), "{line}: {text}");
        }
    }

    #[test]
    fn arguments_that_a_server_quotes_are_left_out() {
        let cases = [
            ("ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'user' 'secret' ", "RESP3"),
            ("ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `user`, `secret`, ", "RESP3"),
            ("ERR unknown command 'SET', with args beginning with: 'ardiq:{q}:body:1' 'secret' ", "'SET'"),
            ("ERR Unknown Command 'set', With Args Beginning With: 'secret'", "'set'"),
            ("ERR unknown command 'HELLO', args: 3 AUTH user secret", "'HELLO'"),
            ("ERR Syntax error in HELLO option 'secret'", "HELLO option"),
        ];
        for (line, kept) in cases {
            let refusal = refusal(line);
            let text = refusal.to_string();
            assert!(text.contains(kept) && !text.contains("secret") && !text.contains("user'"), "{line}: {text}");
            assert_eq!(refusal.subject(), Subject::Server, "{line}");
        }
    }

    #[test]
    fn a_command_that_a_script_lacks_is_disabled_on_the_server() {
        let script = "script: 5f0c, on @user_script:12.";
        for line in [
            format!("ERR Invalid command passed to redis.acl_check_cmd() {script}"),
            format!("ERR Unknown Redis command called from script {script}"),
            format!("ERR unknown command 'xdel' {script}"),
        ] {
            let refusal = refusal(&line);
            assert!(refusal.to_string().contains("rename-command"), "{line}: {refusal}");
            assert_eq!(refusal.subject(), Subject::Server, "{line}");
        }
    }

    #[test]
    fn control_characters_from_the_server_are_replaced() {
        assert!(!refusal("ERR \u{1b}[31mred").to_string().contains('\u{1b}'));
    }
}
