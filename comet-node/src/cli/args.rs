//! The command line's grammar.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use comet_apps::App;
use comet_runtime::Value;
use comet_store::Version;

use super::{
    app::{Said, parse_app, parse_setting},
    duration::{parse_deadline, parse_duration, parse_ttl},
    objects,
};
use crate::{config::DEFAULT_NETWORK, http::api::VersionText, key_text::KeyText};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused or failed
  2  wrong usage
  3  no such object
  4  the node cannot be reached";

const KEYS: &str = "\
Keys:
  hello                     a public name
  owned:<public key>/hello  a name in the space of an owner (64 hexadecimal digits)
  hex:<key>                 the key itself (64 hexadecimal digits)
With --owner, a bare name is a name in the space of that owner.";

/// A node of Comet, the active distributed key-value store, and its client.
#[derive(Debug, Parser)]
#[command(name = "comet-node", version, about, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a node
    Run(RunArgs),
    /// Run a whole swarm of nodes in this process, on loopback
    Swarm(SwarmArgs),
    /// Store an object
    #[command(after_help = KEYS)]
    Put(Box<PutArgs>),
    /// Read an object; its onGet runs on the replica that answers
    #[command(after_help = KEYS)]
    Get(GetArgs),
    /// Delete an object
    #[command(after_help = KEYS)]
    Delete(DeleteArgs),
    /// List the live nodes closest to a key
    #[command(after_help = KEYS)]
    Lookup(KeyArgs),
    /// Show what each replica holds of an object, without running its handlers
    #[command(after_help = KEYS)]
    Inspect(OwnedKeyArgs),
    /// Show the log of an object on each replica
    #[command(after_help = KEYS)]
    Logs(OwnedKeyArgs),
    /// Show the applications that ship with Comet, which a put takes by name
    #[command(subcommand)]
    App(AppCommand),
    /// Show the node, or make or show an owner's key
    Id(IdArgs),
    /// Make a token for the HTTP interface, in a file that only you can read
    Token(TokenArgs),
    /// Show the limits of the node
    Limits(LimitsArgs),
}

impl Command {
    /// True if the command is to print one JSON document, also when it fails.
    pub(super) fn wants_json(&self) -> bool {
        let target = match self {
            Self::Run(_) | Self::Swarm(_) | Self::Token(_) => return false,
            Self::App(AppCommand::List(args)) => return args.json,
            Self::App(AppCommand::Show(args)) => return args.json,
            Self::App(AppCommand::Sign(args)) => return args.json,
            Self::Put(args) => &args.target,
            Self::Get(args) => &args.target,
            Self::Delete(args) => &args.target,
            Self::Inspect(args) | Self::Logs(args) => &args.target,
            Self::Lookup(args) => &args.target,
            Self::Id(args) => &args.target,
            Self::Limits(args) => &args.target,
        };
        target.json
    }
}

/// Where the node is and how to speak with it.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The node's HTTP address
    #[arg(long, env = "COMET_NODE", value_name = "URL", default_value = "http://127.0.0.1:7480")]
    pub(super) node: String,
    /// The node's HTTP token; other users of this machine can see it here, and not in COMET_TOKEN
    #[arg(long, env = "COMET_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// When to give up waiting for the node
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub(super) timeout: Duration,
    /// Print one JSON document, also when it fails
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The file to make; one that exists is left alone
    pub(super) file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// UDP address for other nodes [default: 0.0.0.0:7400]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Option<SocketAddr>,
    /// TCP address for clients [default: 127.0.0.1:7480]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) http: Option<SocketAddr>,
    /// TCP address for BitTorrent clients: be a tracker [default: none]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) tracker: Option<SocketAddr>,
    /// TCP address for Redis clients [default: none]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) resp: Option<SocketAddr>,
    /// Directory of the node's key and store [default: comet-data]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// A node to join through; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) peer: Vec<String>,
    /// Find nodes on the local network, and be found, by multicast DNS
    #[arg(long)]
    pub(super) mdns: bool,
    /// Configuration file [default: comet.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct SwarmArgs {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(super) nodes: u16,
    /// TCP address for clients of the first node [default: 127.0.0.1:7480]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) http: Option<SocketAddr>,
    /// TCP address for BitTorrent clients of the first node: be a tracker [default: none]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) tracker: Option<SocketAddr>,
    /// TCP address for Redis clients of the first node [default: none]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) resp: Option<SocketAddr>,
    /// Directory of the nodes' keys and stores [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Configuration file [default: comet.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Store and read a few example objects first
    #[arg(long)]
    pub(super) demo: bool,
}

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    /// The object's key
    pub(super) key: KeyText,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Args)]
