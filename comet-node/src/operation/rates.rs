//! How many requests a network may send, and what bad ones cost it.
//!
//! Node ids are free to make and addresses are not, so what is counted is the sender's network ([`Prefix`]). Each has a
//! bucket of tokens that fills at an even rate. A request takes one before anybody reads it; one that turns out to be
//! rubbish, or not to be signed by whom it names, takes a hundred, since finding that out is what costs. A network
//! with an empty bucket is refused unread, and nobody else notices.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use comet_routing::{Prefix, PrivateRanges, is_private};
use comet_runtime::Refusal;

/// What one network may ask of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests per second, over a long time.
    pub requests_per_second: u32,
    /// Requests at once, after a while without any.
    pub burst: u32,
    /// What a request costs that should never have been sent, in requests.
    pub fault_cost: u32,
    /// Networks that are counted at one time. Those whose bucket is full need not be.
    pub networks_max: usize,
    /// Whether loopback and private addresses are counted, too.
    pub private_ranges: PrivateRanges,
}

impl Default for RateLimits {
    /// About half of what one core of 2025 serves, so that two networks are needed to keep a node busy with good
    /// requests; 40 bad signatures per second cost some 2 ms of a core.
    fn default() -> Self {
        Self {
            requests_per_second: 4_000,
            burst: 8_000,
            fault_cost: 100,
            networks_max: 4_096,
            private_ranges: PrivateRanges::Exempt,
        }
    }
}

/// The buckets of all networks.
#[derive(Debug)]
pub struct Rates {
    limits: RateLimits,
    /// Networks that asked a short while ago; whoever is not in here has a full bucket.
    buckets: BTreeMap<Prefix, Bucket>,
}

/// Tokens in millionths, so that even a slow rate fills a bucket at every microsecond.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    micro_tokens: u64,
    filled: Instant,
}

const MICRO: u64 = 1_000_000;

impl Rates {
    /// Buckets that are all full.
    pub fn new(limits: RateLimits) -> Self {
        Self { limits, buckets: BTreeMap::new() }
    }

    /// Takes the token of one request from `ip`'s network; false if it has none.
    pub fn admit(&mut self, ip: IpAddr, now: Instant) -> bool {
        let Some(network) = self.counted(ip) else { return true };
        if !self.buckets.contains_key(&network) && self.buckets.len() >= self.limits.networks_max {
            let limits = self.limits;
            self.buckets.retain(|_, bucket| bucket.fill(&limits, now) < limits.full());
            if self.buckets.len() >= limits.networks_max {
                return false;
            }
        }
        let full = Bucket { micro_tokens: self.limits.full(), filled: now };
        let bucket = self.buckets.entry(network).or_insert(full);
        let may = bucket.fill(&self.limits, now) >= MICRO;
        if may {
            bucket.micro_tokens -= MICRO;
        }
        may
    }

    /// Charges `ip`'s network for a request that was admitted and then refused for this.
    pub fn charge(&mut self, ip: IpAddr, refusal: &Refusal) {
        let Some(network) = self.counted(ip).filter(|_| is_fault(refusal)) else { return };
        if let Some(bucket) = self.buckets.get_mut(&network) {
            let cost = u64::from(self.limits.fault_cost.saturating_sub(1)) * MICRO;
            bucket.micro_tokens = bucket.micro_tokens.saturating_sub(cost);
        }
    }

    fn counted(&self, ip: IpAddr) -> Option<Prefix> {
        let ip = ip.to_canonical();
        let exempt = self.limits.private_ranges == PrivateRanges::Exempt && is_private(ip);
        (!exempt).then(|| Prefix::of(ip))
    }
}

impl RateLimits {
    fn full(&self) -> u64 {
        u64::from(self.burst) * MICRO
    }
}

impl Bucket {
    /// What is in it now.
    fn fill(&mut self, limits: &RateLimits, now: Instant) -> u64 {
        // After an hour every bucket is full, and no product of the two overflows.
        let elapsed = now.saturating_duration_since(self.filled).min(Duration::from_secs(3_600));
        let gained = elapsed.as_micros() as u64 * u64::from(limits.requests_per_second);
        self.micro_tokens = self.micro_tokens.saturating_add(gained).min(limits.full());
        self.filled = self.filled.max(now);
        self.micro_tokens
    }
}

