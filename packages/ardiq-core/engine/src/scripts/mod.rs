//! The Lua scripts: the text of each, and a typed function that calls it. Nothing else calls
//! `EVALSHA` or `EVALSHA_RO`.
//!
//! | file | scripts |
//! |---|---|
//! | `produce` | enqueue, fire |
//! | `deliver` | fetch, start, settle |
//! | `notes` | note |
//! | `upkeep` | promote, renew, reclaim, survive, leave, mend, scrub |
//! | `links` | link, release, relink |
//! | `abort` | abort |
//! | `schedules` | schedule, unschedule, pause, declare, schedules |
//! | `look` | wait, forget, lookup, depth, inspect, list |
//! | `bodies` | none: it reads arguments that are stored separately |

pub mod abort;
pub mod bodies;
pub mod deliver;
pub mod links;
pub mod look;
pub mod notes;
pub mod produce;
mod reply;
pub mod schedules;
pub mod upkeep;

use std::sync::LazyLock;

use redis::Cmd;

use crate::commands;

/// A script. Its text is constant, and the server knows it by its digest.
pub struct Script {
    /// File name without extension.
    pub name: &'static str,
    /// The complete text, as it is sent to the server.
    pub text: &'static str,
    sha: LazyLock<String>,
}

impl Script {
    /// The digest that `EVALSHA` uses.
    pub fn sha(&self) -> &str {
        &self.sha
    }

    /// The command that loads it into the server.
    pub fn load(&self) -> Cmd {
        commands::load_script(self.text)
    }

    /// Begin a call, with room for `args` arguments of `bytes` in total.
    fn call(&self, keys: &[&str], args: usize, bytes: usize) -> Cmd {
        self.call_by("EVALSHA", keys, args, bytes)
    }

    /// Begin a call of a script that only reads: see [`look`].
    fn read(&self, keys: &[&str], args: usize, bytes: usize) -> Cmd {
        self.call_by("EVALSHA_RO", keys, args, bytes)
    }

    fn call_by(&self, command: &str, keys: &[&str], args: usize, bytes: usize) -> Cmd {
        let mut cmd = Cmd::with_capacity(args + keys.len() + 3, bytes + 256);
        cmd.arg(command).arg(self.sha()).arg(keys.len());
        for key in keys {
            cmd.arg(key);
        }
        cmd
    }
}

/// Compute all digests before a second thread can exist. If one thread computed a digest while
/// another forked the process, the computation would never end in the child.
pub fn compute_digests() {
    for script in ALL {
        LazyLock::force(&script.sha);
    }
}

macro_rules! scripts {
    ($($constant:ident, $name:literal, $flags:literal, [$($part:literal),*];)*) => {
        $(
            #[doc = concat!("`lua/", $name, ".lua`")]
            pub static $constant: Script = Script {
                name: $name,
                text: concat!(
                    "#!lua", $flags, "\n",
                    include_str!("../../lua/prelude.lua"),
                    $(include_str!(concat!("../../lua/", $part, ".lua")),)*
                    include_str!(concat!("../../lua/", $name, ".lua")),
                ),
                sha: LazyLock::new(|| sha1_smol::Sha1::from($constant.text).digest().to_string()),
            };
        )*
        /// All scripts, in the order of a job's life.
        pub static ALL: &[&Script] = &[$(&$constant),*];
    };
}

// With `allow-oom`, work can be finished while the server's memory is full. New work is refused
// then. The brackets list the files that are included in front of a script.
scripts! {
    ENQUEUE, "enqueue", "", ["guard", "tell", "presence"];
    LINK, "link", "", ["guard", "location", "tell", "depart", "presence", "ended", "edges"];
    FIRE, "fire", "", ["guard", "location", "presence", "agenda"];
    PROMOTE, "promote", " flags=allow-oom", ["guard", "location", "depart", "lost", "due"];
    FETCH, "fetch", " flags=allow-oom", ["due"];
    START, "start", " flags=allow-oom", ["guard", "location"];
    NOTE, "note", "", ["guard", "location", "tell"];
    SETTLE, "settle", " flags=allow-oom",
        ["guard", "location", "tell", "depart", "lost", "ended", "aborted", "edges"];
    RELEASE, "release", " flags=allow-oom",
        ["guard", "location", "tell", "depart", "lost", "presence", "ended", "aborted", "withdraw", "edges"];
    RELINK, "relink", " flags=allow-oom", ["guard", "location", "tell", "depart", "presence", "ended", "edges"];
    RENEW, "renew", " flags=allow-oom", ["guard", "leases"];
    RECLAIM, "reclaim", " flags=allow-oom",
        ["guard", "location", "tell", "leases", "depart", "notes", "ended", "aborted"];
    SURVIVE, "survive", " flags=allow-oom", ["guard"];
    LEAVE, "leave", " flags=allow-oom", ["guard"];
    ABORT, "abort", " flags=allow-oom",
        ["guard", "tell", "depart", "lost", "presence", "ended", "aborted", "withdraw"];
    WAIT, "wait", " flags=allow-oom", ["guard", "tell", "depart", "lost", "presence"];
    FORGET, "forget", " flags=allow-oom", ["guard"];
    SCHEDULE, "schedule", "", ["guard", "tell", "agenda"];
    UNSCHEDULE, "unschedule", " flags=allow-oom", ["guard", "tell", "agenda"];
    PAUSE, "pause", " flags=allow-oom", ["guard", "tell", "agenda"];
    DECLARE, "declare", "", ["guard", "agenda"];
    MEND, "mend", " flags=allow-oom", [];
    SCRUB, "scrub", " flags=allow-oom",
        ["guard", "location", "tell", "depart", "lost", "presence", "notes", "ended", "aborted"];
    LOOKUP, "lookup", " flags=no-writes", ["guard", "depart", "presence"];
    DEPTH, "depth", " flags=no-writes", ["guard"];
    INSPECT, "inspect", " flags=no-writes", ["guard"];
    LIST, "list", " flags=no-writes", ["guard"];
    SCHEDULES, "schedules", " flags=no-writes", ["guard", "agenda"];
}

/// The scripts that a worker calls from the start.
pub static FOR_WORKERS: &[&Script] = &[&RENEW, &FETCH, &START, &NOTE, &SETTLE, &PROMOTE, &RECLAIM, &LEAVE];
