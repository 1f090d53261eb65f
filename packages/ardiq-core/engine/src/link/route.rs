//! Which connection a command uses.

/// Larger commands, in bytes, use the connection for large values.
pub const LARGE: usize = 64 << 10;

/// Which connection a command is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Small commands.
    Commands,
    /// Large values, in either direction.
    Large,
    /// One large value, which may be the reason why connections break.
    Alone,
    /// Subscriptions.
    Subscriptions,
}

impl Route {
    /// The connection for a command of this many bytes.
    pub fn of(bytes: usize) -> Self {
        if bytes > LARGE { Self::Large } else { Self::Commands }
    }

    /// Whether it is for large values.
    pub fn is_large(self) -> bool {
        matches!(self, Self::Large | Self::Alone)
    }
}