/// True if no honest node would have sent the request: it checks what it passes on by the same rules.
fn is_fault(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Invalid(_) | Refusal::NotOwner(_) | Refusal::TooLarge { .. } | Refusal::BadCode(_)
    )
}

#[cfg(test)]
mod tests {
    use comet_routing::clock::Clock;
    use proptest::prelude::*;

    use super::*;

    fn limits() -> RateLimits {
        RateLimits { requests_per_second: 10, burst: 20, fault_cost: 5, ..RateLimits::default() }
    }

    fn ip(network: u8, host: u8) -> IpAddr {
        IpAddr::from([198, 51, network, host])
    }

    fn admitted(rates: &mut Rates, ip: IpAddr, now: Instant) -> usize {
        (0..1_000).filter(|_| rates.admit(ip, now)).count()
    }

    #[test]
    fn a_network_has_its_burst_and_then_its_rate_whichever_of_its_hosts_asks() {
        let now = Clock::System.now();
        let mut rates = Rates::new(limits());
        assert_eq!(admitted(&mut rates, ip(1, 1), now), 20);
        assert_eq!(admitted(&mut rates, ip(1, 2), now), 0, "the same network");
        assert_eq!(admitted(&mut rates, ip(2, 1), now), 20, "another one");
        let later = now + Duration::from_millis(500);
        assert_eq!(admitted(&mut rates, ip(1, 3), later), 5);
        assert_eq!(admitted(&mut rates, ip(1, 3), later + Duration::from_secs(86_400)), 20);
    }

    #[test]
    fn faults_cost_their_sender_more_and_honest_failures_do_not() {
        let (now, from) = (Clock::System.now(), ip(1, 1));
        let left_after = |refusal: Refusal| {
            let mut rates = Rates::new(limits());
            assert!(rates.admit(from, now));
            rates.charge(from, &refusal);
            admitted(&mut rates, from, now)
        };
        assert_eq!(left_after(Refusal::NotOwner("no".into())), 15);
        assert_eq!(left_after(Refusal::Invalid("no".into())), 15);
        for honest in [Refusal::NotFound, Refusal::Stale { held_sequence: 1 }, Refusal::Unsupported] {
            assert_eq!(left_after(honest), 19);
        }
    }

    #[test]
    fn private_ranges_are_exempt_unless_they_count() {
        let now = Clock::System.now();
        let local = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(admitted(&mut Rates::new(limits()), local, now), 1_000);
        let counted = RateLimits { private_ranges: PrivateRanges::Counted, ..limits() };
        assert_eq!(admitted(&mut Rates::new(counted), local, now), 20);
    }

    #[test]
    fn there_are_so_many_networks_until_some_have_full_buckets() {
        let now = Clock::System.now();
        let mut rates = Rates::new(RateLimits { networks_max: 2, ..limits() });
        let served = (0..5).filter(|&n| rates.admit(ip(n, 1), now)).count();
        assert_eq!(served, 2);
        assert!(rates.admit(ip(9, 1), now + Duration::from_millis(100)), "one token came back by then");
        assert_eq!(rates.buckets.len(), 1);
    }

    proptest! {
        #[test]
        fn no_network_ever_gets_more_than_its_burst_and_its_rate(
            asks in proptest::collection::vec((0_u64..3_000, any::<bool>()), 1..200),
        ) {
            let began = Clock::System.now();
            let (mut rates, mut now, mut served) = (Rates::new(limits()), began, 0_u64);
            for (pause_ms, is_fault) in asks {
                now += Duration::from_millis(pause_ms);
                served += u64::from(rates.admit(ip(1, 1), now));
                if is_fault {
                    rates.charge(ip(1, 1), &Refusal::Invalid("no".into()));
                }
            }
            let elapsed_ms = (now - began).as_millis() as u64;
            prop_assert!(served <= 20 + elapsed_ms / 100);
        }
    }
}
