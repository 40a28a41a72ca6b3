//! The courier between a probe transport and a probe router.

use comet_routing::actor::{SendFindNode, SendPing};
use tokio::sync::oneshot;

use super::*;
use crate::{
    actors::{Carry, Connect, Courier, CourierConfig, Overdue, RouterLinks},
    operation::Heard,
};

struct Post {
    network: Addr<Network>,
    router: Addr<Knower>,
    courier: Addr<Courier>,
    started: Instant,
}

impl Post {
    async fn start(manners: impl IntoIterator<Item = (Contact, Manner)>) -> Self {
        let (network, router) = (Network::start_with(manners), Knower::start_with([]));
        let clock = Clock::starting_at(WALL_MS);
        let courier = Courier::new(network.clone().recipient(), clock, CourierConfig::default()).start();
        let links = RouterLinks {
            replied: router.clone().recipient(),
            failed: router.clone().recipient(),
            answered: router.clone().recipient(),
            suspected: router.clone().recipient(),
        };
        courier.send(Connect(links)).await.unwrap();
        Self { network, router, courier, started: Instant::now() }
    }

    fn carry(&self, to: Contact) -> (oneshot::Receiver<Overdue>, oneshot::Receiver<Heard>) {
        let (overdue, is_overdue) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let request = Request::Inspect { key: key() }.encode();
        self.courier.do_send(Carry { to, request, deadline: ms(5_000), overdue, answer });
        (is_overdue, answered)
    }

    async fn told(&self) -> Vec<(Duration, Told)> {
        self.router.send(TakeTold).await.unwrap()
    }

    fn query(&self, query: u64, to: Contact) {
        self.courier.do_send(SendFindNode { query, to, target: key(), count: 20 });
    }
}

fn answers(acknowledged_ms: u64, answered_ms: u64) -> Manner {
    Manner::Answers { acknowledged_ms, answered_ms, answer: Ok(stored()) }
}

fn nodes_reply() -> Answer {
    Ok(Reply::Nodes { contacts: vec![node(7), node(8)] })
}

#[test]
fn a_lost_request_makes_a_stranger_suspect_after_300_ms_and_a_late_answer_counts() {
    paused(async {
        let late = Manner::Late { answered_ms: 500, answer: Ok(stored()) };
        let post = Post::start([(node(1), late)]).await;
        let (suspected, answered) = post.carry(node(1));
        assert_eq!(suspected.await, Ok(Overdue::Acknowledgement));
        assert_eq!(post.started.elapsed(), ms(300));
        assert_eq!(answered.await, Ok(Heard::Reply(stored())));
        assert_eq!(post.started.elapsed(), ms(500));
        let answered = Told::Answered { contact: node(1), rtt: Some(ms(500)) };
        let suspected = Told::Suspected { id: node(1).id };
        assert_eq!(post.told().await, [(ms(300), suspected), (ms(500), answered)]);
    });
}

#[test]
fn a_known_peer_is_suspect_after_its_own_timeout() {
    paused(async {
        let post = Post::start([(node(1), answers(40, 40))]).await;
        assert_eq!(post.carry(node(1)).1.await, Ok(Heard::Reply(stored())));
        post.network.send(Treat(node(1), Manner::Lost)).await.unwrap();
        let asked = Instant::now();
        let (suspected, _answered) = post.carry(node(1));
        assert_eq!(suspected.await, Ok(Overdue::Acknowledgement));
        assert_eq!(asked.elapsed(), ms(80), "40 ms and four deviations of 10 ms");
    });
}

#[test]
fn a_peer_not_heard_of_for_long_is_given_the_time_to_connect_again() {
    paused(async {
        let post = Post::start([(node(1), answers(40, 40))]).await;
        assert_eq!(post.carry(node(1)).1.await, Ok(Heard::Reply(stored())));
        post.network.send(Treat(node(1), Manner::Lost)).await.unwrap();
        tokio::time::advance(ms(30_000)).await;
        let asked = Instant::now();
        let (suspected, _answered) = post.carry(node(1));
        assert_eq!(suspected.await, Ok(Overdue::Acknowledgement));
        assert_eq!(asked.elapsed(), ms(160), "twice 80 ms");
    });
}

