//! Who may begin a handshake, and who must first prove its address.
//!
//! A handshake costs a signature and some 40 KB, and its first packet can carry a forged source. So an unproven
//! address is answered with a challenge that is a fraction of the packet and costs nothing to remember (QUIC's
//! Retry, RFC 9000 section 8.1.2): a round trip more for a stranger, and nobody can have this node send anything
//! larger than what came to an address that did not ask. Proven ones are bounded in all and per network. An unproven
//! address is never refused for its network's sake: whoever forges it could then lock that network out. From
//! networks that are not counted, where no forged packet comes from outside, a few may shake hands at once.

use std::{collections::BTreeMap, net::IpAddr};

use comet_routing::{Prefix, is_private};

use super::config::{TransportConfig, Uncounted};

/// Counts handshakes and connections of peers against their limits.
#[derive(Debug)]
pub(super) struct Admission {
    limits: TransportConfig,
    handshakes: usize,
    networks: BTreeMap<Prefix, Count>,
}

/// What to do with somebody who knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Shake hands; the handshake is counted.
    Admit,
    /// Ask for a proof of the address.
    Challenge,
    /// Say no.
    Refuse,
}

/// Whether the sender of a first packet has shown that it receives at its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Proven,
    Unproven,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    handshakes: usize,
    connections: usize,
}

impl Admission {
    pub(super) fn new(limits: TransportConfig) -> Self {
        Self { limits, handshakes: 0, networks: BTreeMap::new() }
    }

    /// Decides on a first packet from `ip`.
    ///
    /// After [`Verdict::Admit`] the caller owes one of [`Admission::connected`] and [`Admission::failed`].
    pub(super) fn knock(&mut self, ip: IpAddr, source: Source) -> Verdict {
        let network = self.counted(ip);
        let count = network.and_then(|network| self.networks.get(&network)).copied().unwrap_or_default();
        let network_full = count.handshakes >= self.limits.handshakes_per_network_max
            || count.connections >= self.limits.connections_per_network_max;
        let full = self.handshakes >= self.limits.handshakes_max;
        let crowded = self.handshakes >= self.unproven_max(network);
        match source {
            Source::Unproven if full || network_full || crowded => Verdict::Challenge,
            Source::Proven if full || network_full => Verdict::Refuse,
            Source::Proven | Source::Unproven => {
                self.handshakes = self.handshakes.saturating_add(1);
                if let Some(network) = network {
                    let count = self.networks.entry(network).or_default();
                    count.handshakes = count.handshakes.saturating_add(1);
                }
                Verdict::Admit
            }
        }
    }

    /// Handshakes under way from which on an address of this network must be proved.
    fn unproven_max(&self, network: Option<Prefix>) -> usize {
        if network.is_some() { self.limits.handshakes_unproven_max } else { self.limits.handshakes_max / 4 }
    }

    /// A handshake from `ip` ended in a connection, for which the caller owes [`Admission::disconnected`].
    pub(super) fn connected(&mut self, ip: IpAddr) {
        self.handshakes = self.handshakes.saturating_sub(1);
        self.change(ip, |count| {
            count.handshakes = count.handshakes.saturating_sub(1);
            count.connections = count.connections.saturating_add(1);
        });
    }

    /// A handshake from `ip` came to nothing.
    pub(super) fn failed(&mut self, ip: IpAddr) {
        self.handshakes = self.handshakes.saturating_sub(1);
        self.change(ip, |count| count.handshakes = count.handshakes.saturating_sub(1));
    }

    /// A connection that was accepted from `ip` ended.
    pub(super) fn disconnected(&mut self, ip: IpAddr) {
        self.change(ip, |count| count.connections = count.connections.saturating_sub(1));
    }

    fn change(&mut self, ip: IpAddr, change: impl FnOnce(&mut Count)) {
        let Some(network) = self.counted(ip) else { return };
        let count = self.networks.entry(network).or_default();
        change(count);
        if count.handshakes == 0 && count.connections == 0 {
            self.networks.remove(&network);
        }
    }

