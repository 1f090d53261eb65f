//! Every key, field, state and wire form of the protocol, in one place.
//!
//! | file | holds |
//! |---|---|
//! | `keys` | the names of all Redis keys and channels |
//! | `envelope` | the call that a producer writes: immutable, versioned |
//! | `entry` | the header in front of an envelope |
//! | `record` | the job record and the result |
//! | `schedule` | a schedule as it is stored |
//! | `state` | the states of a job |
//! | `notes` | what a run reports, and messages about jobs that are followed |
//! | `info` | the description that a worker publishes about itself |
//! | `pack` | reading and writing msgpack |

pub mod entry;
pub mod envelope;
pub mod info;
pub mod keys;
pub mod notes;
mod pack;
pub mod record;
pub mod schedule;
pub mod state;
