//! What connects the hosts: who is there, which connections are open, and the journeys of packets.

use std::{
    cell::{Cell, Ref, RefCell},
    collections::BTreeMap,
    net::SocketAddr,
    time::Duration,
};

use actix::Recipient;
use bytes::Bytes;
use comet_node::{
    transport::{Received, Rtt},
    wire::{Request, Trail},
};
use comet_routing::Contact;
use tokio::time::{Instant, sleep};

use super::{
    network::{Fate, Network},
    trace::{Entry, Event, Kind, Trace},
};

/// When a packet that a stranger did not acknowledge is sent again: three times the round trip that QUIC
/// assumes of one.
const RESEND_TO_STRANGER: Duration = Duration::from_millis(150);
/// The longest pause before a packet is sent again.
const RESEND_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long a peer may delay an acknowledgement.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_millis(5);
/// A connection without traffic for so long is gone.
const CONNECTION_IDLE: Duration = Duration::from_secs(30);

/// The one wire of a simulation.
pub struct Wire {
    started: Instant,
    network: RefCell<Network>,
    trace: RefCell<Trace>,
    hosts: RefCell<BTreeMap<SocketAddr, Host>>,
    hosts_made: Cell<u64>,
    connections: RefCell<BTreeMap<(SocketAddr, SocketAddr), Connection>>,
    asks_most: Cell<usize>,
    census: RefCell<Option<Census>>,
    renews_trails: Cell<bool>,
}

/// Requests that arrive and are of interest, with their answers.
struct Census {
    counts: Box<dyn Fn(&Request) -> bool>,
    requests: u64,
    bytes: u64,
}

/// One run of one node, as the wire knows it.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) contact: Contact,
    pub(super) inbound: Recipient<Received>,
    /// Tells this run of the node from the one before.
    run: u64,
}

/// What two hosts know of each other.
#[derive(Clone, Copy)]
struct Connection {
    runs: (u64, u64),
    used_at: Instant,
    rtt: Rtt,
}

impl Wire {
    /// A wire without hosts.
    pub fn new(network: Network) -> Self {
        Self {
            started: Instant::now(),
            network: RefCell::new(network),
            trace: RefCell::default(),
            hosts: RefCell::default(),
            hosts_made: Cell::new(0),
            connections: RefCell::default(),
            asks_most: Cell::new(0),
            census: RefCell::default(),
            renews_trails: Cell::new(false),
        }
    }

    /// Changes what the network does to packets.
    pub fn change(&self, change: impl FnOnce(&mut Network)) {
        change(&mut self.network.borrow_mut());
    }

