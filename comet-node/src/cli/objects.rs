//! The commands about objects.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use comet_runtime::{Value, dht::Expected};
use comet_store::Code;
use serde_json::Value as Json;
use ureq::http::Method;

use super::{
    CommandError,
    app::{Prepared, prepare},
    args::{DeleteArgs, GetArgs, KeyArgs, OwnedKeyArgs, PutArgs, Source},
    client::{Call, encoded, encoded_query, object_path},
    owner::{Owner, UnsignedPut},
    print::{self, Look},
    publisher::read_signature,
    session::{Form, Session},
};
use crate::{
    http::api::{
        DeleteReply, GetAllReply, GetReply, InspectReply, LogsReply, LookupReply, OwnerClaim, PutBody,
        PutReply,
    },
    json::{from_json, to_json},
    key_text::KeyText,
};

/// The most bytes that are read from a file or the standard input; the node's own limit is far lower.
const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Inputs up to this size are sent without asking for the node's limits first.
const UNASKED_BYTES_MAX: usize = 16 * 1024;

/// How deep a JSON value may nest here; the node applies its own limit.
const DEPTH_MAX: usize = 32;

/// Reads a value from JSON on the command line.
pub(super) fn parse_value(text: &str) -> Result<Value, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))?;
    from_json(&json, DEPTH_MAX).map_err(|error| error.to_string())
}

/// `comet-node put`
pub(super) fn put(session: &Session, args: &PutArgs, output: &mut dyn Write) -> Result<(), CommandError> {
    let owner = args.owner.as_deref().map(Owner::load).transpose()?;
    let code = args.code.as_deref().map(read_text).transpose()?;
    let (value, code) = match (read_source(&args.source)?, code) {
        (value, None) if !args.app.is_empty() => {
            let Prepared { code, value } = prepare(&args.app, &args.set, value)?;
            (value, Some(code))
        }
        (Some(value), code) => (value, code),
        (None, Some(code)) => (Value::Nil, Some(code)),
        (None, None) => {
            let sentence = "a put wants a VALUE, --json-value, --file or -; \
                            only with --code or --app may it go without";
            return Err(CommandError::Usage(sentence.to_owned()));
        }
    };
    let data = value.encode();
    check_sizes(session, data.len(), code.as_ref().map_or(0, String::len))?;
    if args.signature.is_some() && code.is_none() {
        let sentence = "--signature goes with --code or --app: a publisher signs handlers";
        return Err(CommandError::Usage(sentence.to_owned()));
    }
    let publication = args.signature.as_deref().map(read_signature).transpose()?;
    let (ttl_seconds, replicas) = (args.ttl, args.replicas);
    let body = PutBody { code, publication, ttl_seconds, replicas, ..PutBody::default() };
    let (key, body) = match owner {
        None => (args.key.clone(), PutBody { value: Some(to_json(&value)), ..body }),
        Some(owner) => {
            let key = owner.own(args.key.clone());
            let body = signed(session, &owner, &key, args.sequence, &data, body)?;
            (key, body)
        }
    };
    let path = object_path(&key) + &deadline_query('?', args.deadline);
    let expected = match args.if_version {
        Some(version) => Expected::Version(version),
        None if args.if_absent => Expected::Absent,
        None => Expected::Any,
    };
    let call = Call::new(Method::PUT, path).expecting(expected).json(&body)?;
    session.show(call, output, |reply: &PutReply, look| Ok(print::put(reply, look)))
}

/// The body of a put with its owner's signature; what the owner did not choose are the node's defaults.
fn signed(
    session: &Session,
    owner: &Owner,
    key: &KeyText,
    sequence: Option<u64>,
    data: &Bytes,
    body: PutBody,
) -> Result<PutBody, CommandError> {
    let network = session.node()?.network;
    let defaults = session.limits()?.replication;
    let ttl_seconds = body.ttl_seconds.unwrap_or(defaults.ttl_seconds);
    let replicas = body.replicas.unwrap_or(defaults.replicas);
    let code = body.code.as_deref().map(Code::new);
    let put = UnsignedPut { network: &network, sequence, data, code: code.as_ref(), ttl_seconds, replicas };
    let claim = owner.sign_put(key, &put)?;
    Ok(PutBody {
        data_base64: Some(BASE64_STANDARD.encode(data)),
        ttl_seconds: Some(ttl_seconds),
        replicas: Some(replicas),
        owner: Some(claim),
        ..body
    })
}