pub(super) struct OwnedKeyArgs {
    /// The object's key
    pub(super) key: KeyText,
    /// File with the owner's key
    #[arg(long, value_name = "KEYFILE")]
    pub(super) owner: Option<PathBuf>,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// The object's key
    pub(super) key: KeyText,
    /// File with the owner's key, which signs the deletion
    #[arg(long, value_name = "KEYFILE")]
    pub(super) owner: Option<PathBuf>,
    /// The owner's sequence number, higher than that of the put [default: microseconds since 1970]
    #[arg(long, value_name = "N", requires = "owner")]
    pub(super) sequence: Option<u64>,
    /// When the node gives up, as 500ms or 10s, at most 1m [default: the node's, 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_deadline)]
    pub(super) deadline: Option<Duration>,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Args)]
pub(super) struct PutArgs {
    /// The object's key
    pub(super) key: KeyText,
    #[command(flatten)]
    pub(super) source: Source,
    /// File with the handlers; the object is then active
    #[arg(long, value_name = "FILE.lua")]
    pub(super) code: Option<PathBuf>,
    /// Application that the object is to be, as listed by "app list"; several are composed in their order
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = parse_app, conflicts_with = "code")]
    pub(super) app: Vec<&'static App>,
    /// A setting of the application; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting, requires = "app")]
    pub(super) set: Vec<Said>,
    /// File with a publisher's signature under the handlers, as written by "app sign"
    #[arg(long, value_name = "FILE.sig")]
    pub(super) signature: Option<PathBuf>,
    /// How long to keep it, as 90s, 15m, 1h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub(super) ttl: Option<u64>,
    /// On how many nodes; 0 leaves that to the handlers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=20))]
    pub(super) replicas: Option<u8>,
    /// File with the owner's key, which signs the put
    #[arg(long, value_name = "KEYFILE")]
    pub(super) owner: Option<PathBuf>,
    /// The owner's sequence number, higher than before [default: microseconds since 1970]
    #[arg(long, value_name = "N", requires = "owner")]
    pub(super) sequence: Option<u64>,
    /// Only in the place of this version, as "get --with-version" shows it
    #[arg(long, value_name = "VERSION", value_parser = parse_version, conflicts_with = "if_absent")]
    pub(super) if_version: Option<Version>,
    /// Only if there is no object
    #[arg(long)]
    pub(super) if_absent: bool,
    /// When the node gives up, as 500ms or 10s, at most 1m [default: the node's, 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_deadline)]
    pub(super) deadline: Option<Duration>,
    #[command(flatten)]
    pub(super) target: Target,
}

