//! The JSON documents of the HTTP interface, as the server writes them and the command line reads them.

use std::{fmt, net::SocketAddr};

use comet_routing::{Contact, Key, NodeId};
use comet_runtime::{
    Limits, Refusal,
    dht::{Answer, DeleteReport, GetReport, Inspection, LogLine, LookupReport, PutReport, ReplicaLog, Usage},
};
use comet_store::{Ownership, Publication, Version};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::{
    config::ReplicationConfig,
    json::to_json,
    key_text::{KeyText, hex, parse_hex},
    operation::Role,
};

/// The body of a put.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PutBody {
    /// The value in the form of [`crate::json`]; without it and `data_base64`, nil.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// Instead of `value`: the encoded value in base64, byte for byte as the owner signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// Handler source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The signature of a publisher who vouches for the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publication: Option<PublicationClaim>,
    /// Lifetime in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u8>,
    /// The owner's signature; `ttl_seconds` and `replicas` are then part of what was signed and needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerClaim>,
}

/// An owner's signature, as hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerClaim {
    /// Ed25519 public key, 64 digits.
    pub public_key: String,
    /// Salt of the object's name, 64 digits.
    pub salt: String,
    /// The owner's sequence number; for logs, its clock in seconds.
    pub sequence: u64,
    /// Ed25519 signature, 128 digits.
    pub signature: String,
}

/// A publisher's signature under code, as hexadecimal digits; also what is in a file that `app sign` writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicationClaim {
    /// Ed25519 public key, 64 digits.
    pub public_key: String,
    /// Ed25519 signature, 128 digits.
    pub signature: String,
}

/// Why a claim cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// A field does not have its number of hexadecimal digits.
    #[error("the {whose}'s {field} wants {digits} hexadecimal digits")]
    Digits {
        /// Whose claim it is: the owner's or the publisher's.
        whose: &'static str,
        /// The field.
        field: &'static str,
        /// Digits that it wants.
        digits: usize,
    },
    /// The header is not a list of the four fields.
    #[error("the header Comet-Owner wants public_key=…, salt=…, sequence=…, signature=…")]
    Header,
}

/// The header that carries an [`OwnerClaim`] where there is no body.
pub const OWNER_HEADER: &str = "Comet-Owner";

impl OwnerClaim {
    /// The claim of a signature.
    pub fn of(sequence: u64, ownership: &Ownership) -> Self {
        Self {
            public_key: hex(&ownership.public_key),
            salt: hex(&ownership.salt),
            sequence,
            signature: hex(&ownership.signature),
        }
    }

    /// The sequence number and the signature.
    pub fn read(&self) -> Result<(u64, Ownership), ClaimError> {
        let refuse = |field, digits| ClaimError::Digits { whose: "owner", field, digits };
        let ownership = Ownership {
            public_key: parse_hex(&self.public_key).ok_or(refuse("public_key", 64))?,
            salt: parse_hex(&self.salt).ok_or(refuse("salt", 64))?,
            signature: parse_hex(&self.signature).ok_or(refuse("signature", 128))?,
        };
        Ok((self.sequence, ownership))
    }

    /// The claim as the header [`OWNER_HEADER`].
    pub fn to_header(&self) -> String {
        let Self { public_key, salt, sequence, signature } = self;
        format!("public_key={public_key}, salt={salt}, sequence={sequence}, signature={signature}")
    }

    /// Reads the header: each field once, in any order.
    pub fn from_header(text: &str) -> Result<Self, ClaimError> {
        let fields: Vec<(&str, &str)> = text
            .split(',')
            .map(|field| field.trim().split_once('=').ok_or(ClaimError::Header))
            .collect::<Result<_, _>>()?;
        if fields.len() != 4 {
            return Err(ClaimError::Header);
        }
        let field = |name| {
            fields.iter().find(|(found, _)| *found == name).map(|(_, text)| *text).ok_or(ClaimError::Header)
        };
        Ok(Self {
            public_key: field("public_key")?.to_owned(),
            salt: field("salt")?.to_owned(),
            sequence: field("sequence")?.parse().map_err(|_| ClaimError::Header)?,
            signature: field("signature")?.to_owned(),
        })
    }
}

