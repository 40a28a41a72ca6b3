//! The timer of one active object.

use std::time::Duration;

use actix::{WeakRecipient, prelude::*};

/// The timer fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Tick;

/// Another period, from the next tick on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) struct SetPeriod(pub(crate) Duration);

/// The next tick is due after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) struct Wind(pub(crate) Duration);

/// The object is gone, and so is its timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) struct Retire;

/// Sends [`Tick`] to its object, first after a while and then once in every period or when the object says, until
/// the object is gone.
pub struct AsoTimer {
    first: Duration,
    period: Duration,
    object: WeakRecipient<Tick>,
    next: Option<SpawnHandle>,
}

impl AsoTimer {
    /// A timer for the object behind `object`, which it does not keep alive.
    pub fn new(first: Duration, period: Duration, object: WeakRecipient<Tick>) -> Self {
        Self { first, period, object, next: None }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let Some(object) = self.object.upgrade() else {
            ctx.stop();
            return;
        };
        // A full mailbox means that the object is busy; it will hear the next tick.
        object.try_send(Tick).ok();
        self.wind(self.period, ctx);
    }

    fn wind(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        if let Some(next) = self.next.replace(ctx.run_later(wait, Self::tick)) {
            ctx.cancel_future(next);
        }
    }
}

impl Actor for AsoTimer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(2);
        self.wind(self.first, ctx);
    }
}

impl Handler<SetPeriod> for AsoTimer {
    type Result = ();

    fn handle(&mut self, message: SetPeriod, _: &mut Self::Context) {
        self.period = message.0;
    }
}

impl Handler<Wind> for AsoTimer {
    type Result = ();

    fn handle(&mut self, message: Wind, ctx: &mut Self::Context) {
        self.wind(message.0, ctx);
    }
}

impl Handler<Retire> for AsoTimer {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::clock::Clock;
    use tokio::sync::mpsc;

    use super::*;

    struct Probe(mpsc::UnboundedSender<Duration>, Clock);

    impl Actor for Probe {
        type Context = Context<Self>;
    }

    impl Handler<Tick> for Probe {
        type Result = ();

        fn handle(&mut self, _: Tick, _: &mut Self::Context) {
            self.0.send(Duration::from_millis(self.1.wall_ms())).ok();
        }
    }

    #[actix::test]
    async fn ticks_come_after_the_first_wait_and_then_once_a_period() {
        tokio::time::pause();
        let (heard, mut ticks) = mpsc::unbounded_channel();
        let probe = Probe(heard, Clock::starting_at(0)).start();
        let timer =
            AsoTimer::new(Duration::from_secs(3), Duration::from_secs(10), probe.downgrade().recipient())
                .start();
        assert_eq!(ticks.recv().await.map(|at| at.as_secs()), Some(3));
        assert_eq!(ticks.recv().await.map(|at| at.as_secs()), Some(13));
        timer.send(SetPeriod(Duration::from_secs(60))).await.expect("the timer runs");
        assert_eq!(ticks.recv().await.map(|at| at.as_secs()), Some(23), "the tick under way is not moved");
        assert_eq!(ticks.recv().await.map(|at| at.as_secs()), Some(83));
        timer.send(Wind(Duration::from_secs(5))).await.expect("the timer runs");
        assert_eq!(ticks.recv().await.map(|at| at.as_secs()), Some(88), "the tick under way is moved");
    }
}
