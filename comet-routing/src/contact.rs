//! Where a node can be reached.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// A node and the UDP address at which it answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Contact {
    /// Who it is.
    pub id: NodeId,
    /// Where it answers.
    pub addr: SocketAddr,
}

impl Contact {
    /// A contact with this id at this address.
    pub const fn new(id: NodeId, addr: SocketAddr) -> Self {
        Self { id, addr }
    }
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id.to_string();
        write!(f, "{}@{}", id.get(..8).unwrap_or(&id), self.addr)
    }
}

/// The network a host belongs to for diversity and quota: its IPv4 /24 or IPv6 /48.
///
/// Whoever has an IPv4 address has IPv6 addresses without being given any, and in some schemes a /48 of his own for
/// each. An address with an IPv4 address inside counts as that one, so that one host cannot appear in many networks:
/// `::ffff:a.b.c.d` (RFC 4291), 6to4 (`2002::/16`, RFC 3056), NAT64 (`64:ff9b::/96`, RFC 6052) and Teredo
/// (`2001::/32`, RFC 4380). In Teredo that is the client, to which packets must find back, not the server, which the
/// client picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix([u8; 6]);

impl Prefix {
    /// The prefix with these [`Prefix::to_bytes`].
    pub const fn from_bytes(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The prefix as six bytes, for storing it.
    pub const fn to_bytes(self) -> [u8; 6] {
        self.0
    }

    /// The prefix of an address.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => embedded(v6).map_or_else(|| Self::of_v6(v6), Self::of_v4),
        }
    }

    /// The address of the network itself: that of a host in it, with nothing of the host.
    pub fn network(self) -> IpAddr {
        match self.0 {
            [0xff, 4, a, b, c, _] => Ipv4Addr::new(a, b, c, 0).into(),
            [a, b, c, d, e, f] => Ipv6Addr::from([a, b, c, d, e, f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).into(),
        }
    }

    fn of_v4(v4: Ipv4Addr) -> Self {
        let [a, b, c, _] = v4.octets();
        Self([0xff, 4, a, b, c, 0])
    }

    fn of_v6(v6: Ipv6Addr) -> Self {
        let [a, b, c, d, e, f, ..] = v6.octets();
        Self([a, b, c, d, e, f])
    }
}

/// The IPv4 address behind an IPv6 address that was made from it.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    match v6.octets() {
        [0x20, 0x02, a, b, c, d, ..] | [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => {
            Some(Ipv4Addr::new(a, b, c, d))
        }
        // The client's address stands there with all its bits turned round.
        [0x20, 0x01, 0, 0, .., a, b, c, d] => Some(Ipv4Addr::new(!a, !b, !c, !d)),
        _ => v6.to_ipv4_mapped(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_24_or_a_48() {
        let of = |text: &str| Prefix::of(text.parse().expect("a valid address"));
        assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.9"));
        assert_eq!(of("2001:db8:1::1"), of("2001:db8:1:ffff::1"));
        assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
    }

    #[test]
    fn a_networks_address_has_nothing_of_the_host() {
        let network = |text: &str| Prefix::of(text.parse().expect("a valid address")).network().to_string();
        assert_eq!(network("203.0.113.7"), "203.0.113.0");
        assert_eq!(network("2001:db8:1:2::7"), "2001:db8:1::");
        assert_eq!(
            network("2002:cb00:7107::1"),
            "203.0.113.0",
            "6to4: a /48 would be the whole IPv4 address"
        );
        assert_eq!(network("::ffff:203.0.113.7"), "203.0.113.0");
    }

    #[test]
    fn a_host_with_an_ipv4_address_gets_no_prefix_by_writing_it_as_ipv6() {
        let of = |text: &str| Prefix::of(text.parse().expect("a valid address"));
        let written = [
            "::ffff:192.0.2.9",
            "2002:c000:0209::1",
            "2002:c000:02ff:ffff::1",
            "64:ff9b::192.0.2.9",
            // Teredo over two servers.
            "2001:0:4136:e378:8000:63bf:3fff:fdf6",
            "2001:0:102:304:0:1:3fff:fdf6",
        ];
        for text in written {
            assert_eq!(of(text), of("192.0.2.1"), "{text}");
        }
        assert_ne!(of("2002:c000:0309::1"), of("192.0.2.1"), "another /24");
        // The control: the first six bytes of such addresses are as many prefixes as one cares to write.
        let plain = |text: &str| match text.parse() {
            Ok(v6) => Prefix::of_v6(v6),
            Err(_) => panic!("no IPv6 address: {text}"),
        };
        let prefixes: std::collections::BTreeSet<_> = written.map(plain).into();
        assert_eq!(prefixes.len(), 6);
        assert_eq!(of("2001:1::1"), plain("2001:1::1"), "not all of 2001:: is Teredo");
        assert_eq!(
            of("64:ff9b:1::c000:209"),
            plain("64:ff9b:1::c000:209"),
            "a network's own NAT64 is one /48"
        );
    }
}
