//! What a replica did, as it is told to whoever asked.

use comet_routing::{Contact, clock::WallMs};
use comet_runtime::{
    Refusal,
    visit::{Holding, Served},
};

use crate::wire::{Answer, Held, Reply};

/// The reply to a visit that was served by the replica `here` at `now_ms`.
pub fn reply_of(served: Served, here: Contact, now_ms: WallMs) -> Answer {
    match served {
        Served::Got { value, version, active, usage, seal } => {
            Ok(Reply::Got { value, version, active, usage, seal })
        }
        Served::Stored { version, usage } => Ok(Reply::Stored { version, usage }),
        Served::Noted => Ok(Reply::Noted),
        Served::Deleted { held } => Ok(Reply::Deleted { held }),
        Served::Inspected(holding) => Ok(Reply::Inspected(held(&holding, here, now_ms))),
        Served::Logged(lines) => Ok(Reply::Log { lines }),
        // No request of a peer wakes an object.
        Served::Ticked => Err(Refusal::Unsupported),
    }
}

fn held(holding: &Holding, here: Contact, now_ms: WallMs) -> Held {
    holding.inspection(here, now_ms).into()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use comet_routing::NodeId;

    use super::*;

    #[test]
    fn what_was_served_is_told_and_a_timer_is_nobodys_reply() {
        let here = Contact::new(NodeId::from_bytes([1; 32]), (Ipv4Addr::LOCALHOST, 7400).into());
        assert_eq!(reply_of(Served::Deleted { held: true }, here, 0), Ok(Reply::Deleted { held: true }));
        assert_eq!(reply_of(Served::Ticked, here, 0), Err(Refusal::Unsupported));
    }
}
