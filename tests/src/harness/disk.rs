//! What of a simulated node outlives its crash: a store in memory, with its writer.
//!
//! The store's actor belongs to the disk rather than to the node, since nobody but it can write there. A node
//! that starts plugs itself in; one that crashes is simply no longer told anything.

use std::{cell::RefCell, rc::Rc};

use actix::{Actor, Addr, Context, Handler, Recipient};
use comet_routing::clock::Clock;
use comet_store::{RecordExpired, ReplicaStore, StoreConfig, StoreReader, in_memory};

/// A disk.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) store: Addr<ReplicaStore>,
    pub(super) reader: StoreReader,
    node: Socket,
}

/// Whom the store of a disk tells about expired records at the moment.
type Socket = Rc<RefCell<Vec<Recipient<RecordExpired>>>>;

impl Disk {
    pub(super) fn empty(config: StoreConfig, clock: Clock) -> Self {
        let (writer, reader) = in_memory(config);
        let node = Socket::default();
        let cable = Cable { node: Rc::clone(&node) }.start();
        let store = ReplicaStore::new(writer, clock, vec![cable.recipient()]).start();
        Self { store, reader, node }
    }

    /// Connects the disk to the node whose shards these are.
    pub(super) fn plug(&self, expired: Vec<Recipient<RecordExpired>>) {
        *self.node.borrow_mut() = expired;
    }

    /// Disconnects it.
    pub(super) fn unplug(&self) {
        self.node.borrow_mut().clear();
    }
}

/// Passes on what the store has to tell.
struct Cable {
    node: Socket,
}

impl Actor for Cable {
    type Context = Context<Self>;
}

impl Handler<RecordExpired> for Cable {
    type Result = ();

    fn handle(&mut self, expired: RecordExpired, _: &mut Self::Context) {
        self.node.borrow().iter().for_each(|shard| shard.do_send(expired));
    }
}
