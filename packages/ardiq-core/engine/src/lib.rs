//! The engine of ArdiQ. It knows nothing of Python: bytes, numbers and short strings go in and out.
//!
//! A producer passes [`submit::Submission`]s to a [`client::Client`] and takes the replies from its
//! [`mailbox::Mailbox`]. A worker host builds a [`worker::Worker`] on the same client, takes
//! assignments, and submits outcomes. All network traffic runs as tasks on the one thread of
//! [`runtime::Runtime`]. Code without I/O makes the decisions ([`worker::desk`], [`worker::judge`],
//! [`error::remedy`]). The scripts in `lua/` change the data in Redis.
//!
//! ```text
//! submit → scripts::produce ─► lanes, due set ─► scripts::deliver::fetch → worker::desk → run
//! results ◄─ push ◄──────────── settle ◄──────── scripts::deliver::settle ← worker::judge ←┘
//! ```

pub mod abort;
pub mod answer;
pub mod audience;
pub mod catalog;
pub mod client;
pub mod clock;
mod commands;
pub mod error;
pub mod events;
pub mod followers;
pub mod graph;
mod housekeeping;
pub mod jobs;
pub mod link;
pub mod lock;
pub mod logs;
pub mod mailbox;
pub mod notifier;
pub mod printable;
pub mod protocol;
pub mod refusal;
pub mod results;
pub mod runtime;
pub mod schedules;
pub mod scripts;
pub mod server;
pub mod service;
pub mod shared;
pub mod submit;
mod tls;
pub mod url;
pub mod waiters;
pub mod worker;

/// The version of all four distributions.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
