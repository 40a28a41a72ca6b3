//! The paper's applications in the paper's own spelling (`dht.…`, `aso:onUpdate(caller, value)`), run as an
//! author would run them.

use std::time::Duration;

use comet_routing::Key;
use comet_runtime::{
    Failure, Nodes, Op, Reach, Refusal, Value,
    testing::{EPOCH_MS, TestConfig, TestSwarm},
};

const MINUTES_10: Duration = Duration::from_secs(600);

fn list(items: impl IntoIterator<Item = Value>) -> Value {
    Value::List(items.into_iter().collect())
}

#[test]
fn the_posters_counting_object_counts_on_each_replica_apart() {
    let swarm = TestSwarm::seeded(1);
    let code = "aso.getCount = 0
        function aso:onGet(caller)
          self.getCount = self.getCount + 1
          return { self.value, self.getCount }
        end";
    swarm.put("count", "hello", code).expect("it is stored");
    assert_eq!(swarm.get_at(0, "count"), Ok(list(["hello".into(), Value::Int(1)])));
    assert_eq!(swarm.get_at(0, "count"), Ok(list(["hello".into(), Value::Int(2)])));
    assert_eq!(
        swarm.get_at(1, "count"),
        Ok(list(["hello".into(), Value::Int(1)])),
        "another replica counts for itself"
    );
}

