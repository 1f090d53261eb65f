//! The engine of ArdiQ. It knows nothing of Python: bytes, numbers and short strings go in and out.
//!
//! A producer hands [`submit::Submission`]s to a [`client::Client`] and finds the answers in its [`port::Port`]. A worker
//! host builds a [`worker::Worker`] on the same client, takes assignments, and hands outcomes in. Everything that touches
//! the network runs as tasks on the one thread of [`runtime::Runtime`]; what to do is decided by code without I/O
//! ([`worker::desk`], [`worker::judge`], [`error::remedy`]), and how the broker is told is written in `lua/`.
//!
//! ```text
//! submit → scripts::produce ─► lanes, due set ─► scripts::deliver::fetch → worker::desk → run
//! results ◄─ push ◄──────────── settle ◄──────── scripts::deliver::settle ← worker::judge ←┘
//! ```

pub mod bell;
pub mod client;
pub mod clock;
pub mod error;
pub mod jobs;
pub mod link;
pub mod logs;
mod manners;
pub mod port;
pub mod printable;
pub mod protocol;
pub mod refusal;
pub mod results;
pub mod runtime;
pub mod scripts;
pub mod server;
pub mod submit;
pub mod url;
mod wait;
pub mod worker;

/// The version of all four distributions.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
