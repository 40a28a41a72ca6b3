//! What handlers and their callbacks are called with, and what those hear who waited.

use comet_routing::{Contact, NodeId};
use mlua::{IntoLua, MultiValue, Value as LuaValue};

use super::Object;
use crate::{Event, OpOutcome, OpResult, Value};

impl Object {
    /// What a handler is called with, by this caller if there is one.
    pub(super) fn arguments(&self, event: &Event, caller: Option<LuaValue>) -> mlua::Result<MultiValue> {
        let mut args = MultiValue::with_capacity(4);
        args.push_back(LuaValue::Table(self.aso.clone()));
        args.extend(caller);
        match event {
            Event::Get { caller, payload } => {
                args.push_back(caller.callback.map(|key| key.to_string()).into_lua(self.vm.lua())?);
                args.push_back(self.vm.to_lua(payload.as_ref().unwrap_or(&Value::Nil))?);
            }
            Event::Update { data, code, .. } => {
                let value = Value::decode(data, self.limits.value_bounds()).map_err(mlua::Error::external)?;
                args.push_back(self.vm.to_lua(&value)?);
                let incoming = self.vm.lua().create_table()?;
                incoming.raw_set("hasCode", code.is_some())?;
                args.push_back(LuaValue::Table(incoming));
            }
            Event::Put { .. } | Event::Delete { .. } | Event::Timer => {}
        }
        Ok(args)
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