/// What a put stores: one of these, or nothing if there is code or an application and none of them.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Source {
    /// Text; - reads bytes from the standard input
    #[arg(allow_negative_numbers = true)]
    pub(super) value: Option<String>,
    /// Any value, as JSON
    #[arg(long, value_name = "JSON", value_parser = objects::parse_value)]
    pub(super) json_value: Option<Value>,
    /// The bytes of a file
    #[arg(long, value_name = "F")]
    pub(super) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// The object's key
    pub(super) key: KeyText,
    /// What onGet receives as its third argument
    #[arg(long, value_name = "JSON", value_parser = objects::parse_value)]
    pub(super) payload: Option<Value>,
    /// Hear every replica
    #[arg(long, conflicts_with = "quorum")]
    pub(super) all: bool,
    /// Hear replicas until N of them agree
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=20))]
    pub(super) quorum: Option<u8>,
    /// Print the bytes of a string and nothing else
    #[arg(long, conflicts_with_all = ["json", "all", "quorum"])]
    pub(super) raw: bool,
    /// Print the version as well, for a put with --if-version
    #[arg(long, conflicts_with_all = ["all", "quorum", "raw"])]
    pub(super) with_version: bool,
    /// File with the owner's key: reads the name in its space
    #[arg(long, value_name = "KEYFILE")]
    pub(super) owner: Option<PathBuf>,
    /// When the node gives up, as 500ms or 10s, at most 1m [default: the node's, 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_deadline)]
    pub(super) deadline: Option<Duration>,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Subcommand)]
pub(super) enum AppCommand {
    /// List the applications
    List(AppListArgs),
    /// Show an application: its settings and its handlers
    Show(AppShowArgs),
    /// Sign handlers as their publisher: nodes that trust the publisher let them contact anyone
    Sign(AppSignArgs),
}

#[derive(Debug, Args)]
pub(super) struct AppListArgs {
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct AppShowArgs {
    /// The application's name
    #[arg(value_name = "NAME", value_parser = parse_app)]
    pub(super) app: &'static App,
    /// Print the handlers and nothing else
    #[arg(long, conflicts_with = "json")]
    pub(super) source: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct AppSignArgs {
    /// File with the handlers; the signature is written beside it, into FILE.lua.sig
    #[arg(value_name = "FILE.lua")]
    pub(super) code: PathBuf,
    /// File with the publisher's key, as "id --new" makes it
    #[arg(long, value_name = "KEYFILE")]
    pub(super) key: PathBuf,
    /// The network on which the signature holds
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NETWORK)]
    pub(super) network: String,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct IdArgs {
    /// Make a new owner's key in this file
    #[arg(long, value_name = "FILE")]
    pub(super) new: Option<PathBuf>,
    /// Show the public key of this file
    #[arg(long, value_name = "KEYFILE", conflicts_with = "new")]
    pub(super) owner: Option<PathBuf>,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Args)]