/// The part of a query that says when to give up; empty if the node may decide.
fn deadline_query(begin: char, deadline: Option<Duration>) -> String {
    deadline.map_or_else(String::new, |deadline| format!("{begin}deadline_ms={}", deadline.as_millis()))
}

/// `comet-node get`
pub(super) fn get(session: &Session, args: GetArgs, output: &mut dyn Write) -> Result<(), CommandError> {
    let key = in_space_of(args.owner.as_deref(), args.key)?;
    let read = match (args.all, args.quorum) {
        (true, _) => "all".to_owned(),
        (false, Some(n)) => format!("quorum:{n}"),
        (false, None) => "first".to_owned(),
    };
    let mut path = format!("{}?read={read}", object_path(&key));
    if let Some(payload) = &args.payload {
        path.push_str(&format!("&payload={}", encoded_query(&to_json(payload).to_string())));
    }
    path.push_str(&deadline_query('&', args.deadline));
    let call = Call::new(Method::GET, path);
    let version = |reply: &GetReply| match args.with_version {
        true => print::version(&reply.answer.version),
        false => String::new(),
    };
    if args.raw {
        let reply: GetReply = session.ask(call)?;
        return match from_json(&reply.answer.value, DEPTH_MAX) {
            Ok(Value::Str(bytes)) => Ok(output.write_all(&bytes)?),
            _ => Err(CommandError::Failed("the value is not a string; leave out --raw".to_owned())),
        };
    }
    if read != "first" {
        return session.show(call, output, |reply: &GetAllReply, look| {
            let values: Result<Vec<_>, _> =
                reply.answers.iter().map(|answer| read_value(&answer.value)).collect();
            Ok(print::answers(&values?, reply, look))
        });
    }
    if session.look() == Look::Pipe && session.form() == Form::Text {
        let reply: GetReply = session.ask(call)?;
        let line = match read_value(&reply.answer.value)? {
            Value::Str(bytes) => [&bytes[..], b"\n"].concat(),
            value => print::value(&value).into_bytes(),
        };
        output.write_all(&line)?;
        return Ok(output.write_all(version(&reply).as_bytes())?);
    }
    session.show(call, output, |reply: &GetReply, look| {
        Ok(print::answer(&read_value(&reply.answer.value)?, &reply.answer, look) + &version(reply))
    })
}

/// `comet-node delete`
pub(super) fn delete(
    session: &Session,
    args: DeleteArgs,
    output: &mut dyn Write,
) -> Result<(), CommandError> {
    let sign = |owner: &Owner, network: &str, key: &KeyText| owner.sign_delete(network, key, args.sequence);
    let (key, claim) = claimed(session, args.owner.as_deref(), args.key, sign)?;
    let path = object_path(&key) + &deadline_query('?', args.deadline);
    let call = Call::new(Method::DELETE, path).owner(claim);
    session.show(call, output, |reply: &DeleteReply, look| Ok(print::delete(reply, look)))
}

/// `comet-node lookup`
pub(super) fn lookup(session: &Session, args: &KeyArgs, output: &mut dyn Write) -> Result<(), CommandError> {
    let call = Call::new(Method::GET, format!("/v1/lookup/{}", encoded(&args.key)));
    session.show(call, output, |reply: &LookupReply, look| Ok(print::lookup(reply, look)))
}

