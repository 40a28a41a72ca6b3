//! Putting a [`NodeConfig`] together: defaults < file < environment < command line.
//!
//! Every layer is held against the keys and kinds of the default configuration before the layers are merged,
//! so that a mistake is reported with the layer it is in, the key it is at and, for an unknown key, the
//! nearest one that exists.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use config::{Config, FileFormat, Format, Map, Source, Value, ValueKind};
use serde_json::Value as Json;

use super::NodeConfig;

/// The file that is read when none is named and it exists.
const DEFAULT_FILE: &str = "comet.toml";

/// Prefix of the environment's variables: `COMET_HTTP_LISTEN` is `http.listen`.
const ENVIRONMENT_PREFIX: &str = "COMET_";

/// Variables with the prefix that are not keys: those of the client commands, and those that Kubernetes sets
/// in the pods beside a service named `comet`.
const OTHER_VARIABLES: [&str; 2] = ["NODE", "TOKEN"];
const OTHER_VARIABLE_PREFIXES: [&str; 2] = ["SERVICE_", "PORT"];

/// How alike, from 0 to 1, a key must be to the one that was written to be suggested.
const LIKENESS_MIN: f64 = 0.6;

/// The largest configuration file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no configuration to start with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The file holds a secret and others may read it.
    #[error("{} holds http.token and other users can read it; run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML.
    #[error("{origin} is not valid TOML: {reason}")]
    Syntax {
        /// The file.
        origin: String,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// There is no such key.
    #[error("{origin}: unknown configuration key {key:?}{}", suggestion(nearest.as_deref()))]
    Unknown {
        /// Where it is written.
        origin: String,
        /// The key.
        key: String,
        /// The nearest key that exists.
        nearest: Option<String>,
    },
    /// A key has a value that it cannot have.
    #[error("{origin}: {key}: {reason}")]
    Wrong {
        /// Where it is written.
        origin: String,
        /// The key.
        key: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// A key has a value of the right kind that does not fit.
    #[error("{}{key} wants {wants}", place(origin.as_deref()))]
    Unfit {
        /// Where it is written; `None` if it is a default, which something else that was set does not agree with.
        origin: Option<String>,
        /// The key.
        key: &'static str,
        /// What it wants.
        wants: &'static str,
    },
}

/// What the command line sets, by key.
#[derive(Clone, Debug, Default)]
pub struct Flags(BTreeMap<&'static str, Value>);

impl Flags {
    /// Sets a key, if the flag was given.
    pub fn set(mut self, key: &'static str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.0.insert(key, Value::new(None, value.to_string()));
        }
        self
    }

    /// Sets a list, if the flag was given at least once.
    pub fn set_list(mut self, key: &'static str, items: &[String]) -> Self {
        if !items.is_empty() {
            self.0.insert(key, Value::new(None, items.to_vec()));
        }
        self
    }
}

/// The layers above the defaults.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    file: Option<(String, String)>,
    environment: Vec<(String, String)>,
    flags: Flags,
}

impl Layers {
    /// Adds a file's name and text.
    pub fn file(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.file = Some((name.into(), text.into()));
        self
    }

    /// Reads `path` from the disk, or `comet.toml` in the working directory if there is one.
    pub fn read_file(self, path: Option<&Path>) -> Result<Self, ConfigError> {
        let explicit = path.is_some();
        let path = path.unwrap_or(Path::new(DEFAULT_FILE));
        match read_bounded(path) {
            Ok(text) => {
                if is_open_to_others(path) && holds_token(&text) {
                    return Err(ConfigError::Exposed { path: path.to_owned() });
                }
                Ok(self.file(path.display().to_string(), text))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !explicit => Ok(self),
            Err(error) => Err(ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() }),
        }
    }

