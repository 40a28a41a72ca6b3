//! The prober between a probe transport and a probe router.

use comet_routing::actor::{ContactReached, ContactUnreachable, SendProbe};

use super::*;
use crate::{
    actors::{DialBack, Prober},
    transport::Probe,
};

/// Stands where the transport would: reaches the nodes with an even number, and nobody when it has too much to do.
struct Wall {
    probed: Vec<Contact>,
    is_busy: bool,
}

impl Actor for Wall {
    type Context = Context<Self>;
}

impl Handler<Probe> for Wall {
    type Result = ResponseFuture<Result<(), TransportError>>;

    fn handle(&mut self, Probe { contact, .. }: Probe, _: &mut Self::Context) -> Self::Result {
        self.probed.push(contact);
        let reached = if self.is_busy {
            Err(TransportError::Busy)
        } else if contact.addr.port().is_multiple_of(2) {
            Ok(())
        } else {
            Err(TransportError::Unreachable)
        };
        Box::pin(async move {
            sleep(ms(40)).await;
            reached
        })
    }
}

#[derive(Message)]
#[rtype(result = "Vec<Contact>")]
struct TakeProbed;

impl Handler<TakeProbed> for Wall {
    type Result = Vec<Contact>;

    fn handle(&mut self, _: TakeProbed, _: &mut Self::Context) -> Self::Result {
        std::mem::take(&mut self.probed)
    }
}

/// Stands where the router would.
#[derive(Default)]
struct Told(Vec<(Contact, bool)>);

impl Actor for Told {
    type Context = Context<Self>;
}

impl Handler<ContactReached> for Told {
    type Result = ();

    fn handle(&mut self, ContactReached { contact }: ContactReached, _: &mut Self::Context) {
        self.0.push((contact, true));
    }
}

impl Handler<ContactUnreachable> for Told {
    type Result = ();

    fn handle(&mut self, ContactUnreachable { id }: ContactUnreachable, _: &mut Self::Context) {
        let contact = (0..9).map(node).find(|contact| contact.id == id).expect("a node of the scenario");
        self.0.push((contact, false));
    }
}

#[derive(Message)]
#[rtype(result = "Vec<(Contact, bool)>")]
struct TakeReported;

impl Handler<TakeReported> for Told {
    type Result = Vec<(Contact, bool)>;

    fn handle(&mut self, _: TakeReported, _: &mut Self::Context) -> Self::Result {
        std::mem::take(&mut self.0)
    }
}

struct Post {
    wall: Addr<Wall>,
    router: Addr<Told>,
    prober: Addr<Prober>,
}

impl Post {
    fn start(is_busy: bool) -> Self {
        let wall = Wall { probed: Vec::new(), is_busy }.start();
        let router = Told::default().start();
        let (reached, unreachable) = (router.clone().recipient(), router.clone().recipient());
        let clock = Clock::starting_at(WALL_MS);
        let prober = Prober::new(wall.clone().recipient(), reached, unreachable, clock).start();
        Self { wall, router, prober }
    }

    async fn dial_back(&self, n: u8) -> Result<bool, Refusal> {
        self.prober.send(DialBack { contact: node(n) }).await.unwrap()
    }
}

fn overloaded<T>() -> Result<T, Refusal> {
    Err(Refusal::Overloaded("the node".into()))
}

#[test]
fn the_router_hears_what_came_of_each_probe() {
    paused(async {
        let post = Post::start(false);
        for n in 0..2 {
            post.prober.do_send(SendProbe { to: node(n) });
        }
        sleep(ms(50)).await;
        assert_eq!(post.router.send(TakeReported).await.unwrap(), [(node(0), true), (node(1), false)]);
    });
}

#[test]
fn a_peer_is_dialled_back_where_it_asks_from_and_once_in_a_while() {
    paused(async {
        let post = Post::start(false);
        assert_eq!(post.dial_back(0).await, Ok(true));
        assert_eq!(post.dial_back(1).await, Ok(false));
        assert_eq!(post.dial_back(0).await, overloaded());
        assert_eq!(post.wall.send(TakeProbed).await.unwrap(), [node(0), node(1)]);
        sleep(Duration::from_secs(30)).await;
        assert_eq!(post.dial_back(0).await, Ok(true));
        assert_eq!(post.router.send(TakeReported).await.unwrap(), [], "the router did not ask");
    });
}

#[test]
fn a_node_that_could_not_dial_says_so_instead_of_calling_the_peer_unreachable() {
    paused(async {
        assert_eq!(Post::start(true).dial_back(1).await, overloaded());
    });
}

#[test]
fn a_probe_that_was_not_made_does_not_count_against_a_newcomer() {
    paused(async {
        let post = Post::start(true);
        post.prober.do_send(SendProbe { to: node(1) });
        sleep(ms(50)).await;
        assert_eq!(post.wall.send(TakeProbed).await.unwrap(), [node(1)]);
        assert_eq!(post.router.send(TakeReported).await.unwrap(), []);
    });
}
