//! The walk over Lua values against a plain one, which takes each value by its handle and remembers nothing.

use mlua::Vector;
use proptest::prelude::*;

use super::*;

/// A Lua value that can be made in any VM.
#[derive(Clone, Debug)]
enum Recipe {
    Nil,
    Bool(bool),
    Number(f64),
    Str(Vec<u8>),
    Node([u8; 32], [u8; 4], u16),
    Function,
    Thread,
    Vector,
    Buffer,
    /// One of the tables that were begun before, among them those that it is to stand in.
    Again(usize),
    Table {
        items: Vec<Recipe>,
        entries: Vec<(Recipe, Recipe)>,
        /// How many of the items are taken out again, from the front.
        taken: usize,
        has_metatable: bool,
    },
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let edges = vec![0.0, -0.0, 0.5, -32.0, 2e9, 2_f64.powi(53), -(2_f64.powi(63)), 2_f64.powi(63), 1e300];
    let scalar = prop_oneof![
        Just(Recipe::Nil),
        any::<bool>().prop_map(Recipe::Bool),
        any::<f64>().prop_map(Recipe::Number),
        any::<i32>().prop_map(|n| Recipe::Number(n.into())),
        proptest::sample::select(edges).prop_map(Recipe::Number),
        "[a-e]{0,2}".prop_map(|text| Recipe::Str(text.into())),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Recipe::Str),
        any::<([u8; 32], [u8; 4], u16)>().prop_map(|(id, ip, port)| Recipe::Node(id, ip, port)),
    ];
    let rare = proptest::sample::select(vec![
        Recipe::Function,
        Recipe::Thread,
        Recipe::Vector,
        Recipe::Buffer,
        Recipe::Number(f64::NAN),
    ]);
    let leaf = prop_oneof![50 => scalar, 1 => rare, 5 => any::<usize>().prop_map(Recipe::Again)];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let items = proptest::collection::vec(inner.clone(), 0..6);
        let entries = proptest::collection::vec((inner.clone(), inner), 0..4);
        let taken = prop_oneof![5 => Just(0_usize), 1 => 0_usize..6];
        let has_metatable = proptest::bool::weighted(0.02);
        (items, entries, taken, has_metatable).prop_map(|(items, entries, taken, has_metatable)| {
            Recipe::Table { items, entries, taken, has_metatable }
        })
    })
}

/// What is made in one VM.
struct Kitchen {
    lua: Lua,
    marshal: Marshal,
    begun: Vec<Table>,
}

impl Kitchen {
    fn new() -> Self {
        let lua = Lua::new();
        let marshal = Marshal::new(&lua).expect("there is memory");
        Self { lua, marshal, begun: Vec::new() }
    }

    fn make(&mut self, recipe: &Recipe) -> mlua::Result<LuaValue> {
        Ok(match recipe {
            Recipe::Nil => LuaValue::Nil,
            Recipe::Bool(b) => LuaValue::Boolean(*b),
            Recipe::Number(n) => LuaValue::Number(*n),
            Recipe::Str(bytes) => LuaValue::String(self.lua.create_string(bytes)?),
            Recipe::Node(id, ip, port) => {
                let node = Contact::new(NodeId::from_bytes(*id), (*ip, *port).into());
                LuaValue::Table(self.marshal.node(&self.lua, &node)?)
            }
            Recipe::Function => LuaValue::Function(self.lua.create_function(|_, ()| Ok(()))?),
            Recipe::Thread => {
                let function = self.lua.create_function(|_, ()| Ok(()))?;
                LuaValue::Thread(self.lua.create_thread(function)?)
            }
            Recipe::Vector => LuaValue::Vector(Vector::new(1.0, 2.0, 3.0)),
            Recipe::Buffer => LuaValue::Buffer(self.lua.create_buffer([1, 2, 3])?),
            Recipe::Again(n) => match n.checked_rem(self.begun.len()) {
                Some(n) => LuaValue::Table(self.begun[n].clone()),
                None => LuaValue::Nil,
            },
            Recipe::Table { items, entries, taken, has_metatable } => {
                let table = self.lua.create_table()?;
                self.begun.push(table.clone());
                for (n, item) in (1..).zip(items) {
                    table.raw_set(n, self.make(item)?)?;
                }
                for (key, value) in entries {
                    // Some keys cannot be: nil and what is not a number.
                    let (key, value) = (self.make(key)?, self.make(value)?);
                    table.raw_set(key, value).ok();
                }
                for n in 1..=*taken {
                    table.raw_set(n, LuaValue::Nil)?;
                }
                if *has_metatable {
                    table.set_metatable(Some(self.lua.create_table()?))?;
                }
                LuaValue::Table(table)
            }
        })
    }

