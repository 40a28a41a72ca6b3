//! Having replicas seen to that an operation found wanting, beside the operation and whatever comes of it.

use std::time::Duration;

use bytes::Bytes;
use comet_routing::{Contact, Key};
use comet_runtime::visit::Visit;
use comet_store::Version;

use super::{Access, Carry, Operation};
use crate::{
    actors::CheckSoon,
    operation::{mender, strays},
    wire::Request,
};

/// How long a node may take to note what it is told.
const DEADLINE: Duration = Duration::from_secs(5);

impl Operation {
    /// A read met these: if a replica is behind, or missing, a holder of the newest version is asked to see to it.
    pub(super) fn mend(&self, key: Key, holders: &[(Contact, Version)], absent: &[Contact]) {
        let Some(mender) = mender(&key, holders, absent) else { return };
        if !self.mended.borrow_mut().begin(key, self.access.clock.now()) {
            return;
        }
        if mender.id == self.access.own.id {
            // One that is not taken is left to the next round of upkeep.
            self.access.check.try_send(CheckSoon { key }).ok();
        } else {
            self.access.tell(mender, Request::Check { key }.encode());
        }
    }

    /// A put of a plain value met an active object at some nodes, which kept itself: elsewhere it is taken back.
    pub(super) fn withdraw(&self, key: Key, version: Version, stored: &[(Contact, Version)]) {
        for stray in strays(version, stored, self.access.diversity) {
            if stray.id == self.access.own.id {
                let (replica, visit) = (self.access.replica.clone(), Visit::Withdraw { version });
                actix::spawn(async move { replica.serve(key, visit).await.ok() });
            } else {
                self.access.tell(stray, Request::Withdraw { key, version }.encode());
            }
        }
    }
}

impl Access {
    /// Tells a node something whose answer is of no interest.
    pub(super) fn tell(&self, to: Contact, request: Bytes) {
        let (carry, answered) = Carry::patient(to, request, DEADLINE);
        if self.carry.try_send(carry).is_ok() {
            // Nobody waits, but a request that nobody waits for is called off.
            actix::spawn(async move { answered.await.ok() });
        }
    }
}
