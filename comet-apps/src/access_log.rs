//! A value that notes who stored and read it, and where it lived (paper, section 5: Adeona).
//!
//! Each replica notes what it sees, and copies take the notes along; the client asks all replicas and unites what
//! they say. A replica keeps the last 16 arrivals and the last 32 reads (setting `entries`); a flood of reads
//! pushes older reads out, and no arrivals.
//!
//! *Who may read the log.* The holder of the key `reader`, if the put names one; else the owner, if the put
//! was signed; else anyone. A proof holds for one object, one node and five minutes, so a replica that
//! sees it cannot use it. What a replica leaves out of its notes nobody can know.

use comet_routing::{Contact, Key, NodeId};
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, PutReport},
};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::{
    App, AppError, Setting,
    client::{ask, ask_all, with_settings},
    store,
};

pub(crate) const APP: App = App {
    name: "access-log",
    summary: "notes who stored and read its value and where it lived",
    source: include_str!("../aso/access_log.lua"),
    settings: &[
        Setting {
            name: "reader",
            meaning: "the public key, 64 hexadecimal digits, whose holder may read the log",
            default: Some("the owner's, if the put is signed; else anyone may"),
        },
        Setting {
            name: "entries",
            meaning: "how many reads each replica notes, 1 to 256; the oldest makes room",
            default: Some("32"),
        },
    ],
};

/// A value with a log of its accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLog {
    key: Key,
}

/// One line of the log. They sort by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// When, in seconds since 1970, by the replica's clock.
    pub at_seconds: i64,
    /// What happened.
    pub act: Act,
    /// The node that it came through, with as much of its address as the replica's operator shows.
    pub by: Contact,
    /// The replica that it happened at: its node's id, 64 hexadecimal digits.
    pub host: String,
    /// The address of that node.
    pub host_ip: String,
}

/// What can happen to a logged value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// A client put it.
    Stored,
    /// Another replica sent a copy.
    Copied,
    /// It was read.
    Read,
}

/// Proves that a reader of the log is the one whom the object names.
#[derive(Clone, Copy, Debug)]
pub struct LogKey<'a> {
    /// The pair whose public key the object names.
    pub pair: &'a Ed25519KeyPair,
    /// The node through which the log is read.
    pub reader: NodeId,
    /// The time, in seconds since 1970.
    pub at_seconds: i64,
}

impl AccessLog {
    /// The value at a key.
    pub fn at(key: Key) -> Self {
        Self { key }
    }

    /// Stores a value whose log anyone may read.
    pub async fn create(&self, dht: &impl Dht, value: Value) -> Result<PutReport, Refusal> {
        store(dht, &APP, self.key, &with_settings(value, []), None).await
    }

    /// Stores a value whose log only the holder of this pair may read.
    pub async fn create_for(
        &self,
        dht: &impl Dht,
        value: Value,
        pair: &Ed25519KeyPair,
    ) -> Result<PutReport, Refusal> {
        let reader = Value::str(hex(pair.public_key().as_ref()));
        store(dht, &APP, self.key, &with_settings(value, [("reader", reader)]), None).await
    }

    /// Reads the value, which is noted.
    pub async fn read(&self, dht: &impl Dht) -> Result<Value, AppError> {
        ask(dht, self.key, None).await
    }

    /// What all replicas that answer have noted, oldest first, each thing once. [`AppError::Declined`] if the log is
    /// somebody else's.
    pub async fn log(&self, dht: &impl Dht, key: Option<LogKey<'_>>) -> Result<Vec<Entry>, AppError> {
        let proof = key.map_or(true.into(), |key| key.proof(&self.key));
        let answers = ask_all(dht, self.key, Some(Value::map([("log".into(), proof)]))).await?;
        let mut entries = Vec::new();
        for answer in answers {
            let lists = ["homes", "reads"].map(|list| answer.field(list));
            let [Some(Value::List(homes)), Some(Value::List(reads))] = lists else {
                return Err(AppError::Unexpected(answer));
            };
            let read: Option<Vec<_>> = homes.iter().chain(reads).map(Entry::read).collect();
            entries.extend(read.ok_or(AppError::Unexpected(answer))?);
        }
        entries.sort();
        entries.dedup();
        Ok(entries)
    }
}

impl LogKey<'_> {
    /// What goes into the payload's field `log`.
    pub fn proof(&self, key: &Key) -> Value {
        let message = format!("access-log {key} {} {}", self.reader, self.at_seconds);
        let signature = hex(self.pair.sign(message.as_bytes()).as_ref());
        Value::map([("at".into(), Value::Int(self.at_seconds)), ("signature".into(), Value::str(signature))])
    }
}

impl Entry {
    fn read(value: &Value) -> Option<Self> {
        let Value::List(parts) = value else { return None };
        let [at, act, Value::Node(by), host, host_ip] = parts.as_slice() else { return None };
        let act = match act.as_text()? {
            "stored" => Act::Stored,
            "copied" => Act::Copied,
            "read" => Act::Read,
            _ => return None,
        };
        let (host, host_ip) = (host.as_text()?.to_owned(), host_ip.as_text()?.to_owned());
        Some(Self { at_seconds: at.as_int()?, act, by: *by, host, host_ip })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use comet_runtime::testing::{EPOCH_MS, TestSwarm};

    use super::*;

    const NOW: i64 = EPOCH_MS as i64 / 1_000;

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed of 32 bytes")
    }

