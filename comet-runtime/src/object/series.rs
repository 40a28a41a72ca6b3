//! Several gets that one caller sends at the same time, one after the other.
//!
//! Each is a turn with budgets of its own, as if it came alone. What they made of the object is kept once, after the last of
//! them, so nobody hears of any before. A turn that does more than return ends the series, and one that fails takes
//! those before it along: they were not kept, so they have not taken place.

use std::time::Duration;

use bytes::Bytes;

use super::{InvocationId, Moment, Object, Report};
use crate::{Event, Trail, dht::Usage, sandbox::Ran};

/// What came of a series of gets.
#[derive(Debug)]
pub struct Series {
    /// What the turns before the last one returned, and what each used. If the last one failed, then none of them has taken
    /// place.
    pub replies: Vec<(Bytes, Usage)>,
    /// The last turn, at the cost of all.
    pub last: Report,
}

/// How far a series goes.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// So many gets, at least one.
    pub times: usize,
    /// No other begins once those before it have cost so much.
    pub cost: Duration,
}

impl Object {
    /// Runs the first turns of several events, which are gets of one moment, until one does more than return, or fails. The last of
    /// them has this number. Each but the first has one of the `seeds`.
    pub fn begin_series(
        &mut self,
        id: InvocationId,
        event: &Event,
        trail: Trail,
        most: Most,
        moment: Moment,
        mut seeds: impl FnMut() -> u64,
    ) -> Series {
        let mut replies = Vec::with_capacity(most.times);
        let Some(mut handler) = self.handler(event.handler()) else {
            return Series { replies, last: self.begin(id, event, trail, moment) };
        };
        let invocation = self.invocation(id, event, trail, moment.now);
        let caller = self.open_turn(&invocation, moment);
        let (began, mut steps) = (self.vm.began(), 0_u64);
        loop {
            let ran = self.run_first(handler, event, caller.clone());
            let goes_on = replies.len().saturating_add(1) < most.times
                && self.vm.cost_before_turn(began, steps) < most.cost;
            // An object that has taken its handler away ends the series.
            let next = if goes_on { self.handler(event.handler()) } else { None };
            let plain = next.and_then(|next| Some((next, self.plain_reply(&ran)?)));
            let Some((next, (reply, usage))) = plain else {
                let mut last = self.close_turn(invocation, ran);
                last.cost = self.vm.cost_since(began, steps.saturating_add(last.usage.steps));
                return Series { replies, last };
            };
            steps = steps.saturating_add(usage.steps);
            replies.push((reply, usage));
            handler = next;
            self.vm.next_turn(self.category, seeds());
        }
    }

    /// What a turn returned that did nothing else, and left the object as large as it may be.
    fn plain_reply(&self, ran: &Ran) -> Option<(Bytes, Usage)> {
        let Ran::Returned(value, _) = ran else { return None };
        let bytes = self.vm.counted_bytes(self.category, self.stack_bytes());
        if !self.vm.turn_is_plain() || bytes > self.limits.memory_bytes {
            return None;
        }
        let usage = Usage { steps: self.vm.steps(), memory_bytes: bytes as u64, ..Usage::default() };
        Some((self.reply(value).ok()?, usage))
    }
}