    fn counted(&self, ip: IpAddr) -> Option<Prefix> {
        let ip = ip.to_canonical();
        let uncounted = match self.limits.uncounted {
            Uncounted::Nobody => false,
            Uncounted::Loopback => ip.is_loopback(),
            Uncounted::Private => is_private(ip),
        };
        (!uncounted).then(|| Prefix::of(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        Admission::new(TransportConfig {
            handshakes_max: 6,
            handshakes_unproven_max: 4,
            handshakes_per_network_max: 2,
            connections_per_network_max: 3,
            ..TransportConfig::default()
        })
    }

    fn ip(network: u8, host: u8) -> IpAddr {
        IpAddr::from([198, 51, network, host])
    }

    #[test]
    fn a_crowd_of_unproven_addresses_is_challenged_and_proven_ones_still_enter() {
        let mut admission = admission();
        for network in 0..4 {
            assert_eq!(admission.knock(ip(network, 1), Source::Unproven), Verdict::Admit);
        }
        assert_eq!(admission.knock(ip(9, 1), Source::Unproven), Verdict::Challenge);
        assert_eq!(admission.knock(ip(9, 1), Source::Proven), Verdict::Admit);
        assert_eq!(admission.knock(ip(10, 1), Source::Proven), Verdict::Admit);
        assert_eq!(admission.knock(ip(11, 1), Source::Proven), Verdict::Refuse, "the total is six");
        admission.failed(ip(0, 1));
        assert_eq!(admission.knock(ip(11, 1), Source::Proven), Verdict::Admit);
    }

    #[test]
    fn one_network_cannot_take_every_place_and_forged_sources_cannot_lock_it_out() {
        let mut admission = admission();
        assert_eq!(admission.knock(ip(1, 1), Source::Unproven), Verdict::Admit);
        assert_eq!(admission.knock(ip(1, 2), Source::Unproven), Verdict::Admit);
        assert_eq!(admission.knock(ip(1, 3), Source::Proven), Verdict::Refuse);
        assert_eq!(admission.knock(ip(1, 3), Source::Unproven), Verdict::Challenge);
        assert_eq!(
            admission.knock(ip(2, 1), Source::Unproven),
            Verdict::Admit,
            "the control: another network"
        );
    }

    #[test]
    fn connections_of_one_network_are_counted_until_they_end() {
        let mut admission = admission();
        for host in 0..3 {
            assert_eq!(admission.knock(ip(1, host), Source::Proven), Verdict::Admit);
            admission.connected(ip(1, host));
        }
        assert_eq!(admission.knock(ip(1, 9), Source::Proven), Verdict::Refuse);
        admission.disconnected(ip(1, 0));
        assert_eq!(admission.knock(ip(1, 9), Source::Proven), Verdict::Admit);
    }

    #[test]
    fn only_the_configured_networks_go_uncounted() {
        let entered = |uncounted, ip: &str| {
            let limits =
                TransportConfig { uncounted, handshakes_per_network_max: 1, ..TransportConfig::default() };
            let mut admission = Admission::new(limits);
            let ip = ip.parse().expect("a valid address");
            (0..3).filter(|_| admission.knock(ip, Source::Proven) == Verdict::Admit).count()
        };
        assert_eq!(entered(Uncounted::Nobody, "127.0.0.1"), 1);
        assert_eq!(entered(Uncounted::Loopback, "::ffff:127.0.0.1"), 3);
        assert_eq!(entered(Uncounted::Loopback, "10.0.0.1"), 1);
        assert_eq!(entered(Uncounted::Private, "10.0.0.1"), 3);
        assert_eq!(entered(Uncounted::Private, "fd00::1"), 3);
        assert_eq!(entered(Uncounted::Private, "8.8.8.8"), 1);
    }

    #[test]
    fn nothing_is_remembered_of_networks_that_left() {
        let mut admission = admission();
        admission.knock(ip(1, 1), Source::Proven);
        admission.connected(ip(1, 1));
        admission.disconnected(ip(1, 1));
        admission.knock(ip(2, 1), Source::Proven);
        admission.failed(ip(2, 1));
        assert!(admission.networks.is_empty());
    }
}
