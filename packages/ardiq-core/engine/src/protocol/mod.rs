//! Every key, field, state and wire form of the protocol, in one place.
//!
//! | file | holds |
//! |---|---|
//! | `keys` | the names of all Redis keys and channels |
//! | `envelope` | what a producer writes: immutable, versioned |
//! | `entry` | the header that the protocol keeps in front of an envelope |
//! | `record` | the job record and the result |
//! | `info` | what a worker says about itself |
//! | `catalog` | all of that as data, for the documentation and for tools |
//! | `signature` | what the head of a script says |

pub mod catalog;
pub mod entry;
pub mod envelope;
pub mod info;
pub mod keys;
mod pack;
pub mod record;
pub mod signature;
