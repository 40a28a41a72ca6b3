//! The VMs of one shard.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use super::{Backstop, Vm};
use crate::{ActivationError, Blueprint, CallerAddresses, Limits, Moment, Object};

/// What a byte of new code costs at least, in nanoseconds: 16 KiB take a millisecond to compile.
const COMPILE_NS_PER_BYTE: u64 = 64;

/// Gives each new object a VM with room, and makes another VM when there is none.
pub struct VmPool {
    limits: Rc<Limits>,
    backstop: Backstop,
    caller_addresses: CallerAddresses,
    vms: RefCell<Vec<Rc<Vm>>>,
    last_cost: Cell<Duration>,
}

impl VmPool {
    /// A pool without VMs, in which handlers see as much of callers' addresses as is the default.
    pub fn new(limits: Rc<Limits>, backstop: Backstop) -> Self {
        Self {
            limits,
            backstop,
            caller_addresses: CallerAddresses::default(),
            vms: RefCell::default(),
            last_cost: Cell::default(),
        }
    }

    /// The same, in which handlers see so much of callers' addresses.
    #[must_use]
    pub fn showing(self, caller_addresses: CallerAddresses) -> Self {
        Self { caller_addresses, ..self }
    }

    /// The limits of every object in the pool.
    pub fn limits(&self) -> &Rc<Limits> {
        &self.limits
    }

    /// Makes an object in a VM that has room.
    pub fn activate(&self, blueprint: &Blueprint, moment: Moment) -> Result<Object, ActivationError> {
        let vm = match self.with_room() {
            Some(vm) => vm,
            None => self.build()?,
        };
        let compiled = if vm.knows(&blueprint.code) { 0 } else { blueprint.code.source.len() as u64 };
        vm.begin_work();
        let object = Object::activate(&vm, blueprint, moment);
        let compiled = Duration::from_nanos(COMPILE_NS_PER_BYTE.saturating_mul(compiled));
        self.last_cost.set(vm.cost_of_work(vm.steps()).max(compiled));
        object
    }

    /// What the last activation has cost, whether it succeeded or not; as [`Report::cost`](crate::Report::cost).
    pub fn last_cost(&self) -> Duration {
        self.last_cost.get()
    }

    fn build(&self) -> Result<Rc<Vm>, ActivationError> {
        let vm = Vm::new(self.limits.clone(), self.backstop.clone(), self.caller_addresses)
            .map_err(|error| ActivationError::Unreadable(format!("no sandbox could be made: {error}")))?;
        self.vms.borrow_mut().push(vm.clone());
        Ok(vm)
    }

    /// The newest VM that has room, or the first that has room once it is tidied up. Without the latter, what
    /// objects left behind would stay for as long as anybody lives in its VM.
    fn with_room(&self) -> Option<Rc<Vm>> {
        let vms = self.vms.borrow();
        let found = vms.iter().rev().find(|vm| vm.has_room());
        found.or_else(|| vms.iter().find(|vm| vm.tidy())).cloned()
    }

    /// Bytes that all VMs hold.
    pub fn bytes(&self) -> usize {
        self.vms.borrow().iter().map(|vm| vm.lua().used_memory()).sum()
    }
}
