//! The applications that ship with Comet: showing them, and what a put by their name stores.

use std::{collections::BTreeMap, io::Write};

use comet_apps::{APPS, App, ComposeError, Setting, compose, find};
use comet_runtime::Value;
use serde_json::{Value as Json, json};

use super::{
    CommandError,
    args::{AppCommand, AppListArgs, AppShowArgs},
    objects,
    print::Look,
    publisher,
    session::Form,
};

/// What a setting without default says in its place.
const REQUIRED: &str = "required";

/// A setting as it was said on the command line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    name: String,
    value: Value,
}

/// What the named applications make of a value.
#[derive(Debug, PartialEq)]
pub(super) struct Prepared {
    /// The handlers.
    pub(super) code: String,
    /// The value with its settings.
    pub(super) value: Value,
}

/// Reads the name of an application.
pub(super) fn parse_app(name: &str) -> Result<&'static App, String> {
    find(name).ok_or_else(|| {
        let nearest = nearest(name, APPS.iter().map(|app| app.name)).unwrap_or_default();
        format!(
            "no application has this name; the nearest is {nearest}, and \"comet-node app list\" lists all"
        )
    })
}

/// Reads `name=value`: numbers, truth values and whatever else is JSON, or the text as it stands.
pub(super) fn parse_setting(text: &str) -> Result<Said, String> {
    let (name, value) = text.split_once('=').ok_or("a setting is said as NAME=VALUE")?;
    let is_json = serde_json::from_str::<Json>(value).is_ok();
    let value = if is_json { objects::parse_value(value)? } else { Value::str(value) };
    Ok(Said { name: name.to_owned(), value })
}

/// What is put for a value, if there is one, under these applications and settings: the map
/// `{ value = …, name = setting, … }`, or the value itself where nothing can be set. Several applications are
/// composed in their order.
pub(super) fn prepare(apps: &[&App], said: &[Said], value: Option<Value>) -> Result<Prepared, CommandError> {
    let usage = CommandError::Usage;
    let (code, settings) = match apps {
        [app] => (app.source.to_owned(), app.settings.to_vec()),
        several => {
            let composed = compose(several).map_err(|error: ComposeError| usage(error.to_string()))?;
            (composed.source, composed.settings)
        }
    };
    let mut fields = BTreeMap::new();
    for Said { name, value } in said {
        if !settings.iter().any(|setting| setting.name == name) {
            return Err(usage(unknown_setting(apps, &settings, name)));
        }
        if fields.insert(name.as_str(), value.clone()).is_some() {
            return Err(usage(format!("the setting {name} is said twice")));
        }
    }
    let missing = |setting: &&Setting| setting.default.is_none() && !fields.contains_key(setting.name);
    if let Some(Setting { name, meaning, .. }) = settings.iter().find(missing) {
        return Err(usage(format!("{} needs --set {name}=VALUE: {meaning}", names(apps))));
    }
    if settings.is_empty() {
        return Ok(Prepared { code, value: value.unwrap_or(Value::Nil) });
    }
    let value = value.map(|value| ("value", value));
    let entries = fields.into_iter().chain(value).map(|(name, value)| (Value::str(name), value));
    Ok(Prepared { code, value: Value::map(entries) })
}

/// `comet-node app`
pub(super) fn app(command: &AppCommand, look: Look, output: &mut dyn Write) -> Result<(), CommandError> {
    match command {
        AppCommand::List(AppListArgs { json }) => {
            let document: Vec<Json> = APPS.iter().map(outline).collect();
            Form::of(*json).write(&document, &listed(APPS, look), output)
        }
        AppCommand::Show(AppShowArgs { app, source: true, .. }) => {
            Ok(output.write_all(app.source.as_bytes())?)
        }
        AppCommand::Show(AppShowArgs { app, json, .. }) => {
            let mut document = outline(app);
            document["source"] = json!(app.source);
            Form::of(*json).write(&document, &shown(app, look), output)
        }
        AppCommand::Sign(args) => publisher::sign(args, output),
    }
}

/// An application without its source, for programs.
fn outline(app: &App) -> Json {
    let settings = app.settings.iter().map(
        |Setting { name, meaning, default }| json!({ "name": name, "meaning": meaning, "default": default }),
    );
    json!({
        "name": app.name,
        "summary": app.summary,
        "lines": code_lines(app.source),
        "bytes": app.source.len(),
        "settings": settings.collect::<Vec<_>>(),
    })
}

fn listed(apps: &[App], look: Look) -> String {
    let width = apps.iter().map(|app| app.name.len()).max().unwrap_or(0);
    let rows = apps.iter().map(|App { name, summary, source, .. }| {
        format!("{name:<width$}  {:>5}  {:>6}  {summary}\n", code_lines(source), source.len())
    });
    let head = look.dim(&format!("{:<width$}  lines   bytes  summary", "name"));
    head + &rows.collect::<String>()
}

fn shown(app: &App, look: Look) -> String {
    let mut text = format!("{}: {}\n", app.name, app.summary);
    let width = app.settings.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
    for Setting { name, meaning, default } in app.settings {
        let default = default.map_or_else(|| REQUIRED.to_owned(), |default| format!("default: {default}"));
        text.push_str(&format!("  --set {name:<width$}  {meaning} ({default})\n"));
    }
    if app.settings.is_empty() {
        text.push_str(&look.dim("  no settings"));
    }
    text + "\n" + app.source
}

/// Lines that are neither empty nor a comment.
fn code_lines(source: &str) -> usize {
    let lines = source.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with("--")).count()
}

fn unknown_setting(apps: &[&App], settings: &[Setting], name: &str) -> String {
    let apps = names(apps);
    match nearest(name, settings.iter().map(|setting| setting.name)) {
        Some(nearest) => format!("{apps} has no setting {name:?}; the nearest is {nearest}"),
        None => format!("{apps} has no settings"),
    }
}

