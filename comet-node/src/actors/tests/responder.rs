//! The responder between probe objects and a probe router.

use comet_runtime::{Origin, Trail, Value};
use comet_store::{Code, DeleteRecord, Deletion, Ownership, PutRecord, ReplicaStore, Rule, content_hash};
use ring::signature::{Ed25519KeyPair, KeyPair};
use tokio::sync::oneshot;

use super::*;
use crate::{
    actors::{Desk, DialBack, Responder, ResponderConfig},
    operation::RateLimits,
    transport::Received,
    wire::{Object, Summary, Verdict, decode_answer},
};

/// Stands where the prober would: reaches nobody but [`node`] 1.
struct Dialler;

impl Actor for Dialler {
    type Context = Context<Self>;
}

impl Handler<DialBack> for Dialler {
    type Result = Result<bool, Refusal>;

    fn handle(&mut self, DialBack { contact }: DialBack, _: &mut Self::Context) -> Self::Result {
        Ok(contact == node(1))
    }
}

struct Office {
    responder: Addr<Responder>,
    router: Addr<Knower>,
    objects: Addr<Objects>,
    store: Addr<ReplicaStore>,
    watch: Addr<Watch>,
}

impl Office {
    fn start(config: ResponderConfig, after: Duration) -> Self {
        Self::start_at(node(0), 30, config, after)
    }

    /// An office of the node `own` that knows the `known` nodes nearest to [`key`].
    fn start_at(own: Contact, known: u8, config: ResponderConfig, after: Duration) -> Self {
        let served = Served::Stored { version: version(1), usage: Usage::default() };
        Self::start_around(Objects::start_with(after, Ok(served)), own, known, config)
    }

    fn start_around(objects: Addr<Objects>, own: Contact, known: u8, config: ResponderConfig) -> Self {
        let clock = Clock::starting_at(WALL_MS);
        let router = Knower::start_with((1..=known).map(node));
        let closest = router.clone().recipient();
        let (writer, reader) = comet_store::in_memory(StoreConfig::default());
        let shards = vec![objects.clone().recipient()];
        let replica = Replica::new(Arc::new(Directory::default()), reader.clone(), shards, clock);
        let store = ReplicaStore::new(writer, clock, Vec::new()).start();
        let watch = Watch::start_with();
        let check = watch.clone().recipient();
        let dial_back = Dialler.start().recipient();
        let desk = Desk { own, gate: gate(), replica, reader, check, dial_back, closest, clock };
        let responder = Responder::new(desk, router.clone().recipient(), config).start();
        Self { responder, router, objects, store, watch }
    }

    fn receive(&self, from: Contact, request: impl Into<Bytes>) -> oneshot::Receiver<Bytes> {
        let (reply, answer) = oneshot::channel();
        self.responder.do_send(Received { from, request: request.into(), reply });
        answer
    }

    async fn answer(&self, from: Contact, request: impl Into<Bytes>) -> Answer {
        let frame = self.receive(from, request).await.expect("every request is answered");
        decode_answer(&frame).expect("the answer is a frame")
    }
}

fn put() -> Bytes {
    let object = Object {
        key: key(),
        sequence: 1,
        ownership: None,
        ttl_seconds: 60,
        replicas: 8,
        code: None,
        publication: None,
        data: Value::Int(1).encode(),
    };
    Request::Put { object, trail: Trail::FRESH.into() }.encode()
}

#[test]
fn peers_learn_their_address_and_the_closest_contacts() {
    paused(async {
        let office = Office::start(ResponderConfig::default(), ms(0));
        assert_eq!(
            office.answer(node(1), Request::Ping.encode()).await,
            Ok(Reply::Pong { you: node(1).addr })
        );
        let find = Request::FindNode { target: key(), count: 3 }.encode();
        let contacts = (1..=3).map(node).collect();
        assert_eq!(office.answer(node(1), find).await, Ok(Reply::Nodes { contacts }));
    });
}

#[test]
fn peers_are_told_whether_they_can_be_reached_where_they_ask_from() {
    paused(async {
        let office = Office::start(ResponderConfig::default(), ms(0));
        for (n, reachable) in [(1, true), (2, false)] {
            let told = office.answer(node(n), Request::DialBack.encode()).await;
            assert_eq!(told, Ok(Reply::Dialled { reachable }));
        }
    });
}

