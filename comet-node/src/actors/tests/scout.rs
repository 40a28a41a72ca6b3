//! The scout between a probe router and a probe courier.

use comet_routing::actor::Contacts;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::*;
use crate::{
    actors::{Carry, Scout},
    operation::{Heard, OwnRole, Role},
};

/// Knows some contacts, and carries requests to them: each answers the same.
struct Neighbourhood {
    contacts: u8,
    verdict: Option<bool>,
    started: Instant,
    asked_at: Vec<Duration>,
}

impl Actor for Neighbourhood {
    type Context = Context<Self>;
}

impl Handler<Contacts> for Neighbourhood {
    type Result = Vec<Contact>;

    fn handle(&mut self, _: Contacts, _: &mut Self::Context) -> Self::Result {
        (1..=self.contacts).map(node).collect()
    }
}

impl Handler<Carry> for Neighbourhood {
    type Result = ();

    fn handle(&mut self, carry: Carry, _: &mut Self::Context) {
        assert_eq!(Request::decode(&carry.request), Ok(Request::DialBack));
        self.asked_at.push(self.started.elapsed());
        let heard = match self.verdict {
            Some(reachable) => Heard::Reply(Reply::Dialled { reachable }),
            None => Heard::Refused(Refusal::Unsupported),
        };
        carry.answer.send(heard).expect("the scout waits");
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Say(Option<bool>);

impl Handler<Say> for Neighbourhood {
    type Result = ();

    fn handle(&mut self, Say(verdict): Say, _: &mut Self::Context) {
        self.verdict = verdict;
    }
}

#[derive(Message)]
#[rtype(result = "Vec<Duration>")]
struct TakeAskedAt;

impl Handler<TakeAskedAt> for Neighbourhood {
    type Result = Vec<Duration>;

    fn handle(&mut self, _: TakeAskedAt, _: &mut Self::Context) -> Self::Result {
        std::mem::take(&mut self.asked_at)
    }
}

fn start(contacts: u8, verdict: Option<bool>) -> (Addr<Neighbourhood>, OwnRole) {
    let around = Neighbourhood { contacts, verdict, started: Instant::now(), asked_at: Vec::new() }.start();
    let role = OwnRole::default();
    let rng = ChaCha12Rng::seed_from_u64(3);
    Scout::new(around.clone().recipient(), around.clone().recipient(), role.clone(), exempt(), rng).start();
    (around, role)
}

#[test]
fn a_node_that_nobody_reaches_becomes_a_client_and_a_server_once_it_is_reached() {
    paused(async {
        let (around, role) = start(9, Some(false));
        assert_eq!(role.now(), Role::Unknown);
        sleep(Duration::from_secs(7)).await;
        assert_eq!(role.now(), Role::Unknown, "one round may be a whim");
        assert_eq!(around.send(TakeAskedAt).await.unwrap().len(), 4, "four of nine are asked");
        sleep(Duration::from_secs(72)).await;
        assert_eq!(role.now(), Role::Client);
        assert_eq!(around.send(TakeAskedAt).await.unwrap().len(), 4);
        around.send(Say(Some(true))).await.unwrap();
        sleep(Duration::from_secs(450)).await;
        assert_eq!(role.now(), Role::Client, "until it asks again");
        sleep(Duration::from_secs(280)).await;
        assert_eq!(role.now(), Role::Server);
    });
}

#[test]
fn a_node_asks_more_often_while_nobody_can_say() {
    paused(async {
        let (around, role) = start(1, None);
        sleep(Duration::from_secs(300)).await;
        assert_eq!(role.now(), Role::Unknown);
        let rounds = around.send(TakeAskedAt).await.unwrap().len();
        assert!((4..=7).contains(&rounds), "about once a minute: {rounds}");
    });
}
