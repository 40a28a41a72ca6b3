//! What handlers see of a caller's address.
//!
//! A caller is known to handlers by its node's id. Of the address they see what the operator shows them; the rest stays
//! with the host, which knows it while the caller's event runs, and for as long as the object may answer it
//! ([`Capability`](crate::contact_policy::Capability)). A node whose address is not shown has port 0, under which
//! nobody can be reached; so it is known for one wherever it is kept or sent.

use std::net::{Ipv4Addr, SocketAddr};

use comet_routing::{Contact, Prefix};
use serde::{Deserialize, Serialize};

use crate::{Caller, Origin};

/// How much of the address of those who read, put and delete handlers see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerAddresses {
    /// All of it.
    Full,
    /// The network that it is in, an IPv4 /24 or an IPv6 /48, and no port.
    #[default]
    Prefix,
    /// Nothing.
    Hidden,
}

impl CallerAddresses {
    /// The caller's node as handlers see it. Who hands over a copy of the object is one of its replicas, not somebody
    /// who wants something of it, and is shown: a lookup of the object's key finds it with its address.
    pub fn shown(self, caller: &Caller) -> Contact {
        match caller.origin {
            Origin::Client => self.veil(&caller.node),
            Origin::Replica => caller.node,
        }
    }

    /// The node with no more of its address than is shown.
    pub(crate) fn veil(self, node: &Contact) -> Contact {
        let ip = match self {
            Self::Full => return *node,
            Self::Prefix => Prefix::of(node.addr.ip()).network(),
            Self::Hidden => Ipv4Addr::UNSPECIFIED.into(),
        };
        Contact::new(node.id, SocketAddr::new(ip, 0))
    }
}

/// True if this is a node whose address was not shown to whoever names it.
pub fn is_veiled(node: &Contact) -> bool {
    node.addr.port() == 0
}

#[cfg(test)]
mod tests {
    use comet_routing::NodeId;

    use super::*;

    fn shown(addresses: CallerAddresses, addr: &str, origin: Origin) -> String {
        let addr = addr.parse().expect("a valid address");
        let node = Contact::new(NodeId::from_bytes([1; 32]), addr);
        let shown = addresses.shown(&Caller { node, callback: None, owner: None, origin });
        assert_eq!(shown.id, node.id, "a caller is known by its id");
        assert_eq!(is_veiled(&shown), shown.addr != addr);
        shown.addr.to_string()
    }

    #[test]
    fn of_a_caller_no_more_is_shown_than_the_operator_says() {
        use CallerAddresses::{Full, Hidden, Prefix};
        for (addresses, v4, v6) in [
            (Full, "203.0.113.7:7400", "[2001:db8:1:2::7]:7400"),
            (Prefix, "203.0.113.0:0", "[2001:db8:1::]:0"),
            (Hidden, "0.0.0.0:0", "0.0.0.0:0"),
        ] {
            assert_eq!(shown(addresses, "203.0.113.7:7400", Origin::Client), v4);
            assert_eq!(shown(addresses, "[2001:db8:1:2::7]:7400", Origin::Client), v6);
        }
    }

    #[test]
    fn who_hands_over_a_copy_is_shown() {
        let shown = shown(CallerAddresses::Hidden, "203.0.113.7:7400", Origin::Replica);
        assert_eq!(shown, "203.0.113.7:7400");
    }
}
