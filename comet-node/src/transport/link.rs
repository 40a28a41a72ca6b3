//! One connection to one peer, with what the pool and the timeouts have to know of it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use comet_routing::{Contact, NodeId};
use tokio::time::Instant;

use super::{
    Rtt,
    pool::{Pooled, canonical},
};

/// An established connection whose peer is authenticated.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: quinn::Connection,
    peer: NodeId,
    /// Exchanges under way in either direction.
    under_way: AtomicUsize,
    opened: Instant,
    /// When the last exchange ended, in milliseconds after `opened_ms`.
    idle_since_ms: AtomicU64,
    /// Offset of `opened` on the clock that all links of a transport share.
    opened_ms: u64,
    /// Mean deviation of acknowledgements, in microseconds; 0 before the first.
    variation_us: AtomicU64,
}

/// Keeps a link from being taken for idle.
pub(super) struct UnderWay(Arc<Link>);

impl Link {
    /// A link that is made `opened_ms` after its transport started.
    pub(super) fn new(connection: quinn::Connection, peer: NodeId, opened_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            connection,
            peer,
            under_way: AtomicUsize::new(0),
            opened: Instant::now(),
            idle_since_ms: AtomicU64::new(0),
            opened_ms,
            variation_us: AtomicU64::new(0),
        })
    }

    /// The peer and the address at which it is now.
    pub(super) fn contact(&self) -> Contact {
        Contact::new(self.peer, canonical(self.connection.remote_address()))
    }

    /// Marks the beginning of an exchange; it ends when the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Takes in how long an acknowledgement took, and returns the estimate that follows (RFC 6298, 2.3).
    pub(super) fn acknowledged_after(&self, sample: Duration) -> Rtt {
        let smoothed = self.connection.rtt();
        let deviation = micros(sample.abs_diff(smoothed));
        let variation = match self.variation_us.load(Ordering::Relaxed) {
            0 => micros(smoothed) / 2,
            before => (before.saturating_mul(3).saturating_add(deviation)) / 4,
        };
        self.variation_us.store(variation.max(1), Ordering::Relaxed);
        Rtt { smoothed, variation: Duration::from_micros(variation) }
    }
}

impl UnderWay {
    /// As [`Link::contact`].
    pub(super) fn contact(&self) -> Contact {
        self.0.contact()
    }
}

impl Pooled for Arc<Link> {
    fn id(&self) -> usize {
        self.connection.stable_id()
    }

    fn peer(&self) -> NodeId {
        self.peer
    }

    fn addr(&self) -> SocketAddr {
        self.contact().addr
    }

    fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    fn idle_since(&self) -> Option<u64> {
        let idle = self.under_way.load(Ordering::Relaxed) == 0;
        idle.then(|| self.opened_ms.saturating_add(self.idle_since_ms.load(Ordering::Relaxed)))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Self(link) = self;
        let now_ms = u64::try_from(link.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        link.idle_since_ms.store(now_ms, Ordering::Relaxed);
        link.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
