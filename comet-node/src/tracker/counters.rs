//! What a tracker counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::Metric;

/// How much a node has done as a BitTorrent tracker.
#[derive(Debug, Default)]
pub struct TrackerCounters {
    announces: AtomicU64,
    scrapes: AtomicU64,
    failures: AtomicU64,
}

impl TrackerCounters {
    pub(super) fn count_announce(&self) {
        self.announces.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_scrape(&self) {
        self.scrapes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts as metrics.
    pub fn to_metrics(&self) -> [Metric; 3] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            Metric::counter(
                "comet_tracker_announces_total",
                "Announces of BitTorrent peers that were answered",
                count(&self.announces),
            ),
            Metric::counter(
                "comet_tracker_scrapes_total",
                "Scrapes of BitTorrent clients that were answered",
                count(&self.scrapes),
            ),
            Metric::counter(
                "comet_tracker_failures_total",
                "Requests of BitTorrent clients answered with a failure reason",
                count(&self.failures),
            ),
        ]
    }
}
