//! The VMs of one shard.

use std::{cell::RefCell, rc::Rc};

use super::{Backstop, Vm};
use crate::{ActivationError, Blueprint, Limits, Moment, Object};

/// Gives each new object a VM with room, and makes another VM when there is none.
pub struct VmPool {
    limits: Rc<Limits>,
    backstop: Backstop,
    vms: RefCell<Vec<Rc<Vm>>>,
}

impl VmPool {
    /// A pool without VMs.
    pub fn new(limits: Rc<Limits>, backstop: Backstop) -> Self {
        Self { limits, backstop, vms: RefCell::default() }
    }

    /// The limits of every object in the pool.
    pub fn limits(&self) -> &Rc<Limits> {
        &self.limits
    }

    /// Makes an object in a VM that has room.
    pub fn activate(&self, blueprint: &Blueprint, moment: Moment) -> Result<Object, ActivationError> {
        if let Some(vm) = self.with_room() {
            return Object::activate(&vm, blueprint, moment);
        }
        let vm = Vm::new(self.limits.clone(), self.backstop.clone())
            .map_err(|error| ActivationError::Unreadable(format!("no sandbox could be made: {error}")))?;
        self.vms.borrow_mut().push(vm.clone());
        Object::activate(&vm, blueprint, moment)
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
