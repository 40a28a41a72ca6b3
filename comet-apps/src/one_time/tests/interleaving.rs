//! Every order of messages: the test kit delivers at once, so here the objects stand alone and the test is the
//! network. Claims are late, lost and repeated, nodes restart and lose their disks, deletions never arrive.

use std::rc::Rc;

use comet_routing::{Contact, NodeId};
use comet_runtime::{
    Backstop, Blueprint, Caller, Event, InvocationId, Limits, Moment, Nodes, Object, Op, OpOutcome, Origin,
    Outcome, Progress, Reach, Report, Trail, VmPool, WaitId,
};

use super::*;

const VOTERS: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Step {
    Read {
        node: usize,
    },
    /// One of the messages under way arrives, and perhaps once more later.
    Deliver {
        nth: usize,
        again: bool,
    },
    /// One of those that wait gets the answers that are there.
    Answer {
        nth: usize,
    },
    /// With what is on disk: all, or only what a reply has waited for.
    Restart {
        node: usize,
        flushed: bool,
    },
    /// The disk is lost, and another replica sends a copy.
    Replace {
        node: usize,
        from: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..VOTERS;
    prop_oneof![
        3 => node.clone().prop_map(|node| Step::Read { node }),
        14 => (any::<usize>(), any::<bool>()).prop_map(|(nth, again)| Step::Deliver { nth, again }),
        3 => any::<usize>().prop_map(|nth| Step::Answer { nth }),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, flushed)| Step::Restart { node, flushed }),
        1 => (node.clone(), node).prop_map(|(node, from)| Step::Replace { node, from }),
    ]
}

/// A request that an object sent and waits for.
struct Asked {
    id: u64,
    by: usize,
    wait: WaitId,
    answers: Vec<(Contact, Value)>,
}

/// One node's part of a request.
#[derive(Clone)]
struct Message {
    request: u64,
    from: usize,
    to: usize,
    payload: Option<Value>,
}

struct World {
    pool: VmPool,
    objects: Vec<Object>,
    /// What each node has on disk for certain.
    disks: Vec<bytes::Bytes>,
    data: Value,
    asked: Vec<Asked>,
    under_way: Vec<Message>,
    next: u64,
    now: u64,
    given: u32,
}

fn contact(node: usize) -> Contact {
    Contact::new(NodeId::from_bytes([node as u8 + 1; 32]), ([192, 0, 2, node as u8 + 1], 7400).into())
}

impl World {
    fn new() -> Self {
        let voters = Value::List((0..VOTERS).map(|node| Value::Node(contact(node))).collect());
        let mut world = Self {
            pool: VmPool::new(Rc::new(Limits::default()), Backstop::StepsOnly),
            objects: Vec::new(),
            disks: vec![bytes::Bytes::new(); VOTERS],
            data: with_settings("burn".into(), [("voters", voters)]),
            asked: Vec::new(),
            under_way: Vec::new(),
            next: 1,
            now: 0,
            given: 0,
        };
        for node in 0..VOTERS {
            let object = world.activate(node, bytes::Bytes::new());
            world.objects.push(object);
            world.store(node, Origin::Client);
        }
        world
    }

    fn activate(&mut self, node: usize, state: bytes::Bytes) -> Object {
        let blueprint = Blueprint {
            key: Key::of("secret"),
            code: Code::new(APP.source),
            data: self.data.encode(),
            state,
            reach: Reach::Strict,
        };
        let moment = self.moment(node);
        self.pool.activate(&blueprint, moment).expect("it activates")
    }

    /// Time enough passes between any two turns for an object's messages to be granted anew.
    fn moment(&mut self, node: usize) -> Moment {
        self.now += 60_000;
        self.next += 1;
        Moment { now: self.now, local: contact(node), seed: self.next << 33 }
    }

    fn caller(node: usize, origin: Origin) -> Caller {
        Caller { node: contact(node), callback: None, owner: None, origin }
    }

    fn store(&mut self, node: usize, origin: Origin) {
        self.run(node, &Event::Put { caller: Self::caller(0, origin) });
        self.disks[node] = self.objects[node].state().clone();
    }

    fn run(&mut self, node: usize, event: &Event) -> Option<Value> {
        let moment = self.moment(node);
        let id: InvocationId = self.next;
        let report = self.objects[node].begin(id, event, Trail::FRESH, moment);
        self.settle(node, report)
    }

