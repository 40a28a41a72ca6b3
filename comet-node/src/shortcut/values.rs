//! The values of several objects, asked for together.
//!
//! All are asked before any is waited for, and all are waited for together. Gets of one object are one message to it.

use std::{collections::VecDeque, pin::pin, time::Instant};

use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    actors::{Begun, Replica},
    visit::{Served, Visit},
};
use tokio::sync::oneshot::Receiver;

use super::{Reached, Shortcut, timeout, within};

/// What a get came to; nothing if it is not known.
type Outcome = Option<Result<Served, Refusal>>;

impl Shortcut {
    /// Asks the own replica for the values of several objects, without payloads, as [`Self::get`] does for one, if this
    /// node is certainly the nearest to all of them; `None` otherwise.
    pub async fn values(&self, keys: &[Key]) -> Option<Vec<Reached<Value>>> {
        let now = self.clock.now();
        let visit = match self.visit(None) {
            Ok(visit) => visit,
            Err(refusal) => return Some(keys.iter().map(|_| Reached::Over(Err(refusal.clone()))).collect()),
        };
        let mut gets = Gets::begin(&self.replica, now, visit, keys, |key| self.is_nearest(key, now))?;
        let value = |served| self.answer(served).map(|answer| answer.value);
        let (deadline, mut values) = (self.configured_deadline(), Vec::with_capacity(keys.len()));
        let all = async {
            while let Some(outcome) = gets.next().await {
                // Where its object stopped before, whoever asks again finds the next one.
                values.push(outcome.map_or(Reached::Elsewhere(None), value));
            }
        };
        within(deadline, pin!(all)).await;
        // Those behind one that is late may be there.
        while let Some(outcome) = gets.try_next() {
            values.push(outcome.map_or_else(|| Reached::Over(Err(timeout(deadline))), value));
        }
        Some(values)
    }
}

/// Gets that are under way.
struct Gets<'a> {
    replica: &'a Replica,
    sent: Instant,
    visit: Visit,
    objects: Vec<Object>,
    /// Whose get is answered next, as places in `objects`.
    order: VecDeque<usize>,
}

/// The gets of one object.
struct Object {
    key: Key,
    /// How many are not answered.
    times: usize,
    /// The way back of those that were sent together, until it is known which of them were begun.
    series: Option<Receiver<Vec<Begun>>>,
    begun: VecDeque<Begun>,
}

impl<'a> Gets<'a> {
    /// Begins all, if this node may serve them all.
    fn begin(
        replica: &'a Replica,
        sent: Instant,
        visit: Visit,
        keys: &[Key],
        serves: impl Fn(&Key) -> bool,
    ) -> Option<Self> {
        let mut objects: Vec<Object> = Vec::new();
        let mut order = VecDeque::with_capacity(keys.len());
        for key in keys {
            let place = objects.iter().position(|object| object.key == *key);
            if place.is_none() && !serves(key) {
                return None;
            }
            let place = place.unwrap_or_else(|| {
                objects.push(Object { key: *key, times: 0, series: None, begun: VecDeque::new() });
                objects.len().saturating_sub(1)
            });
            let object = objects.get_mut(place)?;
            object.times = object.times.saturating_add(1);
            order.push_back(place);
        }
        for object in &mut objects {
            if object.times > 1 {
                object.series = replica.begin_series(sent, object.key, &visit, object.times);
            }
            if object.series.is_none() {
                object.begin_rest(replica, sent, &visit);
            }
        }
        Some(Self { replica, sent, visit, objects, order })
    }

    /// What the next one came to, or nothing if its object stopped before; `None` at the end.
    async fn next(&mut self) -> Option<Outcome> {
        let object = self.objects.get_mut(*self.order.front()?)?;
        if let Some(series) = &mut object.series {
            let begun = series.await.unwrap_or_default();
            object.series = None;
            object.begun = begun.into();
            object.begin_rest(self.replica, self.sent, &self.visit);
        }
        let heard = match object.begun.front_mut()? {
            Begun::Sent(served) => served.await.ok(),
            Begun::Served(_) => None,
        };
        match self.answered()? {
            Begun::Sent(_) => Some(heard),
            Begun::Served(served) => Some(Some(served)),
        }
    }

    /// As [`Self::next`], without waiting: nothing for what is still under way.
    fn try_next(&mut self) -> Option<Outcome> {
        let object = self.objects.get_mut(*self.order.front()?)?;
        if let Some(begun) = object.series.as_mut().and_then(|series| series.try_recv().ok()) {
            object.series = None;
            object.begun = begun.into();
        }
        Some(match self.answered() {
            Some(Begun::Sent(mut served)) => served.try_recv().ok(),
            Some(Begun::Served(served)) => Some(served),
            None => None,
        })
    }

    /// The next one is answered.
    fn answered(&mut self) -> Option<Begun> {
        let object = self.order.pop_front().and_then(|place| self.objects.get_mut(place))?;
        object.times = object.times.saturating_sub(1);
        object.begun.pop_front()
    }
}

impl Object {
    /// Begins those that are not begun, each for itself.
    fn begin_rest(&mut self, replica: &Replica, sent: Instant, visit: &Visit) {
        while self.begun.len() < self.times {
            self.begun.push_back(replica.begin(sent, self.key, visit));
        }
    }
}
