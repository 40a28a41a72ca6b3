use proptest::prelude::*;

use super::*;

/// One message of a cascade: it goes to so many nodes with frames of so many bytes, and what reaches each of them
/// makes the requests that come next.
#[derive(Clone, Debug)]
struct Sent {
    nodes: usize,
    bytes_each: usize,
    next: Vec<Sent>,
}

fn cascades() -> impl Strategy<Value = Vec<Sent>> {
    let request = (1..=20_usize, 1..=70_000_usize);
    let leaf = request.clone().prop_map(|(nodes, bytes_each)| Sent { nodes, bytes_each, next: Vec::new() });
    let tree =
        leaf.prop_recursive(5, 60, 5, move |inner| {
            (request.clone(), prop::collection::vec(inner, 0..5))
                .prop_map(|((nodes, bytes_each), next)| Sent { nodes, bytes_each, next })
        });
    prop::collection::vec(tree, 0..5)
}

/// Messages and bytes in all, if every object that is reached makes these requests as far as it can pay for them;
/// `divide` gives what a node may cause out of what is left.
fn caused(mut trail: Trail, requests: &[Sent], divide: &dyn Fn(Trail, usize) -> Trail) -> (usize, usize) {
    let paid =
        requests.iter().map(|request| (request, trail.take(request.nodes, request.bytes_each).messages));
    let paid: Vec<_> = paid.collect();
    let asked = paid.iter().map(|(_, nodes)| usize::from(*nodes)).sum::<usize>();
    let each = divide(trail, asked).deeper();
    let (mut messages, mut bytes) = (0, 0);
    for (request, nodes) in paid {
        for _ in 0..nodes {
            let (more, more_bytes) = caused(each, &request.next, divide);
            messages += 1 + more;
            bytes += request.bytes_each + more_bytes;
        }
    }
    (messages, bytes)
}

proptest! {
    #[test]
    fn no_tree_of_calls_sends_more_than_the_budget_that_came_in(requests in cascades(), messages in 0..=16_u8) {
        let trail = Trail { messages, ..Trail::FRESH };
        let (sent, bytes) = caused(trail, &requests, &|left, parts| left.part(parts));
        prop_assert!(sent <= usize::from(messages), "{sent} of {messages}");
        prop_assert!(bytes <= Trail::FRESH.bytes as usize, "{bytes}");
    }

    #[test]
    fn the_parts_and_the_rest_are_the_whole(messages in any::<u8>(), bytes in any::<u32>(), parts in 1..300_usize) {
        let whole = Trail { messages, bytes, depth: 4 };
        let mut rest = whole;
        (0..parts).for_each(|_| rest.give(whole.part(parts)));
        let given = (0..parts).fold(Trail { messages: 0, bytes: 0, depth: 4 }, |mut sum, _| {
            sum.take_back(whole.part(parts));
            sum
        });
        prop_assert_eq!((rest.messages + given.messages, rest.bytes + given.bytes), (messages, bytes));
    }
}

#[test]
fn a_budget_that_is_copied_multiplies() {
    let leaf = Sent { nodes: 4, bytes_each: 10, next: Vec::new() };
    let tree = [Sent { next: vec![leaf.clone()], ..leaf }];
    assert_eq!(caused(Trail::FRESH, &tree, &|left, parts| left.part(parts)).0, 16);
    let (copied, _) = caused(Trail::FRESH, &tree, &|left, _| left);
    assert_eq!(copied, 20, "the control");
}

#[test]
fn a_node_costs_a_message_and_its_frame() {
    let mut trail = Trail { messages: 5, bytes: 1_000, depth: 4 };
    assert_eq!((trail.affords(100), trail.affords(400), trail.affords(1_001)), (5, 2, 0));
    assert_eq!(trail.take(3, 200), Trail { messages: 3, bytes: 600, depth: 4 });
    assert_eq!(trail, Trail { messages: 2, bytes: 400, depth: 4 });
    assert_eq!(trail.take(3, 300).messages, 1, "the bytes are for one");
    assert!(Trail { depth: 1, ..Trail::FRESH }.deeper().is_spent(), "a cycle ends");
    assert!(Trail { messages: 0, ..Trail::FRESH }.is_spent() && !Trail::FRESH.is_spent());
    assert_eq!(Trail::FRESH.part(1_000), Trail { messages: 0, bytes: 131, depth: 4 });
}

#[test]
fn a_request_is_charged_for_every_node_but_the_own() {
    let node = |n: u8| Contact::new(NodeId::from_bytes([n; 32]), ([127, 0, 0, 1], u16::from(n)).into());
    let put = |nodes| Op::Put { key: Key::of("k"), data: Value::Nil, nodes };
    let get = |nodes| Op::Get { key: Key::of("k"), nodes, payload: None };
    let own = node(1).id;
    assert_eq!(put(Nodes::Closest).nodes(&own), 8);
    assert_eq!(get(Nodes::Closest).nodes(&own), 1);
    assert_eq!(get(Nodes::Count(20)).nodes(&own), 20);
    assert_eq!(put(Nodes::These(vec![node(1), node(2), node(3)])).nodes(&own), 2);
    assert_eq!(Op::Lookup { key: Key::of("k") }.frame_bytes(9), 4_096);
    assert_eq!(Op::Copy { nodes: Nodes::Closest }.frame_bytes(9_000), 9_512);
}

#[test]
fn a_put_and_a_copy_from_one_network_are_on_different_accounts_and_own_clients_on_none() {
    let at = |n: u8| {
        let id = comet_routing::NodeId::from_bytes([n; 32]);
        Contact::new(id, ([192, 0, 2, n], 7400).into())
    };
    let by = |n, origin| Caller { node: at(n), callback: None, owner: None, origin };
    let prefix = Prefix::of([192, 0, 2, 0].into());
    let account = |n, origin| by(n, origin).account(&at(1));
    assert_eq!(account(2, Origin::Client), Some(Source::Put(prefix)));
    assert_eq!(account(2, Origin::Replica), Some(Source::Copy(prefix)));
    assert_eq!(account(1, Origin::Client), None);
}
