//! What handlers and their callbacks are called with, and what those hear who waited.

use comet_routing::{Contact, NodeId};
use mlua::{Function, IntoLua, MultiValue, Value as LuaValue};

use super::Object;
use crate::{Caller, Event, OpOutcome, OpResult, Value, sandbox::Ran};

impl Object {
    /// Calls the handler of an event, which this caller caused if there is one. The arguments are tuples, which need
    /// no memory on their way.
    pub(super) fn call(
        &self,
        handler: Function,
        event: &Event,
        caller: Option<LuaValue>,
    ) -> mlua::Result<Ran> {
        let (vm, aso) = (&self.vm, &self.aso);
        Ok(match (event, caller) {
            (Event::Get { caller: Caller { callback, .. }, payload }, caller) => {
                let callback = callback.map(|key| key.to_string()).into_lua(vm.lua())?;
                let payload = payload.as_ref().map_or(Ok(LuaValue::Nil), |payload| vm.to_lua(payload))?;
                vm.call(self.category, handler, (aso, caller, callback, payload))
            }
            (Event::Update { data, code, .. }, caller) => {
                let value = Value::decode(data, self.limits.value_bounds()).map_err(mlua::Error::external)?;
                let value = vm.to_lua(&value)?;
                let incoming = vm.lua().create_table()?;
                incoming.raw_set("hasCode", code.is_some())?;
                vm.call(self.category, handler, (aso, caller, value, incoming))
            }
            (Event::Put { .. } | Event::Delete { .. } | Event::Timer, Some(caller)) => {
                vm.call(self.category, handler, (aso, caller))
            }
            (Event::Put { .. } | Event::Delete { .. } | Event::Timer, None) => {
                vm.call(self.category, handler, aso)
            }
        })
    }

    /// An answer as Lua sees it: the result, or nil and why there is none. Nodes that the request named without seeing
    /// their addresses show none in the answer either.
    pub(super) fn answer(&self, result: OpResult, veiled: &[NodeId]) -> mlua::Result<MultiValue> {
        let mut args = MultiValue::new();
        let shown =
            |node: Contact| Value::Node(if veiled.contains(&node.id) { self.vm.veil(&node) } else { node });
        match result {
            Err(refusal) => {
                args.push_back(LuaValue::Nil);
                args.push_back(refusal.to_string().into_lua(self.vm.lua())?);
            }
            Ok(OpOutcome::Value(value)) => args.push_back(self.vm.to_lua(&value)?),
            Ok(OpOutcome::Values(answers)) => {
                let list = self.vm.lua().create_table()?;
                for (node, value) in answers {
                    let entry = self.vm.lua().create_table()?;
                    entry.raw_set("node", self.vm.to_lua(&shown(node))?)?;
                    entry.raw_set("value", self.vm.to_lua(&value)?)?;
                    list.raw_push(entry)?;
                }
                args.push_back(LuaValue::Table(list));
            }
            Ok(OpOutcome::Nodes(nodes)) => {
                let nodes = Value::List(nodes.into_iter().map(shown).collect());
                args.push_back(self.vm.to_lua(&nodes)?);
            }
        }
        Ok(args)
    }
}