#[test]
fn strangers_are_given_what_strangers_take() {
    paused(async {
        let post = Post::start((1..=8).map(|n| (node(n), answers(20, 20)))).await;
        for n in 1..=8 {
            assert_eq!(post.carry(node(n)).1.await, Ok(Heard::Reply(stored())));
        }
        let asked = Instant::now();
        let (suspected, _answered) = post.carry(node(9));
        assert_eq!(suspected.await, Ok(Overdue::Acknowledgement));
        assert_eq!(asked.elapsed(), ms(60));
    });
}

#[test]
fn a_slow_handler_is_told_of_and_makes_nobody_suspect() {
    paused(async {
        let post = Post::start([(node(1), answers(40, 3_000))]).await;
        let (slow, answered) = post.carry(node(1));
        assert_eq!(slow.await, Ok(Overdue::Answer));
        assert_eq!(post.started.elapsed(), ms(300), "a stranger's time");
        assert_eq!(answered.await, Ok(Heard::Reply(stored())));
        let told = |at, rtt| (at, Told::Answered { contact: node(1), rtt: Some(rtt) });
        assert_eq!(post.told().await, [told(ms(3_000), ms(40))], "the handler's time is not the network's");

        let (slow, _answered) = post.carry(node(1));
        assert_eq!(slow.await, Ok(Overdue::Answer));
        assert_eq!(post.started.elapsed(), ms(3_100), "its timeout of 80 ms would be too short for a disk");
    });
}

#[test]
fn a_query_is_answered_to_the_router() {
    paused(async {
        let answer = nodes_reply();
        let manner = Manner::Answers { acknowledged_ms: 40, answered_ms: 50, answer };
        let post = Post::start([(node(1), manner)]).await;
        post.query(3, node(1));
        sleep(ms(60)).await;
        let replied = Told::Replied { query: 3, closer: vec![node(7), node(8)], rtt: ms(40) };
        assert_eq!(post.told().await, [(ms(50), replied)]);
    });
}

#[test]
fn whatever_else_becomes_of_a_query_it_fails_once() {
    paused(async {
        let busy = Err(Refusal::Overloaded("the node".into()));
        let busy = Manner::Answers { acknowledged_ms: 40, answered_ms: 40, answer: busy };
        let suspected = || Told::Suspected { id: node(1).id };
        let answered = Told::Answered { contact: node(1), rtt: Some(ms(40)) };
        let failed = Told::Failed { query: 3 };
        for (manner, before, at_ms) in [
            (Manner::Lost, Some((ms(300), suspected())), 3_000),
            (Manner::Fails(TransportError::Unreachable), Some((ms(0), suspected())), 0),
            (Manner::Fails(TransportError::Busy), None, 0),
            (Manner::Breaks { acknowledged_ms: Some(40), broken_ms: 50 }, None, 50),
            (Manner::Breaks { acknowledged_ms: None, broken_ms: 500 }, Some((ms(300), suspected())), 500),
            (Manner::Says(Bytes::from_static(b"rubbish")), None, 0),
            (busy, Some((ms(40), answered)), 40),
        ] {
            let post = Post::start([(node(1), manner.clone())]).await;
            post.query(3, node(1));
            sleep(ms(4_000)).await;
            let expected: Vec<_> = before.into_iter().chain([(ms(at_ms), failed.clone())]).collect();
            assert_eq!(post.told().await, expected, "{manner:?}");
        }
    });
}

#[test]
fn a_ping_is_answered_or_its_contact_suspected() {
    paused(async {
        let pong = Ok(Reply::Pong { you: node(9).addr });
        let manner = Manner::Answers { acknowledged_ms: 40, answered_ms: 40, answer: pong };
        let post = Post::start([(node(1), manner)]).await;
        post.courier.do_send(SendPing { to: node(1) });
        post.courier.do_send(SendPing { to: node(2) });
        sleep(ms(4_000)).await;
        let answered = Told::Answered { contact: node(1), rtt: Some(ms(40)) };
        assert_eq!(post.told().await, [(ms(40), answered), (ms(300), Told::Suspected { id: node(2).id })]);
    });
}

#[test]
fn a_request_that_nobody_waits_for_is_called_off_and_counts_against_nobody() {
    paused(async {
        let post = Post::start([]).await;
        let (suspected, answered) = post.carry(node(1));
        sleep(ms(100)).await;
        drop(answered);
        assert!(suspected.await.is_err());
        sleep(ms(1_000)).await;
        assert_eq!(post.told().await, []);
    });
}