impl PublicationClaim {
    /// The claim of a signature.
    pub fn of(publication: &Publication) -> Self {
        Self { public_key: hex(&publication.public_key), signature: hex(&publication.signature) }
    }

    /// The signature.
    pub fn read(&self) -> Result<Publication, ClaimError> {
        let refuse = |field, digits| ClaimError::Digits { whose: "publisher", field, digits };
        Ok(Publication {
            public_key: parse_hex(&self.public_key).ok_or(refuse("public_key", 64))?,
            signature: parse_hex(&self.signature).ok_or(refuse("signature", 128))?,
        })
    }
}

/// A node, by id and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRef {
    /// 64 hexadecimal digits.
    #[serde(with = "as_text")]
    pub id: NodeId,
    /// Its UDP address.
    pub addr: SocketAddr,
}

impl From<Contact> for NodeRef {
    fn from(node: Contact) -> Self {
        Self { id: node.id, addr: node.addr }
    }
}

/// A version: which put this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionText {
    /// The sequence number.
    pub sequence: u64,
    /// The content hash, 64 hexadecimal digits.
    pub hash: String,
}

impl VersionText {
    /// Reads `SEQUENCE-HASH`, which is how a version is displayed.
    pub fn parse(text: &str) -> Option<Version> {
        let (sequence, hash) = text.split_once('-')?;
        Some(Version { sequence: sequence.parse().ok()?, hash: parse_hex(hash)? })
    }
}

impl fmt::Display for VersionText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.sequence, self.hash)
    }
}

impl From<Version> for VersionText {
    fn from(version: Version) -> Self {
        Self { sequence: version.sequence, hash: hex(&version.hash) }
    }
}

/// A replica that did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedReplica {
    /// Which.
    pub replica: NodeRef,
    /// The refusal's stable word.
    pub code: String,
    /// The refusal in a sentence.
    pub detail: String,
    /// True if asking again may help.
    pub retryable: bool,
}

/// A replica that stored a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReplica {
    /// Which.
    pub replica: NodeRef,
    /// What its `onPut` or `onUpdate` used.
    pub usage: Usage,
}

/// The reply to a put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutReply {
    /// The key as `hex:…`.
    pub key: String,
    /// The version now stored.
    pub version: VersionText,
    /// Replicas that acknowledged.
    pub stored: usize,
    /// Replicas that the put wanted.
    pub wanted: u8,
    /// Acknowledgements that it waited for.
    pub quorum: u8,
    /// The replicas that acknowledged, nearest first.
    pub replicas: Vec<StoredReplica>,
    /// The replicas that did not.
    pub failed: Vec<FailedReplica>,
    /// How long the object will be kept.
    pub ttl_seconds: u64,
}

/// One replica's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerText {
    /// The value in the form of [`crate::json`].
    pub value: Json,
    /// Who answered.
    pub replica: NodeRef,
    /// The version it holds.
    pub version: VersionText,
    /// True if a handler made the answer.
    pub active: bool,
    /// What the turn used.
    pub usage: Usage,
}

/// The reply to a get of the first answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GetReply {
    /// The key as `hex:…`.
    pub key: String,
    /// The answer.
    #[serde(flatten)]
    pub answer: AnswerText,
    /// Replicas that failed before.
    pub failed: Vec<FailedReplica>,
}

/// The reply to a get of all answers or a quorum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GetAllReply {
    /// The key as `hex:…`.
    pub key: String,
    /// The answers, nearest replica first.
    pub answers: Vec<AnswerText>,
    /// Replicas that failed.
    pub failed: Vec<FailedReplica>,
}

/// The reply to a delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteReply {
    /// The key as `hex:…`.
    pub key: String,
    /// Replicas that held the object and deleted it.
    pub deleted: Vec<NodeRef>,
    /// Replicas that did not.
    pub failed: Vec<FailedReplica>,
}