#[test]
fn a_digest_is_compared_with_what_is_held_and_who_is_behind_is_remembered() {
    paused(async {
        let office = Office::start(ResponderConfig::default(), ms(0));
        let record = super::replicator::plain(5, 8);
        let (held, rule) = (record.version, Rule::IfNewer);
        let put = PutRecord { record: record.into(), source: None, rule, timer_ms: None };
        office.store.send(put).await.expect("the store runs").expect("it stores");
        let deletion = Some(Deletion::up_to(9, None));
        let deleted = Key::of("deleted");
        office
            .store
            .send(DeleteRecord { key: deleted, deletion, source: None })
            .await
            .expect("it runs")
            .expect("it deletes");
        let summary = |key, sequence| Summary { key, version: Version { sequence, ..held } };
        let gone = Verdict::Gone { sequence: 9, ownership: None };
        for (held_there, deleted_there, verdicts) in [
            (5, 9, vec![Verdict::Same, gone]),
            (6, 10, vec![Verdict::Older, Verdict::Missing]),
            (4, 11, vec![Verdict::Newer, Verdict::Missing]),
        ] {
            let summaries = vec![summary(key(), held_there), summary(deleted, deleted_there)];
            let answer = office.answer(node(1), Request::Digest { summaries }.encode()).await;
            assert_eq!(answer, Ok(Reply::Compared { verdicts }));
        }
        let noted = office.watch.send(TakeChecks).await.expect("the watch runs");
        assert_eq!(noted, [key()], "the one that is newer here");
        for asked in [key(), deleted] {
            let check = Request::Check { key: asked }.encode();
            assert_eq!(office.answer(node(1), check).await, Ok(Reply::Noted));
        }
        let noted = office.watch.send(TakeChecks).await.expect("the watch runs");
        assert_eq!(noted, [key()], "the other one is not held here");
    });
}

fn digest(names: impl IntoIterator<Item = u16>) -> Bytes {
    let summary = |n: u16| Summary { key: Key::of(n.to_string()), version: version(1) };
    Request::Digest { summaries: names.into_iter().map(summary).collect() }.encode()
}

#[test]
fn a_digest_that_names_a_key_twice_is_refused() {
    paused(async {
        let office = Office::start(ResponderConfig::default(), ms(0));
        let twice = office.answer(node(1), digest([1, 2, 1])).await;
        assert_eq!(twice, Err(Refusal::Invalid("the digest names a key twice".into())));
        let verdicts = vec![Verdict::Missing; 2];
        assert_eq!(office.answer(node(1), digest([1, 2])).await, Ok(Reply::Compared { verdicts }));
    });
}

#[test]
fn other_requests_have_their_turn_between_digests_of_which_a_peer_has_two_at_once() {
    paused(async {
        let office = Office::start(ResponderConfig::default(), ms(0));
        let digests = [0, 1, 2].map(|_| office.receive(node(1), digest(0..128)));
        let other = office.receive(node(2), digest(0..128));
        let mut answers = Vec::new();
        for answer in digests.into_iter().chain([other]) {
            answers.push(decode_answer(&answer.await.unwrap()).unwrap());
        }
        let compared = Ok(Reply::Compared { verdicts: vec![Verdict::Missing; 128] });
        let refused = Err(Refusal::Overloaded("the node".into()));
        assert_eq!(answers, [compared.clone(), compared.clone(), refused, compared.clone()]);
        assert_eq!(office.answer(node(1), digest(0..128)).await, compared, "its places are free again");
    });
}

#[test]
fn rubbish_and_unknown_requests_are_told_apart() {
    paused(async {
        let office = Office::start(ResponderConfig::default(), ms(0));
        let rubbish = office.answer(node(1), &b"\xc1 rubbish"[..]).await;
        assert!(matches!(rubbish, Err(Refusal::Invalid(_))), "{rubbish:?}");
        assert_eq!(office.answer(node(1), &b"\x81\xa4warp\x80"[..]).await, Err(Refusal::Unsupported));
    });
}

