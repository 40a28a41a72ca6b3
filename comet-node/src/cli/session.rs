//! One command's way to the node and back to the person or program who asked.

use std::io::Write;

use comet_runtime::Limits;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};
use ureq::http::Method;

use super::{
    CommandError,
    args::{LimitsArgs, Target},
    client::{Call, Client},
    print::{self, Look},
};
use crate::{
    config::ReplicationConfig,
    http::api::{LimitsReply, NodeReport},
};

/// The node that a command speaks to, and how its output should look.
pub(super) struct Session {
    client: Client,
    look: Look,
    form: Form,
}

/// For whom the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A person.
    Text,
    /// A program: one JSON document.
    Json,
}

impl Form {
    /// The form that the option `--json` asks for, if it is there.
    pub(super) fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }

    /// Writes what the program itself says, as a document or as text.
    pub(super) fn write(
        self,
        document: &impl Serialize,
        text: &str,
        output: &mut dyn Write,
    ) -> Result<(), CommandError> {
        let text = match self {
            Self::Json => format!("{}\n", json!(document)),
            Self::Text => text.to_owned(),
        };
        Ok(output.write_all(text.as_bytes())?)
    }
}

impl Session {
    /// The session that the arguments ask for.
    pub(super) fn new(target: &Target, look: Look) -> Self {
        let client = Client::new(&target.node, target.token.as_deref(), target.timeout);
        Self { client, look, form: Form::of(target.json) }
    }

    /// How text should look.
    pub(super) fn look(&self) -> Look {
        self.look
    }

    /// For whom the output is.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Sends a request and prints the reply: as it came, or as the text that `to_text` makes of it.
    pub(super) fn show<T: DeserializeOwned>(
        &self,
        call: Call,
        output: &mut dyn Write,
        to_text: impl FnOnce(&T, Look) -> Result<String, CommandError>,
    ) -> Result<(), CommandError> {
        let json = self.client.call(call)?;
        let text = match self.form {
            Form::Json => format!("{json}\n"),
            Form::Text => to_text(&self.client.document(&json)?, self.look)?,
        };
        Ok(output.write_all(text.as_bytes())?)
    }

    /// Sends a request and returns the reply.
    pub(super) fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, CommandError> {
        self.client.document(&self.client.call(call)?)
    }

    /// The node's report about itself.
    pub(super) fn node(&self) -> Result<NodeReport, CommandError> {
        self.ask(Call::new(Method::GET, "/v1/node"))
    }

    /// The node's limits.
    pub(super) fn limits(&self) -> Result<LimitsReply, CommandError> {
        self.ask(Call::new(Method::GET, "/v1/limits"))
    }

    /// Prints something that did not come from the node.
    pub(super) fn show_own(
        &self,
        document: &impl Serialize,
        text: &str,
        output: &mut dyn Write,
    ) -> Result<(), CommandError> {
        self.form.write(document, text, output)
    }
}

/// `comet-node limits`
pub(super) fn limits(
    session: &Session,
    args: &LimitsArgs,
    output: &mut dyn Write,
) -> Result<(), CommandError> {
    let limits = if args.defaults {
        LimitsReply { limits: Limits::default(), replication: ReplicationConfig::default() }
    } else {
        session.limits()?
    };
    let sections = [("limits", json!(limits.limits)), ("replication", json!(limits.replication))];
    let mut text = String::new();
    for (section, content) in &sections {
        let Json::Object(content) = content else { unreachable!("a section serialises to a map") };
        text.push_str(&print::section(section, content, session.look()));
    }
    session.show_own(&limits, &text, output)
}