/// `comet-node inspect`
pub(super) fn inspect(
    session: &Session,
    args: OwnedKeyArgs,
    output: &mut dyn Write,
) -> Result<(), CommandError> {
    let key = in_space_of(args.owner.as_deref(), args.key)?;
    let call = Call::new(Method::GET, format!("{}/inspect", object_path(&key)));
    session.show(call, output, |reply: &InspectReply, look| Ok(print::inspect(reply, look)))
}

/// `comet-node logs`
pub(super) fn logs(
    session: &Session,
    args: OwnedKeyArgs,
    output: &mut dyn Write,
) -> Result<(), CommandError> {
    let (key, claim) = claimed(session, args.owner.as_deref(), args.key, Owner::sign_read_log)?;
    let call = Call::new(Method::GET, format!("{}/logs", object_path(&key))).owner(claim);
    session.show(call, output, |reply: &LogsReply, look| Ok(print::logs(reply, look)))
}

/// The key in its owner's space and the header that proves the owner, if a key file is named; else the key as
/// it is.
fn claimed(
    session: &Session,
    owner: Option<&Path>,
    key: KeyText,
    sign: impl FnOnce(&Owner, &str, &KeyText) -> Result<OwnerClaim, CommandError>,
) -> Result<(KeyText, Option<String>), CommandError> {
    let Some(owner) = owner.map(Owner::load).transpose()? else { return Ok((key, None)) };
    let key = owner.own(key);
    let claim = sign(&owner, &session.node()?.network, &key)?;
    Ok((key, Some(claim.to_header())))
}

fn in_space_of(owner: Option<&Path>, key: KeyText) -> Result<KeyText, CommandError> {
    match owner {
        Some(path) => Ok(Owner::load(path)?.own(key)),
        None => Ok(key),
    }
}

fn read_value(json: &Json) -> Result<Value, CommandError> {
    from_json(json, DEPTH_MAX)
        .map_err(|error| CommandError::Failed(format!("the reply is no value: {error}")))
}

fn read_source(source: &Source) -> Result<Option<Value>, CommandError> {
    match source {
        Source { value: Some(text), .. } if text == "-" => {
            let bytes = read_bounded(io::stdin().lock(), "the standard input")?;
            Ok(Some(Value::Str(bytes)))
        }
        Source { value: Some(text), .. } => Ok(Some(Value::str(text))),
        Source { json_value: Some(value), .. } => Ok(Some(value.clone())),
        Source { file: Some(path), .. } => Ok(Some(Value::Str(read_file(path)?))),
        _ => Ok(None),
    }
}

pub(super) fn read_text(path: &Path) -> Result<String, CommandError> {
    String::from_utf8(read_file(path)?.into())
        .map_err(|_| CommandError::Failed(format!("{} is not UTF-8 text", path.display())))
}

fn read_file(path: &Path) -> Result<Bytes, CommandError> {
    let file = File::open(path)
        .map_err(|error| CommandError::Failed(format!("cannot read {}: {error}", path.display())))?;
    read_bounded(file, &path.display().to_string())
}

fn read_bounded(input: impl Read, name: &str) -> Result<Bytes, CommandError> {
    let mut bytes = Vec::new();
    let read = input.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| CommandError::Failed(format!("cannot read {name}: {error}")))?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(CommandError::Failed(format!("{name} has more than {INPUT_BYTES_MAX} bytes")));
    }
    Ok(Bytes::from(bytes))
}

/// Refuses here what the node would refuse only after the upload.
fn check_sizes(session: &Session, data_bytes: usize, code_bytes: usize) -> Result<(), CommandError> {
    if data_bytes <= UNASKED_BYTES_MAX && code_bytes <= UNASKED_BYTES_MAX {
        return Ok(());
    }
    let limits = session.limits()?.limits;
    for (what, size, limit) in
        [("the encoded value", data_bytes, limits.value_bytes), ("the code", code_bytes, limits.code_bytes)]
    {
        if size > limit {
            return Err(CommandError::Failed(format!("{what} has {size} bytes and the limit is {limit}")));
        }
    }
    Ok(())
}