#[test]
fn a_put_reaches_its_object_with_the_peer_as_caller() {
    paused(async {
        let office = Office::start(ResponderConfig::default(), ms(0));
        assert_eq!(office.answer(node(1), put()).await, Ok(stored()));
        let visits = visits(&office.objects).await;
        let [(at, Visit::Put { caller, record, trail, .. })] = visits.as_slice() else {
            panic!("{visits:?}")
        };
        assert_eq!((*at, record.created_ms, *trail), (key(), WALL_MS, Trail::FRESH));
        assert_eq!((caller.node, caller.origin), (node(1), Origin::Client));
    });
}

#[test]
fn an_object_is_answered_with_at_most_half_of_the_bytes_that_its_get_brought_and_a_client_with_any_number() {
    paused(async {
        let value = Value::str("x".repeat(1_000)).encode();
        let size = value.len() as u32;
        let (version, usage) = (version(1), Usage::default());
        let served = Served::Got { value: value.clone(), version, active: true, usage, seal: None };
        let objects = Objects::start_with(ms(0), Ok(served));
        let office = Office::start_around(objects, node(0), 30, ResponderConfig::default());
        let (mut record, code) = (super::replicator::plain(1, 8), Code::new("aso = {}"));
        record.version.hash = content_hash(Some(&code.hash), &record.data);
        record.code = Some(code);
        let held = PutRecord { record: record.into(), source: None, rule: Rule::IfNewer, timer_ms: None };
        office.store.send(held).await.expect("the store runs").expect("it stores");
        let get = |callback, bytes| {
            let trail = Trail { messages: 4, bytes, depth: 2 };
            Request::Get { key: key(), payload: None, callback, trail: trail.into() }.encode()
        };
        let got = Ok(Reply::Got { value, version, active: true, usage, seal: None });
        let too_large = Err(Refusal::TooLarge {
            what: "the answer to the object".into(),
            size: size.into(),
            limit: u64::from(size) - 1,
        });
        let object = Some(Key::of("who asks"));
        assert_eq!(office.answer(node(1), get(object, 2 * size)).await, got);
        assert_eq!(office.answer(node(1), get(object, 2 * size - 1)).await, too_large);
        assert_eq!(office.answer(node(1), get(None, 0)).await, got, "the control: a client's get");
        let visits = visits(&office.objects).await;
        let left = visits.iter().filter_map(|(_, visit)| {
            if let Visit::Get { trail, .. } = visit { Some(trail.bytes) } else { None }
        });
        assert_eq!(left.collect::<Vec<_>>(), [size, size - 1, 0], "the handler has the other half");
    });
}

#[test]
fn a_request_that_breaks_a_rule_reaches_no_object() {
    paused(async {
        let office = Office::start(ResponderConfig::default(), ms(0));
        let delete = Request::Delete { key: key(), sequence: 1, ownership: None, trail: Trail::FRESH.into() };
        assert_eq!(office.answer(node(1), delete.encode()).await, Ok(stored()), "the control");
        let payload = Some(Bytes::from_static(b"\xc1"));
        let get = Request::Get { key: key(), payload, callback: None, trail: Trail::FRESH.into() };
        assert!(matches!(office.answer(node(1), get.encode()).await, Err(Refusal::Invalid(_))));
        assert_eq!(visits(&office.objects).await.len(), 1);
    });
}

#[test]
fn what_belongs_to_nearer_nodes_is_not_taken_from_a_peer_unless_it_is_held_already() {
    paused(async {
        let delete = Request::Delete { key: key(), sequence: 1, ownership: None, trail: Trail::FRESH.into() };
        let elsewhere = Err(Refusal::Elsewhere { nearer: 40 });
        let at = |own, known| Office::start_at(node(own), known, ResponderConfig::default(), ms(0));
        let far = at(200, 60);
        for request in [put(), delete.encode()] {
            assert_eq!(far.answer(node(1), request).await, elsewhere);
        }
        assert_eq!(visits(&far.objects).await.len(), 0);
        // The controls: a node that is near, and one that knows too few others to say that it is not.
        for office in [at(40, 60), at(200, 39)] {
            assert_eq!(office.answer(node(1), put()).await, Ok(stored()));
        }
        let record = super::replicator::plain(1, 8);
        let held = PutRecord { record: record.into(), source: None, rule: Rule::IfNewer, timer_ms: None };
        far.store.send(held).await.expect("the store runs").expect("it stores");
        for request in [put(), delete.encode()] {
            assert_eq!(far.answer(node(1), request).await, Ok(stored()));
        }
    });
}

