//! Starting nodes: the configuration that the arguments ask for, handed to the part that runs them.

use std::{env, path::Path};

use super::{
    CommandError,
    args::{RunArgs, SwarmArgs},
};
use crate::{
    config::{Flags, Layers, NodeConfig},
    node, swarm,
    swarm::SwarmOptions,
};

/// What a node logs unless `RUST_LOG` says otherwise.
const NODE_LOG_FILTER: &str = "warn,comet_node=info";

/// What a swarm logs unless `RUST_LOG` says otherwise: eight nodes' comings and goings would bury the rest.
const SWARM_LOG_FILTER: &str = "warn";

/// `comet-node run`
pub(super) fn run(args: RunArgs) -> Result<(), CommandError> {
    let flags = Flags::default()
        .set("node.listen", args.listen)
        .set("http.listen", args.http)
        .set("tracker.listen", args.tracker)
        .set("resp.listen", args.resp)
        .set("node.data", args.data.map(|path| path.display().to_string()))
        .set_list("node.peers", &args.peer)
        .set("node.mdns", args.mdns.then_some(true));
    let config = configuration(args.config.as_deref(), flags)?;
    start_logging(NODE_LOG_FILTER);
    node::run(&config).map_err(|error| CommandError::Failed(format!("{error:#}")))
}

/// `comet-node swarm`
pub(super) fn swarm(args: SwarmArgs) -> Result<(), CommandError> {
    let flags = Flags::default()
        .set("http.listen", args.http)
        .set("tracker.listen", args.tracker)
        .set("resp.listen", args.resp);
    let config = configuration(args.config.as_deref(), flags)?;
    start_logging(SWARM_LOG_FILTER);
    let options = SwarmOptions { nodes: usize::from(args.nodes), data: args.data, demo: args.demo };
    swarm::run(&options, &config).map_err(|error| CommandError::Failed(format!("{error:#}")))
}

fn configuration(file: Option<&Path>, flags: Flags) -> Result<NodeConfig, CommandError> {
    // A variable that is not UTF-8 cannot be one of ours.
    let variables =
        env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    let layers = Layers::default().read_file(file).map(|layers| layers.environment(variables).flags(flags));
    layers.and_then(Layers::assemble).map_err(|error| CommandError::Usage(error.to_string()))
}

fn start_logging(filter: &str) {
    let environment = env_logger::Env::default().default_filter_or(filter);
    env_logger::Builder::from_env(environment).init();
}
