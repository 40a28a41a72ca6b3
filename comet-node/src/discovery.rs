//! Nodes that find each other on a local network, by multicast DNS (RFC 6762 and 6763).
//!
//! A node that takes part says where it is as a service `_comet._udp.local.`, with its id and the name of its
//! network, and hears of others. What it hears proves nothing: the addresses are only candidates to greet, and
//! a greeting finds out who is there. A machine on which multicast does not work goes without.

use std::net::{IpAddr, SocketAddr};

use comet_routing::{Contact, NodeId};
use mdns_sd::{DaemonEvent, IfKind, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};

/// What nodes of Comet are called on the local network.
const SERVICE: &str = "_comet._udp.local.";
/// The property that holds a node's id, in hexadecimal digits.
const ID: &str = "id";
/// The property that holds the name of its network.
const NETWORK: &str = "network";
/// Addresses of one node that are passed on.
const ADDRESSES_MAX: usize = 4;
/// Hexadecimal digits of the id in the service's name, which has at most 63 bytes.
const NAME_DIGITS: usize = 32;

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
#[error("multicast DNS does not work here: {0}")]
pub struct DiscoveryError(#[from] mdns_sd::Error);

/// A node's part in finding others on the local network; it ends when this is dropped.
pub struct Discovery {
    daemon: ServiceDaemon,
}

impl Discovery {
    /// Says where `own` is, and calls `found` with each address of another node of the network.
    ///
    /// A node that can be reached on one address only keeps to the interface which has it, so that one on
    /// loopback bothers nobody. Must be called within a tokio runtime.
    pub fn start(
        own: Contact,
        listen: SocketAddr,
        network: &str,
        found: impl Fn(SocketAddr) + Send + 'static,
    ) -> Result<Self, DiscoveryError> {
        let discovery = Self { daemon: ServiceDaemon::new()? };
        let daemon = &discovery.daemon;
        if !listen.ip().is_unspecified() {
            daemon.disable_interface(IfKind::All)?;
            daemon.enable_interface(IfKind::Addr(listen.ip()))?;
        }
        daemon.register(advert(own, listen, network)?)?;
        let (heard, said) = (daemon.browse(SERVICE)?, daemon.monitor()?);
        let network = network.to_owned();
        tokio::spawn(async move {
            while let Ok(event) = heard.recv_async().await {
                if let ServiceEvent::ServiceResolved(service) = event {
                    candidates(&Heard::of(&service), &own.id, &network).into_iter().for_each(&found);
                }
            }
        });
        tokio::spawn(async move {
            while let Ok(event) = said.recv_async().await {
                if let DaemonEvent::Error(error) = event {
                    log::warn!("multicast DNS: {error}");
                }
            }
        });
        Ok(discovery)
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        // One that has ended already needs no telling.
        self.daemon.shutdown().ok();
    }
}

/// What a node says of itself.
fn advert(own: Contact, listen: SocketAddr, network: &str) -> Result<ServiceInfo, mdns_sd::Error> {
    let id = own.id.to_string();
    let name = id.get(..NAME_DIGITS).unwrap_or(&id);
    let host = format!("{name}.local.");
    let properties = [(ID, id.as_str()), (NETWORK, network)];
    if listen.ip().is_unspecified() {
        let info = ServiceInfo::new(SERVICE, name, &host, (), listen.port(), &properties[..])?;
        return Ok(info.enable_addr_auto());
    }
    ServiceInfo::new(SERVICE, name, &host, listen.ip(), listen.port(), &properties[..])
}

/// What was heard of a node.
struct Heard<'a> {
    id: Option<&'a str>,
    network: Option<&'a str>,
    ips: Vec<IpAddr>,
    port: u16,
}

impl<'a> Heard<'a> {
    fn of(service: &'a ResolvedService) -> Self {
        Self {
            id: service.txt_properties.get_property_val_str(ID),
            network: service.txt_properties.get_property_val_str(NETWORK),
            ips: service.addresses.iter().map(mdns_sd::ScopedIp::to_ip_addr).collect(),
            port: service.port,
        }
    }
}

/// Where a node that was heard of may be greeted, if it is another node of this network.
fn candidates(heard: &Heard<'_>, own: &NodeId, network: &str) -> Vec<SocketAddr> {
    let id = heard.id.and_then(|id| id.parse::<NodeId>().ok());
    if heard.network != Some(network) || heard.port == 0 || id.is_none_or(|id| id == *own) {
        return Vec::new();
    }
    // An address of one link is of no use without the name of the link.
    let is_usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local(),
    };
    let mut ips: Vec<_> = heard.ips.iter().copied().filter(is_usable).collect();
    ips.sort_unstable();
    ips.dedup();
    ips.into_iter().take(ADDRESSES_MAX).map(|ip| SocketAddr::new(ip, heard.port)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId::from_bytes([1; 32]);
    const OTHER: NodeId = NodeId::from_bytes([2; 32]);

    fn heard<'a>(id: &'a str, ips: &[&str]) -> Heard<'a> {
        let ips = ips.iter().map(|ip| ip.parse().expect("an address")).collect();
        Heard { id: Some(id), network: Some("comet"), ips, port: 7400 }
    }

    fn found(heard: &Heard<'_>) -> Vec<String> {
        candidates(heard, &OWN, "comet").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn another_node_of_the_network_is_a_candidate_wherever_it_is() {
        let other = OTHER.to_string();
        let heard =
            heard(&other, &["192.168.0.7", "192.168.0.7", "fd00::7", "fe80::7", "0.0.0.0", "224.0.0.1"]);
        assert_eq!(found(&heard), ["192.168.0.7:7400", "[fd00::7]:7400"]);
    }

    #[test]
    fn the_node_itself_other_networks_and_rubbish_are_none() {
        let (own, other) = (OWN.to_string(), OTHER.to_string());
        let ips = ["192.168.0.7"];
        assert_eq!(found(&heard(&other, &ips)).len(), 1, "the control");
        assert!(found(&heard(&own, &ips)).is_empty());
        assert!(found(&heard("not an id", &ips)).is_empty());
        assert!(found(&Heard { id: None, ..heard(&other, &ips) }).is_empty());
        assert!(found(&Heard { network: Some("test"), ..heard(&other, &ips) }).is_empty());
        assert!(found(&Heard { network: None, ..heard(&other, &ips) }).is_empty());
        assert!(found(&Heard { port: 0, ..heard(&other, &ips) }).is_empty());
    }

    #[test]
    fn one_node_has_few_addresses() {
        let other = OTHER.to_string();
        let ips: Vec<_> = (1..=99).map(|n| format!("192.168.0.{n}")).collect();
        let ips: Vec<_> = ips.iter().map(String::as_str).collect();
        assert_eq!(found(&heard(&other, &ips)).len(), ADDRESSES_MAX);
    }

    #[test]
    fn what_a_node_says_of_itself_makes_it_a_candidate_to_others_and_not_to_itself() {
        let own = Contact::new(OTHER, "192.168.0.7:7400".parse().expect("an address"));
        let advert = advert(own, own.addr, "comet").expect("a node can be described").as_resolved_service();
        assert_eq!(found(&Heard::of(&advert)), ["192.168.0.7:7400"]);
        assert_eq!(candidates(&Heard::of(&advert), &OTHER, "comet"), []);
    }
}