    /// Adds environment variables; those without the prefix are passed over.
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment = variables.into_iter().collect();
        self
    }

    /// Adds what the command line sets.
    pub fn flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    /// Merges the layers and checks the result.
    pub fn assemble(self) -> Result<NodeConfig, ConfigError> {
        let known: BTreeMap<String, Json> = known_keys().into_iter().collect();
        let mut layers = Vec::new();
        if let Some((name, text)) = self.file {
            layers.push(Layer::of_file(name, &text, &known)?);
        }
        for (name, text) in self.environment {
            layers.extend(Layer::of_variable(name, text, &known)?);
        }
        for (key, value) in self.flags.0 {
            layers.push(Layer {
                origin: "the command line".to_owned(),
                values: [(key.to_owned(), value)].into(),
            });
        }
        let config = merge(&layers)?;
        config.check().map_err(|error| match error {
            ConfigError::Unfit { key, wants, .. } => {
                let origin = origin_of(key, &layers).map(str::to_owned);
                ConfigError::Unfit { origin, key, wants }
            }
            other => other,
        })?;
        Ok(config)
    }
}

/// Every key of the default configuration, as `section.key`, with its default.
pub(super) fn known_keys() -> Vec<(String, Json)> {
    let Ok(Json::Object(sections)) = serde_json::to_value(NodeConfig::default()) else {
        unreachable!("a configuration serialises to a map of sections");
    };
    let mut keys = Vec::new();
    for (section, content) in sections {
        let Json::Object(content) = content else { unreachable!("a section serialises to a map") };
        keys.extend(content.into_iter().map(|(name, default)| (format!("{section}.{name}"), default)));
    }
    keys
}

/// What one source sets: known keys, as `section.key`, with values of the right kind.
#[derive(Clone, Debug)]
struct Layer {
    origin: String,
    values: Map<String, Value>,
}

impl Layer {
    fn of_file(origin: String, text: &str, known: &BTreeMap<String, Json>) -> Result<Self, ConfigError> {
        let tables = FileFormat::Toml.parse(Some(&origin), text).map_err(|error| ConfigError::Syntax {
            origin: origin.clone(),
            reason: in_one_line(&error.to_string()),
        })?;
        // The file's own order is lost, so the first mistake by name is the one that is reported.
        let tables: BTreeMap<String, Value> = tables.into_iter().collect();
        let mut values = Map::new();
        for (section, content) in tables {
            let is_section = is_section(&section);
            match content.kind {
                ValueKind::Table(content) if is_section => {
                    for (name, value) in content.into_iter().collect::<BTreeMap<_, _>>() {
                        let key = format!("{section}.{name}");
                        let default = known.get(&key).ok_or_else(|| unknown(&origin, &key, known))?;
                        fits(&value, default).map_err(|reason| wrong(&origin, &key, reason))?;
                        values.insert(key, value);
                    }
                }
                ValueKind::Table(content) => {
                    let name =
                        content.keys().min().map_or(section.clone(), |name| format!("{section}.{name}"));
                    return Err(unknown(&origin, &name, known));
                }
                _ if is_section => {
                    return Err(wrong(&origin, &section, "this is a section, not a key".to_owned()));
                }
                _ => return Err(unknown(&origin, &section, known)),
            }
        }
        Ok(Self { origin, values })
    }

    /// The layer of one environment variable, if it means us.
    fn of_variable(
        name: String,
        text: String,
        known: &BTreeMap<String, Json>,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { return Ok(None) };
        let foreign = OTHER_VARIABLE_PREFIXES.iter().any(|prefix| rest.starts_with(prefix));
        if foreign || OTHER_VARIABLES.contains(&rest) {
            return Ok(None);
        }
        let key = rest.to_ascii_lowercase().replacen('_', ".", 1);
        let default = known.get(&key).ok_or_else(|| {
            let nearest = nearest(&key, known).map(|key| variable_of(&key));
            ConfigError::Unknown { origin: "the environment".to_owned(), key: name.clone(), nearest }
        })?;
        let value = from_text(text, default).map_err(|reason| wrong("the environment", &name, reason))?;
        Ok(Some(Self { origin: name, values: [(key, value)].into() }))
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.values.clone())
    }
}

fn merge(layers: &[Layer]) -> Result<NodeConfig, ConfigError> {
    let mut builder = Config::builder();
    for layer in layers {
        builder = builder.add_source(layer.clone());
    }
    builder.build().and_then(Config::try_deserialize).map_err(|error| {
        let (key, reason) = explained(&error);
        wrong(origin_of(&key, layers).unwrap_or("the configuration"), &key, reason)
    })
}