/// The applications as they are named on the command line.
fn names(apps: &[&App]) -> String {
    apps.iter().map(|app| app.name).collect::<Vec<_>>().join(",")
}

/// The name that is most like another one.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |known: &str| strsim::jaro_winkler(name, known);
    known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(apps: &[&str], said: &[&str], value: Option<Value>) -> Result<Prepared, String> {
        let apps: Vec<_> = apps.iter().map(|name| find(name).expect("it ships")).collect();
        let said: Vec<_> = said.iter().map(|text| parse_setting(text).expect("a setting")).collect();
        prepare(&apps, &said, value).map_err(|error| {
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        })
    }

    #[test]
    fn settings_stand_beside_the_value_where_there_are_any() {
        let letter = prepared(&["flexible-timeout"], &["seconds=90"], Some("dear".into())).expect("a put");
        let fields = [("seconds".into(), Value::Int(90)), ("value".into(), "dear".into())];
        assert_eq!(letter.value, Value::map(fields));
        assert_eq!(Some(letter.code.as_str()), find("flexible-timeout").map(|app| app.source));
        let topic = prepared(&["pubsub"], &[], None).expect("a put");
        assert_eq!(topic.value, Value::map([]), "what is not said is not put");
        let counter = prepared(&["counter"], &[], Some("hello".into())).expect("a put");
        assert_eq!(counter.value, "hello".into());
        assert_eq!(prepared(&["counter"], &[], None).expect("a put").value, Value::Nil);
    }

    #[test]
    fn a_setting_is_json_if_it_can_be_and_else_text() {
        for (text, value) in [
            ("n=5", Value::Int(5)),
            ("n=0.5", Value::Float(0.5)),
            ("n=true", Value::Bool(true)),
            ("n=\"5\"", "5".into()),
            ("n=[1]", Value::List(vec![Value::Int(1)])),
            ("n=owner", "owner".into()),
            ("n=a=b", "a=b".into()),
            ("n=", "".into()),
        ] {
            assert_eq!(parse_setting(text), Ok(Said { name: "n".to_owned(), value }), "{text}");
        }
        assert_eq!(parse_setting("seconds"), Err("a setting is said as NAME=VALUE".to_owned()));
        assert!(parse_setting("n={\"$bytes\": 1}").is_err(), "bytes that are none");
    }

    #[test]
    fn settings_that_do_not_fit_are_told_in_one_sentence() {
        for (apps, said, sentence) in [
            (&["one-time"][..], &["cuont=3"][..], "one-time has no setting \"cuont\"; the nearest is count"),
            (&["counter"], &["count=3"], "counter has no settings"),
            (&["one-time"], &["count=3", "count=4"], "the setting count is said twice"),
            (&["pubsub"], &["value=3"], "pubsub has no setting \"value\"; the nearest is publisher"),
            (
                &["flexible-timeout"],
                &[],
                "flexible-timeout needs --set seconds=VALUE: how long readers see the value, in seconds from the put",
            ),
            (
                &["flexible-timeout", "password"],
                &["seconds=9", "salt=pepper"],
                "flexible-timeout,password needs --set verifier=VALUE: the SHA-256 of salt:password, 64 hexadecimal digits",
            ),
            (
                &["flexible-timeout", "counter"],
                &["seconds=9"],
                "counter has no settings and cannot share its value with others",
            ),
        ] {
            assert_eq!(prepared(apps, said, Some("x".into())), Err(sentence.to_owned()));
        }
    }

    #[test]
    fn several_applications_share_one_map_and_keep_their_order() {
        let said = ["entries=8", "seconds=90"];
        let object = prepared(&["flexible-timeout", "access-log"], &said, Some("x".into())).expect("a put");
        let fields = [("entries", Value::Int(8)), ("seconds", Value::Int(90)), ("value", "x".into())];
        assert_eq!(object.value, Value::map(fields.map(|(name, value)| (name.into(), value))));
        let (timeout, log) = (object.code.find("-- flexible-timeout"), object.code.find("-- access-log"));
        assert!(timeout.is_some() && timeout < log, "{timeout:?} {log:?}");
    }

    #[test]
    fn an_unknown_application_is_told_with_the_nearest_right_one() {
        assert_eq!(
            parse_app("countr").expect_err("no such application"),
            "no application has this name; the nearest is counter, and \"comet-node app list\" lists all"
        );
        for app in APPS {
            assert_eq!(parse_app(app.name), Ok(app));
        }
    }

    #[test]
    fn the_list_is_a_table() {
        let app = |name, source| App { name, summary: "does", source, settings: &[] };
        let apps = [app("a", "-- why\naso.n = 0\n\n"), app("longer", "x = 1\ny = 2\n")];
        assert_eq!(
            listed(&apps, Look::Pipe),
            "name    lines   bytes  summary\n\
             a           1      18  does\n\
             longer      2      12  does\n"
        );
    }

    #[test]
    fn what_is_shown_of_an_application_are_its_settings_and_its_source() {
        const SETTINGS: &[Setting] = &[
            Setting { name: "n", meaning: "how many", default: Some("8") },
            Setting { name: "salt", meaning: "any text", default: None },
        ];
        let app = App { name: "a", summary: "does", source: "x = 1\n", settings: SETTINGS };
        assert_eq!(
            shown(&app, Look::Pipe),
            "a: does\n\
             \x20 --set n     how many (default: 8)\n\
             \x20 --set salt  any text (required)\n\
             \n\
             x = 1\n"
        );
        assert!(shown(&App { settings: &[], ..app }, Look::Pipe).contains("  no settings\n"));
    }
}
