//! Sequences of events for the routing table and for lookups, each read from a few bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use comet_routing::{
    Contact, Key, Lookup, LookupConfig, NodeId, Prefix, RoutingTable, Step, TableConfig, clock::Clock,
};

const OWN: NodeId = NodeId::from_bytes([0; 32]);

/// Requests that one lookup may have made; beyond them it does not end.
const REQUESTS_MAX: usize = 1_000;

fn contact(n: u8, network: u8) -> Contact {
    // Neighbours in the id space as well as in the network.
    let mut id = [network; 32];
    id[31] = n;
    Contact::new(NodeId::from_bytes(id), ([192, 0, network % 8, n], 1 + u16::from(n % 3)).into())
}

/// Three bytes are one event.
pub(super) fn table(bytes: &[u8]) {
    let (start, config) = (Clock::System.now(), TableConfig::default());
    let mut table = RoutingTable::new(OWN, config);
    for (at, event) in (0..).zip(bytes.chunks_exact(3)) {
        let &[kind, n, network] = event else { return };
        let (contact, now) = (contact(n, network), start + Duration::from_millis(500) * at);
        match kind % 6 {
            0 => drop(table.on_answer(contact, now)),
            1 | 2 => drop(table.on_reached(contact, now)),
            3 => drop(table.on_unreachable(&contact.id)),
            4 => drop(table.on_failure(&contact.id, now)),
            _ => table.on_lookup(&Key::from_bytes(*contact.id.as_bytes()), now),
        }
    }
    let members = table.contacts();
    assert_eq!(members.len(), table.len());
    assert!(!table.contains(&OWN));
    let mut of_prefix = BTreeMap::<Prefix, usize>::new();
    for member in &members {
        *of_prefix.entry(Prefix::of(member.addr.ip())).or_default() += 1;
    }
    assert!(of_prefix.values().all(|&count| count <= 3), "{of_prefix:?}");
    let ids: BTreeSet<_> = members.iter().map(|member| member.id).collect();
    assert_eq!(ids.len(), members.len(), "nobody is in it twice");
    let target = Key::of("target");
    let closest = table.closest(&target, 20);
    assert!(closest.is_sorted_by_key(|contact| target.distance_to(&contact.id)));
}

/// Two bytes are one event; the first four nodes are the seeds.
pub(super) fn lookup(bytes: &[u8]) {
    let (target, mut now) = (Key::of("target"), Clock::System.now());
    let config = LookupConfig::new(OWN, now + Duration::from_secs(60));
    let mut lookup = Lookup::new(target, (0..4).map(|n| contact(n, 1)), config);
    let mut asked = Vec::new();
    for event in bytes.chunks_exact(2) {
        let &[kind, n] = event else { return };
        match lookup.poll(now) {
            Step::Query(contact) => {
                assert_ne!(contact.id, OWN);
                assert!(
                    asked.iter().all(|before: &Contact| before != &contact),
                    "{contact:?} was asked before"
                );
                asked.push(contact);
                assert!(asked.len() <= REQUESTS_MAX);
                lookup.on_sent(contact, now + Duration::from_millis(300));
            }
            Step::Wait { until } => now = if kind % 4 == 0 { until } else { now + Duration::from_millis(10) },
            Step::Done(outcome) => {
                assert!(outcome.closest.len() <= config.k);
                assert!(outcome.closest.is_sorted_by_key(|contact| target.distance_to(&contact.id)));
                return;
            }
        }
        let from = asked.get(usize::from(n) % asked.len().max(1)).copied().unwrap_or(contact(n, 2));
        match kind % 5 {
            0 | 1 => lookup.on_reply(from, (0..n % 32).map(|m| contact(m.wrapping_mul(kind), n))),
            2 => lookup.on_failure(from),
            3 => drop(lookup.on_suspicion(&from.id)),
            _ => lookup.on_reply(contact(n, kind), [contact(kind, n)]),
        }
    }
}
