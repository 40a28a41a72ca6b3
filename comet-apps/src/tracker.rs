//! A smart BitTorrent tracker (paper, section 5: peer-to-peer file sharing): peers are introduced to those
//! near them in network coordinates, or by their addresses where coordinates are not known.
//!
//! An announce is one read of one replica. Readers ask the replica nearest to the key first, so nearly all
//! peers of a torrent meet at one replica and find each other at once. A replica that hears of a peer that
//! starts, completes or stops passes it on to the other replicas as soon as its message budget allows, the
//! rest at its next tick a minute later; so peers that announce at different replicas find each other with
//! the next announce, and a peer that was told of few others is asked to come back after two minutes. The
//! alternative, to announce at every replica, would cost eight messages each time instead of one.
//!
//! The reply holds addresses in the compact forms of BEP 23 and BEP 7, so that a front-end for ordinary
//! BitTorrent clients has only to wrap them. Anyone may announce any address: whoever asks on behalf of a
//! peer answers for it.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use comet_routing::{Coordinate, Key};
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, PutReport},
};

use crate::{
    App, AppError, Setting,
    client::{ask, seconds_of},
    read, store,
};

pub(crate) const APP: App = App {
    name: "tracker",
    summary: "introduces BitTorrent peers to those near them",
    source: include_str!("../aso/tracker.lua"),
    settings: &[Setting {
        name: "interval",
        meaning: "seconds between two announces of a peer; forgotten after twice that",
        default: Some("1800"),
    }],
};

/// The tracker of one torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracker {
    key: Key,
}

/// What a peer says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Announce {
    /// Why now.
    pub event: AnnounceEvent,
    /// Its id, from BEP 3.
    pub peer_id: [u8; 20],
    /// Where it accepts connections.
    pub address: SocketAddr,
    /// Bytes that it lacks; 0 for a seed.
    pub left: u64,
    /// How many peers it would like; 20 if it does not say, 50 at most.
    pub want: Option<u8>,
    /// Where it is.
    pub coordinate: Option<Coordinate>,
    /// Whether it wants the peers' ids, too.
    pub ids: PeerIds,
}

/// Why a peer announces itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnnounceEvent {
    /// The interval has passed.
    #[default]
    Regular,
    /// It is new.
    Started,
    /// It has just got what it lacked.
    Completed,
    /// It leaves.
    Stopped,
}

/// Whether an announce asks for the ids of peers (BEP 3's original form) or for addresses alone (BEP 23).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerIds {
    /// Addresses alone.
    #[default]
    Omitted,
    /// The ids as well.
    Wanted,
}

/// How many peers a replica knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrape {
    /// Those that have everything.
    pub complete: u64,
    /// Those that lack something.
    pub incomplete: u64,
    /// How many have gone from one to the other.
    pub downloaded: u64,
}

/// Whom a peer may turn to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// When to announce again.
    pub interval: Duration,
    /// How many peers there are.
    pub scrape: Scrape,
    /// IPv4 peers, 6 bytes each (BEP 23), nearest first.
    pub peers: Bytes,
    /// IPv6 peers, 18 bytes each (BEP 7), nearest first.
    pub peers6: Bytes,
    /// The ids of those, 20 bytes each, first of `peers`, then of `peers6`; empty if they were not wanted.
    pub ids: Bytes,
}

impl Tracker {
    /// The tracker at a key.
    pub fn at(key: Key) -> Self {
        Self { key }
    }

    /// The tracker of a torrent, by its info hash.
    pub fn of_torrent(info_hash: &[u8; 20]) -> Self {
        let mut name = String::from("torrent ");
        for byte in info_hash {
            write!(name, "{byte:02x}").expect("a string takes all that is written to it");
        }
        Self::at(Key::of(name))
    }

    /// Where it is.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Stores the tracker. Peers are to announce themselves every `interval`, half an hour if it is `None`.
    pub async fn create(&self, dht: &impl Dht, interval: Option<Duration>) -> Result<PutReport, Refusal> {
        let value = Value::map(interval.map(|interval| ("interval".into(), seconds_of(interval))));
        store(dht, &APP, self.key, &value, None).await
    }

    /// Announces a peer and learns of others. [`Refusal::NotFound`] means that nobody has created the tracker.
    pub async fn announce(&self, dht: &impl Dht, announce: &Announce) -> Result<Introduction, AppError> {
        let answer = ask(dht, self.key, Some(announce.payload())).await?;
        introduction(&answer).ok_or(AppError::Unexpected(answer))
    }

    /// How many peers there are, as one replica knows it.
    pub async fn scrape(&self, dht: &impl Dht) -> Result<Scrape, AppError> {
        let answer = read(dht, self.key).await?;
        scrape(&answer).ok_or(AppError::Unexpected(answer))
    }
}

impl Announce {
    /// An announce of a peer of unknown place that wants what trackers usually give.
    pub fn new(event: AnnounceEvent, peer_id: [u8; 20], address: SocketAddr, left: u64) -> Self {
        Self { event, peer_id, address, left, want: None, coordinate: None, ids: PeerIds::Omitted }
    }

    /// What the tracker's `onGet` receives.
    pub fn payload(&self) -> Value {
        let event = match self.event {
            AnnounceEvent::Regular => "",
            AnnounceEvent::Started => "started",
            AnnounceEvent::Completed => "completed",
            AnnounceEvent::Stopped => "stopped",
        };
        let mut fields = vec![
            ("event".into(), event.into()),
            ("peer_id".into(), Value::str(self.peer_id)),
            ("address".into(), Value::str(compact(self.address))),
            ("left".into(), Value::Int(i64::try_from(self.left).unwrap_or(i64::MAX))),
            ("ids".into(), Value::Bool(self.ids == PeerIds::Wanted)),
        ];
        if let Some(want) = self.want {
            fields.push(("numwant".into(), Value::Int(want.into())));
        }
        if let Some(at) = self.coordinate.map(Coordinate::clamped) {
            let at = [at.x_ms, at.y_ms, at.height_ms].map(Value::Float);
            fields.push(("coordinates".into(), Value::List(at.into())));
        }
        Value::map(fields)
    }
}

impl Introduction {
    /// The peers' addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let short = self.peers.chunks_exact(6).filter_map(expand);
        short.chain(self.peers6.chunks_exact(18).filter_map(expand)).collect()
    }
}

/// An address and port as 6 or 18 bytes, big-endian. An IPv4 address in IPv6's clothes takes them off.
fn compact(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend(address.port().to_be_bytes());
    bytes
}

fn expand(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

fn scrape(answer: &Value) -> Option<Scrape> {
    let count = |name| answer.field(name)?.as_int().and_then(|n| u64::try_from(n).ok());
    Some(Scrape {
        complete: count("complete")?,
        incomplete: count("incomplete")?,
        downloaded: count("downloaded")?,
    })
}

/// An answer to an announce; one to a peer that leaves has counts alone.
fn introduction(answer: &Value) -> Option<Introduction> {
    let bytes = |name, size| match answer.field(name) {
        None => Some(Bytes::new()),
        Some(Value::Str(bytes)) if bytes.len().is_multiple_of(size) => Some(bytes.clone()),
        Some(_) => None,
    };
    let seconds =
        answer.field("interval").map_or(Some(0), |n| n.as_int().and_then(|n| u64::try_from(n).ok()))?;
    Some(Introduction {
        interval: Duration::from_secs(seconds),
        scrape: scrape(answer)?,
        peers: bytes("peers", 6)?,
        peers6: bytes("peers6", 18)?,
        ids: bytes("ids", 20)?,
    })
}

#[cfg(test)]
mod tests;