pub(super) struct LimitsArgs {
    /// Show the defaults instead, without asking a node
    #[arg(long)]
    pub(super) defaults: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

fn parse_version(text: &str) -> Result<Version, String> {
    let refusal = "a version is SEQUENCE-HASH, with 64 hexadecimal digits of hash";
    VersionText::parse(text).ok_or_else(|| refusal.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Command, ErrorKind> {
        let words = std::iter::once("comet-node").chain(line.split_whitespace());
        Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| error.kind())
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_put_takes_exactly_one_source() {
        let Ok(Command::Put(args)) = parse("put k v --ttl 1h --replicas 3") else { panic!("a put") };
        assert_eq!((args.source.value.as_deref(), args.ttl, args.replicas), (Some("v"), Some(3600), Some(3)));
        let Ok(Command::Put(args)) = parse("put k -") else { panic!("a put") };
        assert_eq!(args.source.value.as_deref(), Some("-"));
        let Ok(Command::Put(args)) = parse("put k -5") else { panic!("a put") };
        assert_eq!(args.source.value.as_deref(), Some("-5"));
        let Ok(Command::Put(args)) = parse("put k --json-value [1,null]") else { panic!("a put") };
        assert_eq!(args.source.json_value, Some(Value::List(vec![Value::Int(1), Value::Nil])));
        assert_eq!(parse("put k v --file f").err(), Some(ErrorKind::ArgumentConflict));
        assert_eq!(parse("put k --json-value 1 --file f").err(), Some(ErrorKind::ArgumentConflict));
    }

    #[test]
    fn a_put_takes_a_version_as_it_is_shown_or_none_and_not_both() {
        let version = Version { sequence: 42, hash: [0xab; 32] };
        let text = VersionText::from(version).to_string();
        let Ok(Command::Put(args)) = parse(&format!("put k v --if-version {text}")) else { panic!("a put") };
        assert_eq!((args.if_version, args.if_absent), (Some(version), false));
        let both = parse(&format!("put k v --if-absent --if-version {text}")).err();
        assert_eq!(both, Some(ErrorKind::ArgumentConflict));
        assert_eq!(parse("put k v --if-version 42").err(), Some(ErrorKind::ValueValidation));
    }

    #[test]
    fn applications_are_named_once_or_in_a_list_in_their_order() {
        for line in ["put k v --app counter,pubsub", "put k v --app counter --app pubsub"] {
            let Ok(Command::Put(args)) = parse(line) else { panic!("a put") };
            assert_eq!(args.app.iter().map(|app| app.name).collect::<Vec<_>>(), ["counter", "pubsub"]);
        }
    }

    #[test]
    fn wrong_arguments_are_refused_before_anything_is_sent() {
        for (line, kind) in [
            ("put k v --tll 1h", ErrorKind::UnknownArgument),
            ("put k v --ttl 1fortnight", ErrorKind::ValueValidation),
            ("put k v --ttl 0s", ErrorKind::ValueValidation),
            ("put k v --replicas 21", ErrorKind::ValueValidation),
            ("put k --json-value {", ErrorKind::ValueValidation),
            ("put k v --sequence 1", ErrorKind::MissingRequiredArgument),
            ("delete k --sequence 1", ErrorKind::MissingRequiredArgument),
            ("put k v --app countr", ErrorKind::ValueValidation),
            ("put k v --app counter --code f", ErrorKind::ArgumentConflict),
            ("put k v --set seconds=90", ErrorKind::MissingRequiredArgument),
            ("put k v --app flexible-timeout --set seconds", ErrorKind::ValueValidation),
            ("app show countr", ErrorKind::ValueValidation),
            ("app show counter --source --json", ErrorKind::ArgumentConflict),
            ("get hex:12", ErrorKind::ValueValidation),
            ("get k --all --quorum 3", ErrorKind::ArgumentConflict),
            ("get k --quorum 0", ErrorKind::ValueValidation),
            ("get", ErrorKind::MissingRequiredArgument),
            ("swarm --nodes 0", ErrorKind::ValueValidation),
            ("run --listen here", ErrorKind::ValueValidation),
            ("run --tracker 6969", ErrorKind::ValueValidation),
            ("run --resp 7379", ErrorKind::ValueValidation),
            ("gett k", ErrorKind::InvalidSubcommand),
            ("", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ] {
            assert_eq!(parse(line).err(), Some(kind), "{line}");
        }
    }

    #[test]
    fn an_unknown_option_suggests_the_nearest_one() {
        let error =
            Cli::try_parse_from(["comet-node", "put", "k", "v", "--tll", "1h"]).expect_err("no such option");
        assert!(error.to_string().contains("a similar argument exists: '--ttl'"), "{error}");
    }

    #[test]
    fn the_help_tells_the_exit_codes() {
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("4  the node cannot be reached"), "{help}");
    }

    #[test]
    fn a_swarm_has_eight_nodes_and_the_first_flags_of_a_run_are_peers() {
        assert!(matches!(parse("swarm"), Ok(Command::Swarm(SwarmArgs { nodes: 8, demo: false, .. }))));
        let Ok(Command::Run(args)) = parse("run --peer a:1 --peer b:2 --data d") else { panic!("a run") };
        assert_eq!(args.peer, ["a:1", "b:2"]);
        assert_eq!(args.data, Some(PathBuf::from("d")));
    }
}