    #[actix_rt::test]
    async fn the_log_unites_what_all_replicas_saw() {
        let swarm = TestSwarm::seeded(1);
        let object = AccessLog::at(Key::of("laptop"));
        object.create(&swarm, "here".into()).await.expect("it is stored");
        swarm.advance(Duration::from_secs(5));
        assert_eq!(object.read(&swarm).await, Ok("here".into()));
        let nearest = swarm.holders("laptop")[0];
        swarm.silence(nearest);
        swarm.advance(Duration::from_secs(5));
        swarm.get_from(4, Key::of("laptop"), None).expect("another replica answers");
        swarm.wake(nearest);
        let log = object.log(&swarm, None).await.expect("anyone may");
        let seen: Vec<_> = log.iter().map(|entry| (entry.at_seconds - NOW, entry.act)).collect();
        assert_eq!(
            seen,
            [(0, Act::Stored), (0, Act::Stored), (0, Act::Stored), (5, Act::Read), (10, Act::Read)]
        );
        assert_eq!((log[3].by.id, log[4].by.id), (swarm.node(0).id, swarm.node(4).id));
        assert_eq!(log[3].host, swarm.node(nearest).id.to_string());
        assert_ne!(log[4].host, log[3].host);
    }

    #[actix_rt::test]
    async fn a_copy_takes_the_log_along_and_no_line_is_told_twice() {
        let swarm = TestSwarm::seeded(2);
        let copier = APP.source.replace(
            "return caller.owner ~= nil, \"only its owner may change it\"",
            "put(getASOKey(), self, 6)",
        );
        swarm.put("laptop", with_settings("here".into(), []), &copier).expect("it is stored");
        swarm.get("laptop").expect("it is read");
        swarm.update("laptop", "copy yourself").expect("it copies itself");
        let object = AccessLog::at(Key::of("laptop"));
        swarm.holders("laptop")[..2].iter().for_each(|node| swarm.silence(*node));
        let log = object.log(&swarm, None).await.expect("anyone may");
        let count = |act| log.iter().filter(|entry| entry.act == act).count();
        assert_eq!(count(Act::Read), 1, "its replica is gone, and its copies tell");
        assert!(count(Act::Copied) > 0);
        let mut once = log.clone();
        once.dedup();
        assert_eq!(once, log);
    }

    #[actix_rt::test]
    async fn only_the_named_reader_sees_the_log() {
        let swarm = TestSwarm::seeded(3);
        let object = AccessLog::at(Key::of("laptop"));
        object.create_for(&swarm, "here".into(), &pair(1)).await.expect("it is stored");
        assert_eq!(object.read(&swarm).await, Ok("here".into()), "anyone may read the value");
        let reader = swarm.node(0).id;
        let mine = pair(1);
        let key = LogKey { pair: &mine, reader, at_seconds: NOW };
        assert_eq!(object.log(&swarm, Some(key)).await.expect("its reader").len(), 4);
        let declined = Err(AppError::Declined("the log is its owner's".into()));
        assert_eq!(object.log(&swarm, None).await, declined);
        let other = pair(2);
        let forged = [
            LogKey { pair: &other, ..key },
            LogKey { reader: swarm.node(1).id, ..key },
            LogKey { at_seconds: NOW - 301, ..key },
        ];
        for key in forged {
            assert_eq!(object.log(&swarm, Some(key)).await, declined);
        }
    }

    #[actix_rt::test]
    async fn it_keeps_the_last_reads_and_all_arrivals() {
        let swarm = TestSwarm::seeded(4);
        let object = AccessLog::at(Key::of("laptop"));
        let value = with_settings("here".into(), [("entries", Value::Int(3))]);
        swarm.put("laptop", value, APP.source).expect("it is stored");
        for _ in 0..5 {
            swarm.advance(Duration::from_secs(1));
            object.read(&swarm).await.expect("it is read");
        }
        let log = object.log(&swarm, None).await.expect("anyone may");
        let reads: Vec<_> =
            log.iter().filter(|entry| entry.act == Act::Read).map(|entry| entry.at_seconds - NOW).collect();
        assert_eq!(reads, [3, 4, 5]);
        assert_eq!(log.len(), 6);
    }

    #[actix_rt::test]
    async fn odd_values_are_refused_and_a_stranger_cannot_replace_it() {
        let swarm = TestSwarm::seeded(5);
        let why = "the value must be { value = …, reader = a public key's 64 digits, entries = 1 to 256 }";
        for value in [
            "here".into(),
            with_settings(Value::Nil, []),
            with_settings("here".into(), [("reader", "me".into())]),
            with_settings("here".into(), [("entries", Value::Int(0))]),
            with_settings("here".into(), [("entries", Value::Int(257))]),
        ] {
            assert_eq!(swarm.put("odd", value, APP.source), Err(Refusal::Refused(why.into())));
        }
        swarm.put("laptop", with_settings("here".into(), []), APP.source).expect("it is stored");
        let refused = Err(Refusal::Refused("only its owner may change it".into()));
        assert_eq!(swarm.update("laptop", "gone"), refused);
    }
}