    /// The encoding, written plainly; `None` where the value is refused.
    fn plainly(&self, value: &LuaValue, bounds: Bounds) -> Option<Vec<u8>> {
        let (mut out, mut elements) = (Vec::new(), 0);
        self.write(value, 0, bounds, &mut elements, &mut out)?;
        (out.len() <= bounds.bytes && elements <= ELEMENTS_MAX).then_some(out)
    }

    fn write(
        &self,
        value: &LuaValue,
        depth: usize,
        bounds: Bounds,
        elements: &mut usize,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let LuaValue::Table(table) = value else {
            match value {
                LuaValue::Nil => codec::write_nil(out),
                LuaValue::Boolean(b) => codec::write_bool(out, *b),
                LuaValue::Integer(n) => codec::write_int(out, *n),
                LuaValue::Number(n) => codec::write_float(out, *n),
                LuaValue::String(text) => codec::write_str(out, &text.as_bytes()),
                _ => return None,
            }
            return Some(());
        };
        if self.marshal.is_node(table) {
            let text = |field| table.raw_get::<String>(field).ok();
            let addr = SocketAddr::new(text("ip")?.parse().ok()?, table.raw_get("port").ok()?);
            codec::write_node(out, &Contact::new(text("id")?.parse().ok()?, addr));
            return Some(());
        }
        if depth >= bounds.depth || table.metatable().is_some() {
            return None;
        }
        let mut entries = Vec::new();
        table
            .for_each(|key: LuaValue, value: LuaValue| {
                entries.push((key, value));
                Ok(())
            })
            .ok()?;
        *elements += entries.len();
        let highest = entries.iter().try_fold(0, |highest, (key, _)| match key {
            LuaValue::Integer(n) if *n > 0 => Some(highest.max(*n)),
            _ => None,
        });
        if highest == Some(entries.len() as i64) {
            codec::write_list_header(out, entries.len());
            for n in 1..=entries.len() {
                self.write(&table.raw_get(n).ok()?, depth + 1, bounds, elements, out)?;
            }
            return Some(());
        }
        codec::write_map_header(out, entries.len());
        for (key, value) in &entries {
            if matches!(key, LuaValue::Table(table) if !self.marshal.is_node(table)) {
                return None;
            }
            self.write(key, depth + 1, bounds, elements, out)?;
            self.write(value, depth + 1, bounds, elements, out)?;
        }
        Some(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_a_script_makes_is_encoded_as_a_plain_walk_would(
        recipe in recipe(),
        depth in 0_usize..7,
        bytes in prop_oneof![0_usize..200, Just(64 * 1024)],
    ) {
        let mut kitchen = Kitchen::new();
        let value = kitchen.make(&recipe).expect("there is memory");
        let bounds = Bounds { bytes, depth };
        let mut out = Vec::new();
        let encoded = kitchen.marshal.encode(&kitchen.lua, &value, bounds, &mut out);
        prop_assert_eq!(encoded.ok().map(|()| out), kitchen.plainly(&value, bounds));
    }
}

#[test]
fn a_table_that_is_met_again_counts_wherever_it_is_written() {
    let nested = "local s = { {} } return { s, { s } }";
    let large = "local s = table.create(..., 1) return { s, s, s, s, s, s, s, s }";
    for (source, items, depth, fits) in [
        (nested, 0, 4, true),
        (nested, 0, 3, false),
        (large, ELEMENTS_MAX / 8 - 1, 4, true),
        (large, ELEMENTS_MAX / 8, 4, false),
    ] {
        let kitchen = Kitchen::new();
        let value = kitchen.lua.load(source).call(items).expect("it runs");
        let (bounds, mut out) = (Bounds { bytes: 64 * 1024, depth }, Vec::new());
        let encoded = kitchen.marshal.encode(&kitchen.lua, &value, bounds, &mut out).ok().map(|()| out);
        assert_eq!(encoded.is_some(), fits, "{source} {items} {depth}");
        assert_eq!(encoded, kitchen.plainly(&value, bounds));
    }
}