/// The layer that a key has its value from; `None` for a default.
fn origin_of<'a>(key: &str, layers: &'a [Layer]) -> Option<&'a str> {
    let layer = layers.iter().rev().find(|layer| layer.values.contains_key(list_of(key)));
    layer.map(|layer| layer.origin.as_str())
}

/// The key and the reason of an error that the `config` crate made, without its own prose around them.
fn explained(error: &config::ConfigError) -> (String, String) {
    match error {
        config::ConfigError::Type { unexpected, expected, key, .. } => {
            (key.clone().unwrap_or_default(), format!("{unexpected} is not {expected}"))
        }
        config::ConfigError::At { error, key, .. } => {
            let (inner, reason) = explained(error);
            (key.clone().unwrap_or(inner), reason)
        }
        other => (String::new(), other.to_string()),
    }
}

/// `node.peers` of `node.peers[2]`.
fn list_of(key: &str) -> &str {
    key.split('[').next().unwrap_or(key)
}

/// Holds a file's value against the kind of the default: the `config` crate would round 3.7 to 4 and take
/// "12" for a number.
fn fits(value: &Value, default: &Json) -> Result<(), String> {
    let (fits, wants) = match default {
        Json::Number(_) => (matches!(value.kind, ValueKind::I64(n) if n >= 0), "a whole number, 0 or more"),
        Json::Bool(_) => (matches!(value.kind, ValueKind::Boolean(_)), "true or false"),
        Json::Array(_) => match &value.kind {
            ValueKind::Array(items) => {
                (items.iter().all(|item| matches!(item.kind, ValueKind::String(_))), "a list of strings")
            }
            _ => (false, "a list of strings"),
        },
        Json::String(_) => (matches!(value.kind, ValueKind::String(_)), "a string"),
        _ => (!matches!(value.kind, ValueKind::Table(_) | ValueKind::Array(_)), "a single value"),
    };
    if fits { Ok(()) } else { Err(format!("{} is not {wants}", shown(value))) }
}

/// The value of an environment variable, read as the kind of the default; lists are separated by commas.
fn from_text(text: String, default: &Json) -> Result<Value, String> {
    match default {
        Json::Number(_) => {
            let number: Result<u64, _> = text.trim().parse();
            number
                .map(|n| Value::new(None, n))
                .map_err(|_| format!("{text:?} is not a whole number, 0 or more"))
        }
        Json::Bool(_) => {
            let truth: Result<bool, _> = text.trim().parse();
            truth.map(|b| Value::new(None, b)).map_err(|_| format!("{text:?} is not true or false"))
        }
        Json::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::new(None, items.map(str::to_owned).collect::<Vec<_>>()))
        }
        _ => Ok(Value::new(None, text)),
    }
}

fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(_) => "this list".to_owned(),
        ValueKind::Table(_) => "this table".to_owned(),
        other => other.to_string(),
    }
}

fn wrong(origin: &str, key: &str, reason: String) -> ConfigError {
    ConfigError::Wrong { origin: origin.to_owned(), key: key.to_owned(), reason }
}

fn unknown(origin: &str, key: &str, known: &BTreeMap<String, Json>) -> ConfigError {
    ConfigError::Unknown { origin: origin.to_owned(), key: key.to_owned(), nearest: nearest(key, known) }
}

/// The known key that is most like `key`: as a whole, or by its name if that stands in the wrong section.
fn nearest(key: &str, known: &BTreeMap<String, Json>) -> Option<String> {
    let likeness = |candidate: &str| {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        let (its_section, its_name) = candidate.split_once('.').unwrap_or(("", candidate));
        let by_name =
            0.9 * strsim::jaro_winkler(name, its_name) + 0.1 * strsim::jaro_winkler(section, its_section);
        strsim::jaro_winkler(key, candidate).max(by_name)
    };
    // Of equally good ones that of something which every node has is the likelier: `listen` is not the tracker's.
    let by_default = |key: &String| known.get(key).is_some_and(|default| !default.is_null());
    let best = known
        .keys()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)).then(by_default(a).cmp(&by_default(b))))?;
    (likeness(best) >= LIKENESS_MIN).then(|| best.clone())
}

fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.to_ascii_uppercase().replace('.', "_"))
}

fn place(origin: Option<&str>) -> String {
    origin.map_or_else(String::new, |origin| format!("{origin}: "))
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest:?}?"))
}

fn is_section(name: &str) -> bool {
    let default = serde_json::to_value(NodeConfig::default());
    default.is_ok_and(|sections| sections.get(name).is_some())
}

/// The TOML parser draws a picture of the place; a sentence wants the words only.
fn in_one_line(reason: &str) -> String {
    let lines = reason.lines().map(str::trim);
    let words = lines.filter(|line| !line.is_empty() && !line.contains('|'));
    words.map(|line| line.strip_prefix("TOML parse error ").unwrap_or(line)).collect::<Vec<_>>().join(": ")
}

fn read_bounded(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    fs::read_to_string(path)
}

fn holds_token(text: &str) -> bool {
    let tables = FileFormat::Toml.parse(None, text).unwrap_or_default();
    let Some(ValueKind::Table(http)) = tables.get("http").map(|section| &section.kind) else { return false };
    http.contains_key("token")
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Layers {
        Layers::default().file("comet.toml", text)
    }

    fn refusal(layers: Layers) -> String {
        layers.assemble().expect_err("the layers hold a mistake").to_string()
    }

    fn variable(name: &str, text: &str) -> Layers {
        Layers::default().environment([(name.to_owned(), text.to_owned())])
    }

    #[test]
    fn without_layers_there_are_the_defaults() {
        assert_eq!(Layers::default().assemble(), Ok(NodeConfig::default()));
        assert_eq!(file("").assemble(), Ok(NodeConfig::default()));
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let text = "[http]\nlisten = \"127.0.0.1:1\"\n[node]\nnetwork = \"file\"\npeers = [\"a:1\", \"b:2\"]\n\
                    [replication]\nreplicas = 3";
        let config = file(text)
            .environment([
                ("COMET_HTTP_LISTEN".to_owned(), "127.0.0.1:2".to_owned()),
                ("COMET_NODE_NETWORK".to_owned(), "env".to_owned()),
                ("COMET_NODE_PEERS".to_owned(), "c:3, d:4".to_owned()),
                ("PATH".to_owned(), "/bin".to_owned()),
            ])
            .flags(Flags::default().set("http.listen", Some("127.0.0.1:3")).set("node.data", None::<String>))
            .assemble()
            .expect("all layers are right");
        assert_eq!(config.http.listen, "127.0.0.1:3".parse().unwrap());
        assert_eq!(config.node.network, "env");
        assert_eq!(config.node.peers, ["c:3", "d:4"]);
        assert_eq!(config.replication.replicas, 3);
        assert_eq!(config.limits, NodeConfig::default().limits);
    }

    #[test]
    fn unknown_keys_name_the_nearest_right_one_and_the_place() {
        for (text, sentence) in [
            (
                "[http]\ntokn = \"x\"",
                r#"comet.toml: unknown configuration key "http.tokn"; did you mean "http.token"?"#,
            ),
            (
                "[htp]\nlisten = \"x\"",
                r#"comet.toml: unknown configuration key "htp.listen"; did you mean "http.listen"?"#,
            ),
            (
                "listen = \"x\"",
                r#"comet.toml: unknown configuration key "listen"; did you mean "node.listen"?"#,
            ),
            (
                "[node]\nreplicas = 3",
                r#"comet.toml: unknown configuration key "node.replicas"; did you mean "replication.replicas"?"#,
            ),
            ("zzz = 1", r#"comet.toml: unknown configuration key "zzz""#),
        ] {
            assert_eq!(refusal(file(text)), sentence);
        }
        assert_eq!(
            refusal(variable("COMET_HTTP_TOKN", "x")),
            r#"the environment: unknown configuration key "COMET_HTTP_TOKN"; did you mean "COMET_HTTP_TOKEN"?"#
        );
    }

    #[test]
    fn wrong_values_name_the_key_and_the_place() {
        for (text, sentence) in [
            (
                "[limits]\nsteps = \"many\"",
                r#"comet.toml: limits.steps: "many" is not a whole number, 0 or more"#,
            ),
            ("[limits]\nsteps = 3.7", "comet.toml: limits.steps: 3.7 is not a whole number, 0 or more"),
            ("[limits]\nsteps = -1", "comet.toml: limits.steps: -1 is not a whole number, 0 or more"),
            ("[node]\npeers = \"a:1\"", r#"comet.toml: node.peers: "a:1" is not a list of strings"#),
            ("[node]\nlisten = \"here\"", "comet.toml: node.listen: invalid socket address syntax"),
            (
                "[replication]\nreplicas = 300",
                "comet.toml: replication.replicas: 64-bit unsigned integer `300` is not an unsigned 8 bit integer",
            ),
            (
                "[runtime]\ncontact = \"loose\"",
                "comet.toml: runtime.contact: enum ContactPolicy does not have variant constructor loose",
            ),
            ("http = 1", "comet.toml: http: this is a section, not a key"),
        ] {
            assert_eq!(refusal(file(text)), sentence);
        }
        let sentence = r#"the environment: COMET_LIMITS_STEPS: "x" is not a whole number, 0 or more"#;
        assert_eq!(refusal(variable("COMET_LIMITS_STEPS", "x")), sentence);
        let flags = Flags::default().set("node.listen", Some("there"));
        let sentence = "the command line: node.listen: invalid socket address syntax";
        assert_eq!(refusal(Layers::default().flags(flags)), sentence);
    }

    #[test]
    fn values_out_of_range_name_the_place_that_they_come_from() {
        let text = "[limits]\nqueue = 0";
        assert_eq!(refusal(file(text)), "comet.toml: limits.queue wants at least 1");
        let overridden = file(text).environment([("COMET_LIMITS_QUEUE".into(), "0".into())]);
        assert_eq!(refusal(overridden), "COMET_LIMITS_QUEUE: limits.queue wants at least 1");
        let mended = file(text).environment([("COMET_LIMITS_QUEUE".into(), "8".into())]);
        assert!(mended.assemble().is_ok(), "only the value that counts is judged");
        let flags = Flags::default().set_list("node.peers", &["nowhere".to_owned()]);
        let sentence = "the command line: node.peers wants entries like HOST:PORT";
        assert_eq!(refusal(Layers::default().flags(flags)), sentence);
        let sentence = "replication.ttl_seconds wants a time from ttl_seconds_min to ttl_seconds_max";
        assert_eq!(
            refusal(file("[replication]\nttl_seconds_max = 86399")),
            sentence,
            "a default comes from nowhere"
        );
    }

    #[test]
    fn bad_toml_says_where() {
        let sentence = refusal(file("[http]\nlisten = "));
        assert!(sentence.starts_with("comet.toml is not valid TOML: at line 2, column 10"), "{sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
    }

    #[test]
    fn variables_of_the_client_and_of_kubernetes_are_not_keys() {
        for name in ["COMET_NODE", "COMET_TOKEN", "COMET_SERVICE_HOST", "COMET_PORT_7400_TCP", "COMETS_X"] {
            assert_eq!(variable(name, "x").assemble(), Ok(NodeConfig::default()), "{name}");
        }
    }

    #[test]
    fn a_named_file_must_exist_and_an_unnamed_one_need_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.toml");
        let error = Layers::default().read_file(Some(&path)).expect_err("there is no such file");
        assert!(matches!(error, ConfigError::Unreadable { path: named, .. } if named == path));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_with_a_token_must_be_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("comet.toml");
        let token = "9b2f6c01d4e87a35f0c6b18e2d7943aa";
        fs::write(&path, format!("[http]\ntoken = \"{token}\"")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Layers::default().read_file(Some(&path)).expect_err("others can read it");
        assert_eq!(error, ConfigError::Exposed { path: path.clone() });
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let config = Layers::default().read_file(Some(&path)).and_then(Layers::assemble).unwrap();
        assert_eq!(config.http.token, Some(token.to_owned()));
    }
}
