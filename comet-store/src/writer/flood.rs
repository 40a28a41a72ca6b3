//! What junk does to a store: tests of the quotas with whole records.

use comet_routing::Prefix;

use super::{
    tests::{STORED, commit, put},
    *,
};
use crate::{
    RECORD_OVERHEAD_BYTES, in_memory,
    sample::{NOW, owned, plain},
};

const RECORD_BYTES: u64 = 2_048;
const CAPACITY: u64 = 2_048 * RECORD_BYTES;

/// How many honest networks have put something, and how many put something new when the flood is over.
const HONEST: u64 = 20;
const NEWCOMERS: u64 = 5;

fn small() -> StoreConfig {
    StoreConfig { bytes_max: CAPACITY, bytes_per_source: CAPACITY / 4, ..StoreConfig::default() }
}

fn sized(name: &str) -> Record {
    plain(name, 1, &vec![0; (RECORD_BYTES - RECORD_OVERHEAD_BYTES) as usize])
}

fn network(n: u64) -> Prefix {
    Prefix::of([10, (n >> 8) as u8, n as u8, 1].into())
}

/// Fills a store that holds what honest networks put with ten times its capacity, one network after the other, and
/// half of it signed with keys made for it. Says how many honest objects are lost, and what becomes of the puts of
/// honest networks that come after it.
fn after_a_flood(networks: u64, charged: impl Fn(Prefix) -> Option<Source>) -> (usize, Vec<PutResult>) {
    let (mut writer, reader) = in_memory(small());
    let honest: Vec<_> = (0..HONEST).map(|n| sized(&format!("honest {n}"))).collect();
    for (n, record) in (1_000..).zip(&honest) {
        writer.put(record, charged(network(n)), Rule::IfNewer, None, NOW).unwrap();
    }
    let each = 10 * CAPACITY / RECORD_BYTES / networks;
    for (n, at) in (0..networks).flat_map(|n| (0..each).map(move |at| (n, at))) {
        let name = format!("junk {n} {at}");
        let data = vec![0; (RECORD_BYTES - RECORD_OVERHEAD_BYTES) as usize];
        let junk = if at % 2 == 0 { sized(&name) } else { owned(at as u8, &name, 1, &data) };
        // What becomes of it is the flood's affair.
        writer.put(&junk, charged(network(n)), Rule::IfNewer, None, NOW).ok();
        if at % 256 == 0 {
            commit(&mut writer);
        }
    }
    let newcomers = (2_000..2_000 + NEWCOMERS)
        .map(|n| writer.put(&sized(&format!("new {n}")), charged(network(n)), Rule::IfNewer, None, NOW));
    let newcomers = newcomers.collect();
    commit(&mut writer);
    let is_lost = |record: &&Record| reader.record(&record.key, NOW) != Ok(Some((*record).clone()));
    (honest.iter().filter(is_lost).count(), newcomers)
}

type PutResult = Result<PutOutcome, StoreError>;

#[test]
fn ten_times_the_capacity_of_junk_costs_no_honest_object_and_keeps_no_honest_network_out() {
    for networks in [1, 4, 30] {
        let after = after_a_flood(networks, |prefix| Some(Source::Put(prefix)));
        assert_eq!(after, (0, vec![STORED; NEWCOMERS as usize]), "{networks} networks");
    }
    // The control: where nobody is charged, the first to come fill the store for as long as their junk lives.
    let used = CAPACITY + RECORD_BYTES;
    let full = QuotaExceeded { what: Quota::Bytes, used, limit: CAPACITY };
    let after = after_a_flood(4, |_| None);
    assert_eq!(after, (0, vec![Err(full.into()); NEWCOMERS as usize]));
}

#[test]
fn ten_thousand_keys_of_one_network_get_no_more_than_one() {
    let held = |charged: Option<Source>| {
        let (mut writer, reader) =
            in_memory(StoreConfig { records_per_source: 100, ..StoreConfig::default() });
        for n in 0..10_000u64 {
            let name = n.to_string();
            let mut record = owned(0, &name, 1, b"");
            record.ownership.as_mut().unwrap().public_key[..8].copy_from_slice(&n.to_be_bytes());
            writer.put(&record, charged, Rule::IfNewer, None, NOW).ok();
        }
        commit(&mut writer);
        reader.totals().records
    };
    assert_eq!(held(Some(Source::Put(network(1)))), 100);
    assert_eq!(held(None), 10_000, "the control");
}

/// What a neighbour says to a put through a node on which strangers left junk for it to copy.
fn of_a_launderers_client(copied: fn(Prefix) -> Source) -> (PutResult, u64) {
    let (mut writer, reader) = in_memory(small());
    let node = network(1);
    for n in 0..2 * CAPACITY / RECORD_BYTES {
        let junk = sized(&format!("junk {n}"));
        writer.put(&junk, Some(copied(node)), Rule::IfNewer, None, NOW).ok();
    }
    commit(&mut writer);
    let junk_bytes = reader.totals().bytes;
    (writer.put(&sized("honest"), Some(Source::Put(node)), Rule::IfNewer, None, NOW), junk_bytes)
}

#[test]
fn junk_that_a_node_passed_on_is_bounded_and_keeps_its_own_clients_in() {
    let (honest, junk_bytes) = of_a_launderers_client(Source::Copy);
    assert_eq!(honest, STORED);
    assert!((CAPACITY / 4..CAPACITY / 2).contains(&junk_bytes), "{junk_bytes} of {CAPACITY} bytes");
    // The control: copies on the account of the node's puts.
    let (honest, junk_bytes) = of_a_launderers_client(Source::Put);
    let (used, limit) = (junk_bytes + RECORD_BYTES, CAPACITY / 4);
    assert_eq!(honest, Err(QuotaExceeded { what: Quota::SourceBytes, used, limit }.into()));
}

#[test]
fn this_nodes_own_clients_may_fill_it() {
    let (mut writer, reader) = in_memory(small());
    for n in 0..CAPACITY / RECORD_BYTES {
        assert_eq!(put(&mut writer, &sized(&n.to_string()), Rule::IfNewer), STORED);
    }
    commit(&mut writer);
    assert_eq!(reader.totals().bytes, CAPACITY);
}