#[test]
fn a_peer_that_asks_too_much_at_once_is_refused_and_others_are_served() {
    paused(async {
        let config = ResponderConfig { requests_per_peer_max: 1, ..ResponderConfig::default() };
        let office = Office::start(config, ms(100));
        let first = office.receive(node(1), put());
        let refused = Err(Refusal::Overloaded("the node".into()));
        assert_eq!(office.answer(node(1), put()).await, refused);
        assert_eq!(office.answer(node(2), put()).await, Ok(stored()));
        assert_eq!(decode_answer(&first.await.unwrap()), Ok(Ok(stored())));
        assert_eq!(office.answer(node(1), put()).await, Ok(stored()), "its place is free again");
    });
}

#[test]
fn a_place_is_taken_until_the_object_is_done_even_if_the_peer_is_gone() {
    paused(async {
        let config = ResponderConfig { requests_max: 1, ..ResponderConfig::default() };
        let office = Office::start(config, ms(100));
        let first = office.receive(node(1), put());
        sleep(ms(10)).await;
        drop(first);
        let refused = Err(Refusal::Overloaded("the node".into()));
        assert_eq!(office.answer(node(2), put()).await, refused);
        sleep(ms(100)).await;
        assert_eq!(office.answer(node(2), put()).await, Ok(stored()));
    });
}

#[test]
fn the_router_hears_of_a_peer_that_asks_once_in_a_while() {
    paused(async {
        let office = Office::start(ResponderConfig::default(), ms(0));
        for pause in [0, 1_000, 58_999, 1] {
            sleep(ms(pause)).await;
            office.answer(node(1), Request::Ping.encode()).await.unwrap();
        }
        office.answer(node(2), Request::Ping.encode()).await.unwrap();
        let heard = |at, n| (ms(at), Told::Heard { contact: node(n) });
        let told = office.router.send(TakeTold).await.unwrap();
        assert_eq!(told, [heard(0, 1), heard(60_000, 1), heard(60_000, 2)]);
    });
}

/// A put in the name of an owner whose signature it does not carry, which costs a verification to find out.
fn forged() -> Bytes {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).expect("a seed");
    let public_key = pair.public_key().as_ref().try_into().expect("32 bytes");
    let key = Key::owned(&public_key, "name");
    let ownership = Some(Ownership { public_key, salt: Key::salt("name"), signature: [0; 64] }.into());
    let object = Object {
        key,
        sequence: 1,
        ownership,
        ttl_seconds: 60,
        replicas: 8,
        code: None,
        publication: None,
        data: Value::Int(1).encode(),
    };
    Request::Put { object, trail: Trail::FRESH.into() }.encode()
}

/// How many of `count` forged puts of one network, under many ids, had their signatures checked; the network's and
/// another network's next request.
async fn flood(rates: RateLimits, count: u16) -> (usize, Answer, Answer) {
    let office = Office::start(ResponderConfig { rates, ..ResponderConfig::default() }, ms(0));
    let outside = |network: u8, n: u16| {
        let [high, low] = n.to_be_bytes();
        let mut id = [network; 32];
        (id[0], id[1]) = (high, low);
        Contact::new(NodeId::from_bytes(id), (Ipv4Addr::new(203, 0, network, low), 7400).into())
    };
    let mut checked = 0;
    for n in 0..count {
        match office.answer(outside(1, n), forged()).await {
            Err(Refusal::NotOwner(_)) => checked += 1,
            answer => assert_eq!(answer, Err(Refusal::Overloaded("the node".into()))),
        }
    }
    (checked, office.answer(outside(1, 0), put()).await, office.answer(outside(2, 0), put()).await)
}

#[test]
fn a_flood_of_bad_signatures_is_refused_unread_and_other_networks_are_served() {
    paused(async {
        let limits = RateLimits::default();
        let overloaded = Err(Refusal::Overloaded("the node".into()));
        let checked = (limits.burst / limits.fault_cost) as usize;
        assert_eq!(flood(limits, 20_000).await, (checked, overloaded, Ok(stored())));
    });
}

#[test]
fn without_a_rate_every_bad_signature_of_a_flood_is_checked() {
    paused(async {
        let limits = RateLimits { burst: u32::MAX, fault_cost: 1, ..RateLimits::default() };
        assert_eq!(flood(limits, 1_000).await, (1_000, Ok(stored()), Ok(stored())));
    });
}
