//! What a script can see: exactly the names in `globals.golden`, whichever way it looks.

use comet_runtime::{Value, testing::TestSwarm};

const GOLDEN: &str = include_str!("globals.golden");

/// Names that Luau, or another Lua, has and that no script may see.
const ABSENT: &str = "_G _VERSION _ENV arg buffer collectgarbage coroutine debug dofile gcinfo getfenv integer io \
    load loadfile loadstring module newproxy os package print require setfenv shared vector warn string.dump \
    table.foreach table.foreachi table.getn math.randomseed math.mod";

#[test]
fn the_globals_are_those_of_the_golden_file() {
    let expected: Vec<_> = GOLDEN.lines().collect();
    assert_eq!(comet_runtime::sandbox_globals(), expected);
}

#[test]
fn a_script_finds_every_global_and_none_of_the_others() {
    let swarm = TestSwarm::seeded(1);
    let code = "local function find(path)
          local env = { bit32 = bit32, dht = dht, math = math, string = string, table = table, utf8 = utf8 }
          local library, name = string.match(path, '^(%w+)%.(.+)$')
          if not library then return globals[path] end
          local first, second = string.match(name, '^(%w+)%.(%w+)$')
          if first then return env[library][first][second] end
          return env[library][name]
        end
        function aso:onGet(caller, callback, names)
          local found = {}
          for _, name in names do found[#found + 1] = find(name) ~= nil end
          return found
        end\n";
    let plain: Vec<_> =
        GOLDEN.lines().chain(ABSENT.split_whitespace()).filter(|name| !name.contains('.')).collect();
    let entries: Vec<_> = plain.iter().map(|name| format!("{name} = {name}")).collect();
    let code = format!("globals = {{ {} }}\n{code}", entries.join(", "));
    swarm.put("probe", Value::Nil, &code).expect("it is stored");
    let ask =
        |names: Vec<&str>| swarm.get_with("probe", Value::List(names.into_iter().map(Value::from).collect()));
    let all = GOLDEN.lines().count();
    assert_eq!(ask(GOLDEN.lines().collect()), Ok(Value::List(vec![true.into(); all])));
    let absent = ABSENT.split_whitespace().count();
    assert_eq!(ask(ABSENT.split_whitespace().collect()), Ok(Value::List(vec![false.into(); absent])));
}

#[test]
fn strings_have_the_methods_of_the_library_and_no_others() {
    let swarm = TestSwarm::seeded(2);
    let code = "function aso:onGet()
          local names = {}
          for name in getmetatable('').__index do names[#names + 1] = 'string.' .. name end
          table.sort(names)
          return names
        end";
    swarm.put("probe", Value::Nil, code).expect("it is stored");
    let methods: Vec<_> =
        GOLDEN.lines().filter(|name| name.starts_with("string.")).map(Value::from).collect();
    assert_eq!(swarm.get("probe"), Ok(Value::List(methods)));
}
