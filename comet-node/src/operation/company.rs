//! Whether a node that knows nobody is alone because it should be.

use std::time::{Duration, Instant};

/// How long after a start a node that remembers others waits for them before it takes itself for alone.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// What a node knows about having company.
///
/// While others are expected and nobody is known, the node is cut off: it cannot tell what exists, and what it
/// stores alone is no majority of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Company {
    /// True if it was given peers to join through.
    pub has_peers: bool,
    /// True if it had contacts when it ran last.
    pub had_contacts: bool,
    /// When it started.
    pub started: Instant,
}

impl Company {
    /// True if there should be others.
    pub fn is_expected(&self, now: Instant) -> bool {
        let recent = now.saturating_duration_since(self.started) < REMEMBERED_FOR;
        self.has_peers || (self.had_contacts && recent)
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::clock::Clock;

    use super::*;

    #[test]
    fn peers_are_expected_for_ever_and_former_contacts_for_ten_minutes() {
        let started = Clock::System.now();
        let expected = |has_peers, had_contacts, seconds| {
            Company { has_peers, had_contacts, started }.is_expected(started + Duration::from_secs(seconds))
        };
        assert!(expected(true, false, 0) && expected(true, true, 100_000));
        assert!(expected(false, true, 599) && !expected(false, true, 600));
        assert!(!expected(false, false, 0));
    }
}