    /// What happened so far.
    pub fn trace(&self) -> Ref<'_, Trace> {
        self.trace.borrow()
    }

    /// The most requests that one node had under way at a time.
    pub fn asks_most(&self) -> usize {
        self.asks_most.get()
    }

    /// From now on counts the requests that arrive and are like this, from nought.
    pub fn count(&self, counts: impl Fn(&Request) -> bool + 'static) {
        self.census.replace(Some(Census { counts: Box::new(counts), requests: 0, bytes: 0 }));
    }

    /// How many have arrived, and how many bytes they and their answers had together.
    pub fn counted(&self) -> (u64, u64) {
        self.census.borrow().as_ref().map_or((0, 0), |census| (census.requests, census.bytes))
    }

    /// From now on every request arrives with a budget as if it came from outside: what happens where budgets are
    /// copied and not divided.
    pub fn renew_trails(&self) {
        self.renews_trails.set(true);
    }

    /// The request as it arrives.
    pub(super) fn arriving(&self, request: &Bytes) -> Bytes {
        self.note(request, 1, request.len());
        if !self.renews_trails.get() {
            return request.clone();
        }
        let renewed = Request::decode(request).map(|read| read.with_trail(Trail::LONGEST).encode());
        renewed.unwrap_or_else(|_| request.clone())
    }

    /// Notes what a request was answered.
    pub(super) fn answered(&self, request: &Bytes, answer: &Bytes) {
        self.note(request, 0, answer.len());
    }

    fn note(&self, request: &Bytes, requests: u64, bytes: usize) {
        if let Some(census) = self.census.borrow_mut().as_mut()
            && let Ok(read) = Request::decode(request)
            && (census.counts)(&read)
        {
            census.requests += requests;
            census.bytes += bytes as u64;
        }
    }

    /// True if nobody hears this host, whether it runs or not.
    pub fn is_silent(&self, host: SocketAddr) -> bool {
        self.network.borrow().is_silent(host)
    }

    /// True if only those reach this host whom it turned to first.
    pub fn is_hidden(&self, host: SocketAddr) -> bool {
        self.network.borrow().is_hidden(host)
    }

    pub(super) fn note_asks(&self, under_way: usize) {
        self.asks_most.set(self.asks_most.get().max(under_way));
    }

    pub(super) fn plug(&self, contact: Contact, inbound: Recipient<Received>) {
        let run = self.hosts_made.get();
        self.hosts_made.set(run + 1);
        self.hosts.borrow_mut().insert(contact.addr, Host { contact, inbound, run });
    }

    pub(super) fn unplug(&self, addr: SocketAddr) {
        self.hosts.borrow_mut().remove(&addr);
    }

    pub(super) fn host(&self, addr: SocketAddr) -> Option<Host> {
        self.hosts.borrow().get(&addr).cloned()
    }

    /// True while the same run of the node goes on.
    pub(super) fn is_up(&self, host: &Host) -> bool {
        self.hosts.borrow().get(&host.contact.addr).is_some_and(|now| now.run == host.run)
    }

    /// What is known of the round trips between two hosts, while they keep a connection.
    pub(super) fn connection(&self, a: SocketAddr, b: SocketAddr) -> Option<Rtt> {
        let (pair, runs) = self.pair(a, b)?;
        let mut connections = self.connections.borrow_mut();
        let connection = connections.get_mut(&pair)?;
        let now = Instant::now();
        if connection.runs != runs || now.duration_since(connection.used_at) >= CONNECTION_IDLE {
            connections.remove(&pair);
            return None;
        }
        connection.used_at = now;
        Some(connection.rtt)
    }

    /// Takes a measured round trip into account (RFC 9002, section 5.3) and returns the estimate.
    pub(super) fn measured(&self, a: SocketAddr, b: SocketAddr, sample: Duration) -> Rtt {
        let known = self.connection(a, b);
        let rtt = known.map_or(Rtt { smoothed: sample, variation: sample / 2 }, |rtt| Rtt {
            smoothed: (rtt.smoothed * 7 + sample) / 8,
            variation: (rtt.variation * 3 + rtt.smoothed.abs_diff(sample)) / 4,
        });
        if let Some((pair, runs)) = self.pair(a, b) {
            let connection = Connection { runs, used_at: Instant::now(), rtt };
            self.connections.borrow_mut().insert(pair, connection);
        }
        rtt
    }

    pub(super) fn forget(&self, a: SocketAddr, b: SocketAddr) {
        self.connections.borrow_mut().remove(&(a.min(b), a.max(b)));
    }

    fn pair(&self, a: SocketAddr, b: SocketAddr) -> Option<((SocketAddr, SocketAddr), (u64, u64))> {
        let hosts = self.hosts.borrow();
        let pair = (a.min(b), a.max(b));
        Some((pair, (hosts.get(&pair.0)?.run, hosts.get(&pair.1)?.run)))
    }

    /// Carries a packet to its end, however often it has to be sent, and says how long it took the last time.
    ///
    /// Never ends if it cannot arrive: whoever waits has a deadline.
    pub(super) async fn carry(&self, kind: Kind, from: &Host, to: SocketAddr, bytes: &[u8]) -> Duration {
        let mut pause = self.resend_after(from.contact.addr, to);
        loop {
            let from = if self.is_up(from) { from.contact.addr } else { std::future::pending().await };
            let fate = self.fate(kind, from, to);
            let event = if fate == Fate::Lost { Event::Lost } else { Event::Sent };
            self.record(Entry { at: self.at(), from, to, kind, event }, bytes);
            let mut taken = Duration::ZERO;
            if let Fate::Arrives(latency) = fate {
                sleep(latency).await;
                if self.hosts.borrow().contains_key(&to) {
                    self.record(Entry { at: self.at(), from, to, kind, event: Event::Arrived }, bytes);
                    return latency;
                }
                taken = latency;
            }
            sleep(pause.saturating_sub(taken)).await;
            pause = (pause * 2).min(RESEND_PAUSE_MAX);
        }
    }

    fn fate(&self, kind: Kind, from: SocketAddr, to: SocketAddr) -> Fate {
        let mut network = self.network.borrow_mut();
        let fate = network.fate(from, to);
        let is_stranger = match kind {
            Kind::Probe => true,
            Kind::Hello => self.connection(from, to).is_none(),
            _ => false,
        };
        let turned_away = is_stranger && network.is_hidden(to);
        if turned_away { Fate::Lost } else { fate }
    }

    /// Notes that a request arrives once more, if the network wants it to.
    pub(super) fn repeats(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> bool {
        let repeats = self.network.borrow_mut().repeats();
        if repeats {
            let entry = Entry { at: self.at(), from, to, kind: Kind::Request, event: Event::Repeated };
            self.record(entry, bytes);
        }
        repeats
    }

    /// QUIC's probe timeout, in whole milliseconds.
    fn resend_after(&self, from: SocketAddr, to: SocketAddr) -> Duration {
        self.connection(from, to).map_or(RESEND_TO_STRANGER, |rtt| {
            let timeout = rtt.smoothed + rtt.variation * 4 + ACKNOWLEDGE_WITHIN;
            Duration::from_millis(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
        })
    }

    fn at(&self) -> Duration {
        self.started.elapsed()
    }

    fn record(&self, entry: Entry, bytes: &[u8]) {
        self.trace.borrow_mut().record(entry, bytes);
    }
}
