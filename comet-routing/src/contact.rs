//! Where a node can be reached.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
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
/// An IPv4 address written as IPv6 (`::ffff:a.b.c.d`) counts as IPv4, so that one host cannot appear in two
/// networks.
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
        match ip.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self([0xff, 4, a, b, c, 0])
            }
            IpAddr::V6(v6) => {
                let o = v6.octets();
                Self([o[0], o[1], o[2], o[3], o[4], o[5]])
            }
        }
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
}
