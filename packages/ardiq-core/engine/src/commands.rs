//! The plain Redis commands. Each is built here and nowhere else. Everything else goes through
//! [`crate::scripts`].

use std::time::Duration;

use redis::{Arg, Cmd};

use crate::protocol::keys::Keys;

/// Check whether the server answers.
pub fn ping() -> Cmd {
    redis::cmd("PING")
}

/// The server's time, in seconds and microseconds.
pub fn time() -> Cmd {
    redis::cmd("TIME")
}

/// The server's description of itself.
pub fn info() -> Cmd {
    redis::cmd("INFO")
}

/// All members of a set.
pub fn members(key: &str) -> Cmd {
    with_key("SMEMBERS", key)
}

/// Add members to a set.
pub fn add_members(key: &str, members: &[String]) -> Cmd {
    let mut cmd = with_key("SADD", key);
    cmd.arg(members);
    cmd
}

/// The value of a string.
pub fn get(key: &str) -> Cmd {
    with_key("GET", key)
}

/// One field of a hash.
pub fn field(key: &str, field: &str) -> Cmd {
    let mut cmd = with_key("HGET", key);
    cmd.arg(field);
    cmd
}

/// Some fields of a hash.
pub fn fields(key: &str, fields: &[&str]) -> Cmd {
    let mut cmd = with_key("HMGET", key);
    cmd.arg(fields);
    cmd
}

/// The length of one field of a hash in bytes.
pub fn field_length(key: &str, field: &str) -> Cmd {
    let mut cmd = with_key("HSTRLEN", key);
    cmd.arg(field);
    cmd
}

/// The first bytes of a string.
pub fn get_start(key: &str, bytes: usize) -> Cmd {
    let mut cmd = with_key("GETRANGE", key);
    cmd.arg(0).arg(bytes - 1);
    cmd
}

/// The length of a string in bytes.
pub fn length(key: &str) -> Cmd {
    with_key("STRLEN", key)
}

/// One entry of a stream.
pub fn entry(stream: &str, entry: &str) -> Cmd {
    let mut cmd = with_key("XRANGE", stream);
    cmd.arg(entry).arg(entry);
    cmd
}

/// Store a body for `ttl_ms`, unless an earlier try has stored it.
pub fn put_body(key: &str, body: &[u8], ttl_ms: usize) -> Cmd {
    let mut cmd = Cmd::with_capacity(6, body.len() + 256);
    cmd.arg("SET").arg(key).arg(body).arg("NX").arg("PX").arg(ttl_ms);
    cmd
}

/// A page of a hash.
pub fn scan_hash(key: &str, cursor: &[u8], count: usize) -> Cmd {
    let mut cmd = with_key("HSCAN", key);
    cmd.arg(cursor).arg("COUNT").arg(count);
    cmd
}

/// Remove a key.
pub fn remove(key: &str) -> Cmd {
    with_key("UNLINK", key)
}

/// Subscribe to a channel.
pub fn subscribe(channel: &str) -> Cmd {
    with_key("SUBSCRIBE", channel)
}

/// Send a message to all subscribers of a channel.
pub fn publish(channel: &str, message: &[u8]) -> Cmd {
    let mut cmd = with_key("PUBLISH", channel);
    cmd.arg(message);
    cmd
}

/// Name the connection, for people who look at the server.
pub fn set_client_name(name: &str) -> Cmd {
    let mut cmd = redis::cmd("CLIENT");
    cmd.arg("SETNAME").arg(name);
    cmd
}

/// The id of the connection.
pub fn client_id() -> Cmd {
    let mut cmd = redis::cmd("CLIENT");
    cmd.arg("ID");
    cmd
}

/// End the blocking command of another connection, as if its time were up.
pub fn unblock(client: i64) -> Cmd {
    let mut cmd = redis::cmd("CLIENT");
    cmd.arg("UNBLOCK").arg(client);
    cmd
}

/// Load a script into the server's cache.
pub fn load_script(text: &str) -> Cmd {
    let mut cmd = redis::cmd("SCRIPT");
    cmd.arg("LOAD").arg(text);
    cmd
}

/// Wait for one job from each stream of the queue, for as long as `block`.
pub fn read_blocking(keys: &Keys, worker: &str, block: Duration) -> Cmd {
    let mut cmd = redis::cmd("XREADGROUP");
    cmd.arg("GROUP").arg(&keys.queue).arg(worker).arg("COUNT").arg(1).arg("BLOCK").arg(block.as_millis() as u64);
    cmd.arg("STREAMS").arg(&keys.streams);
    for _ in &keys.streams {
        cmd.arg(">");
    }
    cmd
}

/// Whether the server accepts the command only while it accepts writes. It refuses a script that
/// may write, even if the call would write nothing.
pub fn is_write(cmd: &Cmd) -> bool {
    let writes: [&[u8]; 3] = [b"EVALSHA", b"SADD", b"SET"];
    matches!(cmd.args_iter().next(), Some(Arg::Simple(name)) if writes.contains(&name))
}

fn with_key(name: &str, key: &str) -> Cmd {
    let mut cmd = redis::cmd(name);
    cmd.arg(key);
    cmd
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        entries
            .map(|entry| entry.unwrap_or_else(|error| panic!("{error}")).path())
            .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
            .collect()
    }

    #[test]
    fn no_other_file_builds_a_plain_command() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let builders: Vec<PathBuf> = sources(&root)
            .into_iter()
            .filter(|path| {
                fs::read_to_string(path).is_ok_and(|text| text.contains("redis::cmd(") || text.contains(".cmd(\""))
            })
            .map(|path| path.strip_prefix(&root).unwrap_or(&path).to_owned())
            .collect();
        assert_eq!(builders, [Path::new("commands.rs")]);
    }
}