/// The reply to a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupReply {
    /// The key as `hex:…`.
    pub key: String,
    /// Live nodes, nearest first.
    pub nodes: Vec<NodeRef>,
    /// Longest chain of contacts to one of them.
    pub hops: u32,
    /// Queries sent.
    pub queries: u32,
}

/// The reply to an inspection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectReply {
    /// The key as `hex:…`.
    pub key: String,
    /// What each replica holds, nearest first.
    pub replicas: Vec<ReplicaText>,
}

/// What one replica holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaText {
    /// Whose copy.
    pub replica: NodeRef,
    /// Which put it stems from.
    pub version: VersionText,
    /// The owner's public key, 64 hexadecimal digits.
    pub owner: Option<String>,
    /// The handlers' names, sorted.
    pub handlers: Vec<String>,
    /// Hash of the handler source, 64 hexadecimal digits.
    pub code_hash: Option<String>,
    /// Seconds since it was put.
    pub age_seconds: u64,
    /// Seconds until it expires.
    pub remaining_seconds: u64,
    /// Bytes of the put's data.
    pub data_bytes: u64,
    /// Bytes of the handlers' state.
    pub state_bytes: u64,
    /// Replicas it asks for.
    pub replicas: u8,
    /// True if its actor is running.
    pub active: bool,
    /// What its last event used, with the callbacks that have followed it.
    pub usage: Usage,
}

/// The reply to a request for logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsReply {
    /// The key as `hex:…`.
    pub key: String,
    /// Each replica's log, nearest first.
    pub replicas: Vec<LogText>,
}

/// One replica's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogText {
    /// Whose log.
    pub replica: NodeRef,
    /// Lines, oldest first.
    pub lines: Vec<LogLine>,
}

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// 64 hexadecimal digits.
    #[serde(with = "as_text")]
    pub id: NodeId,
    /// The UDP addresses at which it answers, as far as it knows.
    pub addresses: Vec<SocketAddr>,
    /// The network it belongs to.
    pub network: String,
    /// `client` if others cannot reach it from outside, `server` if they can, `unknown` until it knows.
    pub role: Role,
    /// Comet's version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Contacts in its routing table.
    pub peers: u64,
    /// Records in its store.
    pub records: u64,
    /// Bytes of those records.
    pub bytes: u64,
    /// Objects whose actor is running.
    pub active_objects: u64,
}

/// The limits that a node applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsReply {
    /// What an object may be and use.
    pub limits: Limits,
    /// Copies and lifetimes.
    pub replication: ReplicationConfig,
}

impl PutReply {
    /// The document of a report.
    pub fn of(key: Key, report: &PutReport) -> Self {
        let stored =
            |(node, usage): &(Contact, Usage)| StoredReplica { replica: (*node).into(), usage: *usage };
        Self {
            key: key_text(key),
            version: report.version.into(),
            stored: report.stored.len(),
            wanted: report.wanted,
            quorum: report.quorum,
            replicas: report.stored.iter().map(stored).collect(),
            failed: failures(&report.failed),
            ttl_seconds: report.ttl.as_secs(),
        }
    }
}

impl From<&Answer> for AnswerText {
    fn from(answer: &Answer) -> Self {
        Self {
            value: to_json(&answer.value),
            replica: answer.replica.into(),
            version: answer.version.into(),
            active: answer.active,
            usage: answer.usage,
        }
    }
}

impl GetAllReply {
    /// The document of a report.
    pub fn of(key: Key, report: &GetReport) -> Self {
        Self {
            key: key_text(key),
            answers: report.answers.iter().map(AnswerText::from).collect(),
            failed: failures(&report.failed),
        }
    }
}

impl DeleteReply {
    /// The document of a report.
    pub fn of(key: Key, report: &DeleteReport) -> Self {
        let deleted = report.deleted.iter().map(|node| NodeRef::from(*node)).collect();
        Self { key: key_text(key), deleted, failed: failures(&report.failed) }
    }
}