    /// Sends what the turn asked for; the reply, if it made one.
    fn settle(&mut self, node: usize, report: Report) -> Option<Value> {
        for request in report.requests {
            let Op::Get { nodes: Nodes::These(nodes), payload, .. } = request.op else { continue };
            self.next += 1;
            let id = self.next;
            self.asked.push(Asked { id, by: node, wait: request.wait, answers: Vec::new() });
            let targets = (0..VOTERS).filter(|to| nodes.iter().any(|named| named.id == contact(*to).id));
            self.under_way.extend(targets.map(|to| Message {
                request: id,
                from: node,
                to,
                payload: payload.clone(),
            }));
        }
        match report.end.expect("no turn fails") {
            Progress::Done(Outcome::Reply(reply)) => {
                let value = Value::decode(&reply, Limits::default().reply_bounds()).expect("a value");
                self.given += u32::from(value == "burn".into());
                self.disks[node] = self.objects[node].state().clone();
                Some(value)
            }
            _ => None,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Read { node } => {
                let event = Event::Get { caller: Self::caller(7, Origin::Client), payload: None };
                self.run(node, &event);
            }
            Step::Deliver { nth, again } if !self.under_way.is_empty() => {
                let nth = nth % self.under_way.len();
                let message = self.under_way[nth].clone();
                if !again {
                    self.under_way.remove(nth);
                }
                let caller = Self::caller(message.from, Origin::Client);
                let answer = self.run(message.to, &Event::Get { caller, payload: message.payload });
                let asked = self.asked.iter_mut().find(|asked| asked.id == message.request);
                if let (Some(asked), Some(answer)) = (asked, answer)
                    && asked.answers.iter().all(|(by, _)| by.id != contact(message.to).id)
                {
                    asked.answers.push((contact(message.to), answer));
                }
            }
            Step::Answer { nth } if !self.asked.is_empty() => {
                let asked = self.asked.remove(nth % self.asked.len());
                let moment = self.moment(asked.by);
                let result = Ok(OpOutcome::Values(asked.answers));
                if let Some(report) = self.objects[asked.by].resume(asked.wait, result, moment) {
                    self.settle(asked.by, report);
                }
            }
            Step::Restart { node, flushed } => {
                let kept = if flushed { self.objects[node].state() } else { &self.disks[node] };
                let state = kept.clone();
                self.objects[node] = self.activate(node, state);
                self.asked.retain(|asked| asked.by != node);
            }
            Step::Replace { node, from } if node != from => {
                let state = self.objects[from].state().clone();
                self.objects[node] = self.activate(node, state);
                self.asked.retain(|asked| asked.by != node);
                self.store(node, Origin::Replica);
            }
            Step::Deliver { .. } | Step::Answer { .. } | Step::Replace { .. } => {}
        }
    }
}

#[test]
fn a_claim_that_is_heard_by_all_wins() {
    let mut world = World::new();
    world.take(Step::Read { node: 2 });
    (0..VOTERS).for_each(|_| world.take(Step::Deliver { nth: 0, again: false }));
    world.take(Step::Answer { nth: 0 });
    assert_eq!(world.given, 1);
}

#[test]
fn votes_that_have_passed_on_do_not_count_for_an_earlier_read_of_the_same_replica() {
    let mut world = World::new();
    world.take(Step::Read { node: 0 });
    (0..VOTERS).for_each(|_| world.take(Step::Deliver { nth: 0, again: false }));
    // The first read has its votes but not yet the answers. A second one takes them over and gives them up.
    world.take(Step::Read { node: 0 });
    world.take(Step::Answer { nth: 1 });
    while !world.under_way.is_empty() {
        world.take(Step::Deliver { nth: 0, again: false });
    }
    world.take(Step::Read { node: 4 });
    (0..VOTERS).for_each(|_| world.take(Step::Deliver { nth: 0, again: false }));
    while !world.asked.is_empty() {
        world.take(Step::Answer { nth: world.asked.len() - 1 });
    }
    assert_eq!(world.given, 1, "the other replica's reader");
}

#[test]
fn a_late_withdrawal_frees_no_vote_of_a_later_turn() {
    let mut world = World::new();
    world.take(Step::Read { node: 0 });
    world.under_way.clear();
    world.take(Step::Answer { nth: 0 });
    let withdrawals = world.under_way.split_off(0);
    world.take(Step::Read { node: 0 });
    (0..VOTERS).for_each(|_| world.take(Step::Deliver { nth: 0, again: false }));
    world.under_way = withdrawals;
    (0..VOTERS).for_each(|_| world.take(Step::Deliver { nth: 0, again: false }));
    world.take(Step::Read { node: 4 });
    (0..VOTERS).for_each(|_| world.take(Step::Deliver { nth: 0, again: false }));
    (0..3).for_each(|_| world.take(Step::Answer { nth: 0 }));
    assert_eq!(world.given, 1);
}

#[test]
fn a_withdrawal_from_before_a_restart_frees_nobody() {
    let mut world = World::new();
    world.take(Step::Read { node: 0 });
    world.under_way.clear();
    world.take(Step::Answer { nth: 0 });
    let withdrawals = world.under_way.split_off(0);
    // The power fails before any of that is on disk.
    world.disks[0] = world.disks[1].clone();
    world.take(Step::Restart { node: 0, flushed: false });
    world.take(Step::Read { node: 0 });
    (0..VOTERS).for_each(|_| world.take(Step::Deliver { nth: 0, again: false }));
    world.take(Step::Answer { nth: 0 });
    assert_eq!(world.given, 1);
    world.under_way = withdrawals;
    (0..VOTERS).for_each(|_| world.take(Step::Deliver { nth: 0, again: false }));
    world.take(Step::Read { node: 4 });
    (0..VOTERS).for_each(|_| world.take(Step::Deliver { nth: 0, again: false }));
    world.take(Step::Answer { nth: 0 });
    assert_eq!(world.given, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn however_messages_are_ordered_lost_and_repeated_at_most_one_reader_gets_it(
        steps in proptest::collection::vec(step(), 1..160),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            prop_assert!(world.given <= 1);
        }
    }
}