#[test]
fn a_limited_read_value_is_given_once_and_then_deletes_itself_everywhere() {
    let swarm = TestSwarm::seeded(2);
    let code = "aso.reads = 0
        aso.limit = 1
        function aso:onGet(caller)
          if self.reads >= self.limit then return nil end
          self.reads = self.reads + 1
          dht.put(dht.getKey(), nil, 20, function(self, nodes) self.cleared = #nodes end)
          return self.value
        end
        function aso:onTimer()
          if self.reads >= self.limit then dht.deleteSelf() end
        end";
    swarm.put("secret", "once", code).expect("it is stored");
    assert_eq!(swarm.holders("secret").len(), 3);
    assert_eq!(swarm.get("secret"), Ok("once".into()));
    assert_eq!(swarm.holders("secret").len(), 1, "the other replicas are gone");
    assert_eq!(swarm.field(0, "secret", "cleared"), Some(Value::Int(2)));
    assert_eq!(swarm.get("secret"), Ok(Value::Nil));
    swarm.advance(MINUTES_10);
    assert_eq!(swarm.get("secret"), Err(Refusal::NotFound));
}

#[test]
fn publish_subscribe_pushes_a_value_to_whoever_waits_for_it() {
    let swarm = TestSwarm::seeded(3);
    let feed = "aso.subscribers = {}
        function aso:onGet(caller, callbackID, payload)
          if self.value ~= nil then return self.value end
          self.subscribers[#self.subscribers + 1] = { node = caller, id = callbackID }
        end
        function aso:onUpdate(caller, value)
          self.value = value
          for _, subscriber in ipairs(self.subscribers) do
            dht.put(subscriber.id, value, { subscriber.node }, function() end)
          end
          self.subscribers = {}
        end";
    swarm.put("feed", Value::Nil, feed).expect("the feed is stored");
    // The subscriber's inbox is an object on the subscriber's own node.
    let inbox = Key::of("inbox");
    assert_eq!(swarm.get_calling_back(5, Key::of("feed"), None, Some(inbox)), Ok(Value::Nil));
    swarm.update("feed", "news").expect("it is published");
    let pushed: Vec<_> = swarm.sent("feed");
    assert_eq!(pushed.len(), 1, "one subscriber on one replica");
    let Op::Put { key, data, nodes } = &pushed[0].op else { panic!("not a put: {pushed:?}") };
    assert_eq!((key, data, nodes), (&inbox, &"news".into(), &Nodes::These(vec![swarm.node(5)])));
    assert_eq!(swarm.get("feed"), Ok("news".into()));
    swarm.update("feed", "more").expect("it is published");
    assert_eq!(swarm.sent("feed").len(), 1, "a subscription is for one value");
}

#[test]
fn one_publication_reaches_sixteen_subscribers_and_a_seventeenth_is_too_many() {
    let feed = "aso.subscribers = {}
        function aso:onGet(caller, callbackID)
          self.subscribers[#self.subscribers + 1] = { node = caller, id = callbackID }
        end
        function aso:onUpdate(caller, value)
          for _, subscriber in ipairs(self.subscribers) do
            dht.put(subscriber.id, value, { subscriber.node }, function() end)
          end
          self.subscribers = {}
        end";
    let published = |subscribers: usize| {
        let swarm = TestSwarm::seeded(3);
        swarm.put("feed", Value::Nil, feed).expect("the feed is stored");
        for n in 0..subscribers {
            let inbox = Key::of(format!("inbox {n}"));
            swarm.get_calling_back(n % 8, Key::of("feed"), None, Some(inbox)).expect("it is noted");
        }
        swarm.update("feed", "news").map(|()| swarm.sent("feed").len())
    };
    assert_eq!(published(16), Ok(16));
    assert_eq!(published(17), Ok(0), "the replica that knows them all fails and changes nothing");
}

#[test]
fn a_password_guards_the_value() {
    let swarm = TestSwarm::seeded(4);
    let code = "aso.password = 'sesame'
        function aso:onGet(caller, callbackID, payload)
          if payload == self.password then return self.value end
          return nil
        end
        function aso:onUpdate(caller, value) return false, 'read only' end";
    swarm.put("door", "open", code).expect("it is stored");
    assert_eq!(swarm.get("door"), Ok(Value::Nil));
    assert_eq!(swarm.get_with("door", "guess"), Ok(Value::Nil));
    assert_eq!(swarm.get_with("door", "sesame"), Ok("open".into()));
    assert_eq!(swarm.update("door", "broken"), Err(Refusal::Refused("read only".into())));
    assert_eq!(swarm.get_with("door", "sesame"), Ok("open".into()));
}

#[test]
fn a_timeout_hides_the_value_at_once_and_removes_it_at_the_next_tick() {
    let swarm = TestSwarm::seeded(5);
    let code = "aso.lifetime = 900
        function aso:onPut(caller) self.expires = dht.getSystemTime() + self.lifetime end
        function aso:onGet(caller)
          if dht.getSystemTime() >= self.expires then return nil end
          return self.value
        end
        function aso:onTimer()
          if dht.getSystemTime() >= self.expires then dht.deleteSelf() end
        end";
    swarm.put("brief", "candle", code).expect("it is stored");
    swarm.advance(Duration::from_secs(899));
    assert_eq!(swarm.get("brief"), Ok("candle".into()));
    swarm.advance(Duration::from_secs(1));
    assert_eq!(swarm.get("brief"), Ok(Value::Nil), "nothing leaks before the tick");
    assert_eq!(swarm.holders("brief").len(), 3);
    swarm.advance(MINUTES_10);
    assert!(swarm.holders("brief").is_empty());
}

#[test]
fn lifetimes_are_recorded_from_inside_the_swarm() {
    let swarm = TestSwarm::seeded(6);
    let code = "aso.seen = {}
        function aso:onTimer()
          local now = dht.getSystemTime()
          dht.lookup(dht.getKey(), function(self, nodes)
            for _, node in ipairs(nodes) do
              local entry = self.seen[node] or { first = now }
              entry.last = now
              self.seen[node] = entry
            end
          end)
        end";
    swarm.put("census", Value::Nil, code).expect("it is stored");
    let leaver = (0..8).find(|node| !swarm.holders("census").contains(node)).expect("a node without a copy");
    swarm.fire_timer("census");
    swarm.silence(leaver);
    swarm.advance(MINUTES_10);
    let Some(Value::Map(seen)) = swarm.field(0, "census", "seen") else { panic!("no census") };
    assert_eq!(seen.len(), 8);
    for (node, entry) in seen {
        let gone = node == Value::Node(swarm.node(leaver));
        let (Some(Value::Int(first)), Some(Value::Int(last))) = (entry.field("first"), entry.field("last"))
        else {
            panic!("no times: {entry:?}")
        };
        assert_eq!(last - first, if gone { 0 } else { 600 }, "{node:?}");
    }
}

#[test]
fn a_monitor_puts_itself_to_twenty_nodes_and_notes_who_took_it() {
    let swarm = TestSwarm::seeded(7);
    let code = "aso.acks = 0
        aso.hosts = {}
        function aso:onPut(caller)
          self.hosts[#self.hosts + 1] = dht.localNode.getIP()
          self.from = caller.getIP()
        end
        function aso:onGet(caller)
          self.accessor = caller.getIP()
          return self
        end
        function aso:onTimer()
          dht.put(dht.getKey(), self, 20, function(self, nodes) self.acks = #nodes end)
        end";
    swarm.put("watch", "me", code).expect("it is stored");
    swarm.fire_timer("watch");
    assert_eq!(swarm.holders("watch").len(), 8, "a copy on every node there is");
    let state = swarm.get("watch").expect("it answers");
    assert_eq!(state.field("acks"), Some(&Value::Int(7)));
    assert_eq!(state.field("value"), Some(&"me".into()));
    assert_eq!(
        state.field("accessor"),
        Some(&"192.0.2.0".into()),
        "its network, unless the operator shows more"
    );
}

#[test]
fn waiting_style_reads_top_to_bottom() {
    let swarm = TestSwarm::new(8, TestConfig { reach: Reach::Open, ..TestConfig::default() });
    swarm.put("a", 20_i64, "").expect("a plain object with an empty script");
    let code = "function aso:onGet()
          local a = get('a')
          local nodes = lookup(getASOKey())
          local missing, why = get('nothing here')
          return { a + 1, #nodes, missing == nil, why }
        end";
    swarm.put("b", Value::Nil, code).expect("it is stored");
    let expected = list([Value::Int(21), Value::Int(8), true.into(), "no such object".into()]);
    assert_eq!(swarm.get("b"), Ok(expected));
}

#[test]
fn a_stranger_may_not_be_contacted() {
    let swarm = TestSwarm::seeded(9);
    let code = "function aso:onGet() return get('somebody else') end";
    swarm.put("nosy", Value::Nil, code).expect("it is stored");
    let Err(Refusal::HandlerFailed { handler, failure: Failure::Error(text) }) = swarm.get("nosy") else {
        panic!("it was allowed")
    };
    assert_eq!(handler, "onGet");
    assert!(
        text.starts_with(
            "script:1: an object whose code is not signed by a publisher that this node trusts may"
        ),
        "{text}"
    );
}

#[test]
fn a_failed_turn_leaves_no_trace_but_in_the_log() {
    let swarm = TestSwarm::seeded(10);
    let code = "aso.n = 0
        function aso:onGet(caller, callback, payload)
          self.n = self.n + 1
          if payload == 'loop' then while true do end end
          if payload == 'fail' then error('told to') end
          if payload == 'grow' then local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end end
          return self.n
        end";
    swarm.put("fragile", Value::Nil, code).expect("it is stored");
    assert_eq!(swarm.get("fragile"), Ok(Value::Int(1)));
    let failed = |payload: &str| match swarm.get_with("fragile", payload) {
        Err(Refusal::HandlerFailed { failure, .. }) => failure,
        other => panic!("{payload}: {other:?}"),
    };
    assert_eq!(failed("loop"), Failure::Steps { limit: 100_000 });
    assert_eq!(failed("fail"), Failure::Error("script:5: told to".into()));
    assert!(matches!(failed("grow"), Failure::Memory { .. }));
    assert_eq!(swarm.get("fragile"), Ok(Value::Int(2)), "three turns left no trace");
    let log: Vec<_> = swarm.log("fragile").into_iter().map(|line| (line.failure, line.text)).collect();
    assert_eq!(log[1], (true, "onGet failed: script:5: told to".into()));
    assert_eq!(log.len(), 3);
}

#[test]
fn time_stands_still_within_a_turn_and_chance_is_the_seeds() {
    let roll = |seed| {
        let swarm = TestSwarm::seeded(seed);
        let code = "function aso:onGet()
              local before = getSystemTime()
              for i = 1, 1000 do end
              return { before == getSystemTime(), before, math.random(1, 1000000000), math.random() }
            end";
        swarm.put("dice", Value::Nil, code).expect("it is stored");
        swarm.get("dice").expect("it answers")
    };
    let Value::List(items) = roll(11) else { panic!("no list") };
    assert_eq!(items[..2], [true.into(), Value::Int(i64::try_from(EPOCH_MS / 1_000).expect("small"))]);
    assert_eq!(roll(11), roll(11));
    assert_ne!(roll(11), roll(12));
}

#[test]
fn a_right_is_not_used_up_by_a_request_that_the_budget_refuses() {
    let swarm = TestSwarm::seeded(12);
    let code = "aso.timer = 600
        function aso:onGet(caller, key)
          if not key then return self.told end
          self.node, self.key = caller, key
          for _ = 1, 40 do pcall(lookup, getASOKey(), function() end) end
          return pcall(put, key, 'now', { caller }, function() end)
        end
        function aso:onTimer()
          if self.key then self.told = pcall(put, self.key, 'later', { self.node }, function() end) end
        end";
    swarm.put("teller", "v", code).expect("it is stored");
    let inbox = Some(Key::of("inbox"));
    let asked = swarm.get_calling_back(1, Key::of("teller"), None, inbox);
    assert_eq!(asked, Ok(Value::Bool(false)), "nothing is left to send");
    swarm.advance(MINUTES_10);
    assert_eq!(swarm.get_at(0, "teller"), Ok(Value::Bool(true)));
}