impl LookupReply {
    /// The document of a report.
    pub fn of(key: Key, report: &LookupReport) -> Self {
        let nodes = report.nodes.iter().map(|node| NodeRef::from(*node)).collect();
        Self { key: key_text(key), nodes, hops: report.hops, queries: report.queries }
    }
}

impl InspectReply {
    /// The document of what the replicas hold.
    pub fn of(key: Key, replicas: Vec<Inspection>) -> Self {
        Self { key: key_text(key), replicas: replicas.into_iter().map(ReplicaText::from).collect() }
    }
}

impl From<Inspection> for ReplicaText {
    fn from(held: Inspection) -> Self {
        Self {
            replica: held.replica.into(),
            version: held.version.into(),
            owner: held.owner.map(|key| hex(&key)),
            handlers: held.handlers,
            code_hash: held.code_hash.map(|hash| hex(&hash)),
            age_seconds: held.age_seconds,
            remaining_seconds: held.remaining_seconds,
            data_bytes: held.data_bytes,
            state_bytes: held.state_bytes,
            replicas: held.replicas,
            active: held.active,
            usage: held.usage,
        }
    }
}

impl LogsReply {
    /// The document of the replicas' logs.
    pub fn of(key: Key, logs: Vec<ReplicaLog>) -> Self {
        let text = |log: ReplicaLog| LogText { replica: log.replica.into(), lines: log.lines };
        Self { key: key_text(key), replicas: logs.into_iter().map(text).collect() }
    }
}

fn key_text(key: Key) -> String {
    KeyText::Raw(key).to_string()
}

fn failures(failed: &[(Contact, Refusal)]) -> Vec<FailedReplica> {
    let text = |(node, refusal): &(Contact, Refusal)| FailedReplica {
        replica: (*node).into(),
        code: refusal.code().to_owned(),
        detail: refusal.to_string(),
        retryable: refusal.retryable(),
    };
    failed.iter().map(text).collect()
}

/// Serialises through `Display` and `FromStr`.
mod as_text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> OwnerClaim {
        let ownership = Ownership { public_key: [1; 32], salt: [2; 32], signature: [3; 64] };
        OwnerClaim::of(7, &ownership)
    }

    #[test]
    fn a_claim_survives_the_header_in_any_order() {
        let claim = claim();
        assert_eq!(OwnerClaim::from_header(&claim.to_header()), Ok(claim.clone()));
        let mut fields: Vec<_> = claim.to_header().split(", ").map(str::to_owned).collect();
        fields.reverse();
        assert_eq!(OwnerClaim::from_header(&fields.join(",")), Ok(claim));
    }

    #[test]
    fn claims_with_missing_repeated_or_malformed_fields_are_refused() {
        let header = claim().to_header();
        for bad in ["", "public_key", &format!("{header}, x=1"), &header.replace("salt", "public_key")] {
            assert_eq!(OwnerClaim::from_header(bad), Err(ClaimError::Header), "{bad}");
        }
        let short = OwnerClaim { salt: "02".into(), ..claim() };
        assert_eq!(short.read(), Err(ClaimError::Digits { whose: "owner", field: "salt", digits: 64 }));
    }

    #[test]
    fn a_publication_is_read_as_it_was_written() {
        let publication = Publication { public_key: [1; 32], signature: [3; 64] };
        let claim = PublicationClaim::of(&publication);
        assert_eq!(claim.read(), Ok(publication));
        let short = PublicationClaim { signature: "03".into(), ..claim };
        let sentence = "the publisher's signature wants 128 hexadecimal digits";
        assert_eq!(short.read().map_err(|error| error.to_string()), Err(sentence.to_owned()));
    }

    #[test]
    fn a_body_with_an_unknown_field_names_it() {
        let error = serde_json::from_str::<PutBody>(r#"{"vlaue": 1}"#).expect_err("no such field");
        assert!(error.to_string().starts_with("unknown field `vlaue`, expected one of `value`"), "{error}");
    }
}
