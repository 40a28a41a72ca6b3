//! What clients ask, from the query of a URL.
//!
//! Values are percent-encoded bytes, of which `info_hash` and `peer_id` are 20 raw ones each; `+` is itself.
//! Of a parameter that is repeated, the first counts. Unknown parameters are passed over: clients have many.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use comet_apps::AnnounceEvent;
use comet_routing::{Coordinate, is_private};
use percent_encoding::percent_decode_str;

use super::answer::PeerForm;

/// A torrent's name: the SHA-1 of what it describes, or the first 20 bytes of its SHA-256 (BEP 52).
pub(super) type InfoHash = [u8; 20];

/// The longest query that is read: a scrape of as many torrents as may be, in the longest encoding, and some
/// more.
const QUERY_BYTES_MAX: usize = 8 * 1024;

/// The most torrents in one scrape.
const SCRAPE_MAX: usize = 50;

/// The most peers that a tracker object tells at a time.
const WANT_MAX: i64 = 50;

/// What is told to a peer that claims an address and comes from another.
const CLAIM_PASSED_OVER: &str =
    "ip was passed over: this tracker introduces you by the address you came from";

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRequest {
    /// The query is too long to be read.
    #[error("the query must have at most {QUERY_BYTES_MAX} bytes")]
    TooLong,
    /// A parameter is not there.
    #[error("{name} is missing")]
    Missing {
        /// Which.
        name: &'static str,
    },
    /// A parameter cannot be what it is.
    #[error("{name} must be {wants}")]
    Wrong {
        /// Which.
        name: &'static str,
        /// What it wants.
        wants: &'static str,
    },
    /// A scrape of too many torrents.
    #[error("at most {SCRAPE_MAX} torrents can be scraped at once")]
    TooMany,
}

/// An announce as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AnnounceRequest {
    pub(super) info_hash: InfoHash,
    pub(super) peer_id: [u8; 20],
    pub(super) event: AnnounceEvent,
    pub(super) left: u64,
    /// How many peers it would like; `None` if it does not say.
    pub(super) want: Option<u8>,
    pub(super) form: PeerForm,
    pub(super) coordinate: Option<Coordinate>,
    port: u16,
    /// `ip`: the address that it claims.
    ip: Option<IpAddr>,
    /// `ipv4` and `ipv6` (BEP 7): its addresses of both families, with ports of their own if it says so.
    families: [Option<SocketAddr>; 2],
}

/// Where a peer accepts connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// Another address, of the other family.
    pub(super) second: Option<SocketAddr>,
    /// What the peer should know about it.
    pub(super) warning: Option<&'static str>,
}

impl AnnounceRequest {
    /// Reads an announce.
    pub(super) fn parse(query: &str) -> Result<Self, BadRequest> {
        let query = Query::of(query)?;
        let port = query.number("port", "1 to 65535", |&port: &u16| port != 0)?;
        let left = query.number("left", "the number of bytes that the peer lacks", |_: &u64| true)?;
        let want = query.optional("numwant", "a number", |_: &i64| true)?;
        Ok(Self {
            info_hash: query.hash("info_hash")?,
            peer_id: query.hash("peer_id")?,
            event: event(&query)?,
            left,
            // Some clients say -1 for "as many as you like".
            want: want.filter(|&want| want >= 0).map(|want| want.min(WANT_MAX) as u8),
            form: form(&query),
            coordinate: coordinate(&query)?,
            port,
            ip: query.optional("ip", "an IP address of one host", |ip: &IpAddr| is_of_one_host(*ip))?,
            families: [
                family(&query, "ipv4", port).filter(SocketAddr::is_ipv4),
                family(&query, "ipv6", port).filter(SocketAddr::is_ipv6),
            ],
        })
    }

    /// Where the peer is that announces from `source`.
    ///
    /// A stranger is where it comes from, whatever it says: it could have peers connect to anybody. Whoever
    /// comes from this machine or a private network is believed. Who comes from this machine and claims nothing
    /// is at `home`, where others reach this machine.
    pub(super) fn place(&self, source: IpAddr, home: IpAddr) -> Place {
        let (source, home) = (source.to_canonical(), home.to_canonical());
        if !is_private(source) {
            let warning = self.ip.filter(|ip| ip.to_canonical() != source).map(|_| CLAIM_PASSED_OVER);
            return Place { address: SocketAddr::new(source, self.port), second: None, warning };
        }
        let unclaimed = if source.is_loopback() && !home.is_loopback() { home } else { source };
        let ip = self.ip.map_or(unclaimed, |ip| ip.to_canonical());
        let [v4, v6] = self.families;
        let (same, second) = if ip.is_ipv4() { (v4, v6) } else { (v6, v4) };
        let same = same.filter(|_| self.ip.is_none());
        Place { address: same.unwrap_or(SocketAddr::new(ip, self.port)), second, warning: None }
    }
}

/// Reads a scrape: the torrents that it asks about, each once.
pub(super) fn scraped(query: &str) -> Result<Vec<InfoHash>, BadRequest> {
    let query = Query::of(query)?;
    let mut torrents = Vec::new();
    for value in query.all("info_hash") {
        let torrent = hash("info_hash", value)?;
        if torrents.contains(&torrent) {
            continue;
        }
        if torrents.len() == SCRAPE_MAX {
            return Err(BadRequest::TooMany);
        }
        torrents.push(torrent);
    }
    // BEP 48 would have the counts of all torrents; no node knows all those of its swarm.
    if torrents.is_empty() { Err(BadRequest::Missing { name: "info_hash" }) } else { Ok(torrents) }
}

fn event(query: &Query<'_>) -> Result<AnnounceEvent, BadRequest> {
    let wants = "started, stopped, completed or empty";
    match query.first("event").as_deref() {
        // `paused` is a leecher that wants some of the files only and has them (BEP 21).
        None | Some(b"" | b"empty" | b"paused") => Ok(AnnounceEvent::Regular),
        Some(b"started") => Ok(AnnounceEvent::Started),
        Some(b"completed") => Ok(AnnounceEvent::Completed),
        Some(b"stopped") => Ok(AnnounceEvent::Stopped),
        Some(_) => Err(BadRequest::Wrong { name: "event", wants }),
    }
}

fn form(query: &Query<'_>) -> PeerForm {
    let says = |name, word: &[u8]| query.first(name).is_some_and(|value| *value == *word);
    match (says("compact", b"0"), says("no_peer_id", b"1")) {
        (false, _) => PeerForm::Compact,
        (true, false) => PeerForm::ListWithIds,
        (true, true) => PeerForm::List,
    }
}

/// `cx`, `cy` and `ch`: a network coordinate in milliseconds, all or none.
fn coordinate(query: &Query<'_>) -> Result<Option<Coordinate>, BadRequest> {
    let [x, y, height] = ["cx", "cy", "ch"]
        .map(|name| query.optional(name, "a number of milliseconds", |ms: &f64| ms.is_finite()));
    match (x?, y?, height?) {
        (None, None, None) => Ok(None),
        (Some(x_ms), Some(y_ms), Some(height_ms)) => {
            Ok(Some(Coordinate { x_ms, y_ms, height_ms, ..Coordinate::default() }.clamped()))
        }
        (None, ..) => Err(BadRequest::Missing { name: "cx" }),
        (_, None, _) => Err(BadRequest::Missing { name: "cy" }),
        (_, _, None) => Err(BadRequest::Missing { name: "ch" }),
    }
}

/// An address that BEP 7 lets a peer add. Clients take it from their interfaces, so one that nobody can use is
/// no fault of the announce.
fn family(query: &Query<'_>, name: &'static str, port: u16) -> Option<SocketAddr> {
    let claim = query.optional(name, "an address", |claim: &Endpoint| is_of_one_host(claim.ip)).ok()??;
    Some(SocketAddr::new(claim.ip, claim.port.unwrap_or(port)))
}

/// An address that may bring its port: `192.0.2.1`, `192.0.2.1:6881`, `[2001:db8::1]:6881`.
struct Endpoint {
    ip: IpAddr,
    port: Option<u16>,
}

impl FromStr for Endpoint {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(Self { ip: address.ip(), port: Some(address.port()) }),
            Ok(address) => Ok(Self { ip: address.ip(), port: None }),
            Err(_) => text.parse().map(|ip| Self { ip, port: None }),
        }
    }
}

fn is_of_one_host(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

fn hash(name: &'static str, value: Cow<'_, [u8]>) -> Result<[u8; 20], BadRequest> {
    value.into_owned().try_into().map_err(|_| BadRequest::Wrong { name, wants: "20 bytes" })
}

/// A query that is short enough to be searched anew for each parameter.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn of(query: &'a str) -> Result<Self, BadRequest> {
        if query.len() > QUERY_BYTES_MAX { Err(BadRequest::TooLong) } else { Ok(Self(query)) }
    }

    fn all(&self, name: &str) -> impl Iterator<Item = Cow<'a, [u8]>> {
        let parameters = self.0.split('&').filter_map(|parameter| parameter.split_once('='));
        parameters.filter(move |(its, _)| *its == name).map(|(_, value)| percent_decode_str(value).into())
    }

    fn first(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.all(name).next()
    }

    fn hash(&self, name: &'static str) -> Result<[u8; 20], BadRequest> {
        hash(name, self.first(name).ok_or(BadRequest::Missing { name })?)
    }

    fn number<T: FromStr>(
        &self,
        name: &'static str,
        wants: &'static str,
        holds: impl Fn(&T) -> bool,
    ) -> Result<T, BadRequest> {
        self.optional(name, wants, holds)?.ok_or(BadRequest::Missing { name })
    }

    /// A parameter as text that parses; an empty one is as good as none.
    fn optional<T: FromStr>(
        &self,
        name: &'static str,
        wants: &'static str,
        holds: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, BadRequest> {
        let Some(value) = self.first(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        let parsed = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
        parsed.filter(holds).map(Some).ok_or(BadRequest::Wrong { name, wants })
    }
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
    use proptest::{array::uniform20, prelude::*};

    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 10));

    fn query(more: &str) -> String {
        let hash = percent_encode(&[0xfe; 20], NON_ALPHANUMERIC);
        format!("info_hash={hash}&peer_id=-CM0100-0123456789ab&port=6881&left=7{more}")
    }

    fn parsed(more: &str) -> Result<AnnounceRequest, BadRequest> {
        AnnounceRequest::parse(&query(more))
    }

    fn placed(more: &str, source: &str) -> Place {
        let request = parsed(more).expect("the announce is good");
        request.place(source.parse().expect("an address"), HOME)
    }

    fn at(address: &str) -> Place {
        Place { address: address.parse().expect("an address with a port"), second: None, warning: None }
    }

    #[test]
    fn an_announce_of_the_least_is_a_regular_one_for_compact_answers() {
        let request = parsed("").expect("the announce is good");
        assert_eq!(request.info_hash, [0xfe; 20]);
        assert_eq!(&request.peer_id, b"-CM0100-0123456789ab");
        assert_eq!((request.port, request.left, request.want), (6881, 7, None));
        assert_eq!((request.event, request.form), (AnnounceEvent::Regular, PeerForm::Compact));
        assert_eq!((request.ip, request.families, request.coordinate), (None, [None, None], None));
    }

    #[test]
    fn what_is_said_is_taken() {
        let request = parsed("&event=started&numwant=30&compact=0&cx=1.5&cy=-2&ch=3").expect("it is good");
        assert_eq!((request.event, request.want), (AnnounceEvent::Started, Some(30)));
        assert_eq!(request.form, PeerForm::ListWithIds);
        let at = request.coordinate.expect("it has a coordinate");
        assert_eq!((at.x_ms, at.y_ms, at.height_ms), (1.5, -2.0, 3.0));
        let form = |more| parsed(more).expect("it is good").form;
        assert_eq!(form("&compact=0&no_peer_id=1"), PeerForm::List);
        assert_eq!(form("&compact=1&no_peer_id=1"), PeerForm::Compact);
        let want = |more| parsed(more).expect("it is good").want;
        assert_eq!((want("&numwant=-1"), want("&numwant=500"), want("&numwant=")), (None, Some(50), None));
        assert_eq!(parsed("&event=paused").expect("it is good").event, AnnounceEvent::Regular);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let without = |name: &str| {
            let kept = query("");
            let kept: Vec<_> = kept.split('&').filter(|parameter| !parameter.starts_with(name)).collect();
            AnnounceRequest::parse(&kept.join("&")).expect_err("it lacks something").to_string()
        };
        for name in ["info_hash", "peer_id", "port", "left"] {
            assert_eq!(without(name), format!("{name} is missing"));
        }
        let wrong = |parameter: &str| {
            let name = parameter.split('=').next().unwrap_or(parameter);
            let query = format!("{parameter}&{}", query(""));
            let error = AnnounceRequest::parse(&query).expect_err("it is wrong").to_string();
            assert!(error.starts_with(&format!("{name} must be ")), "{parameter}: {error}");
        };
        for parameter in [
            "info_hash=%00",
            "peer_id=-CM0100-0123456789abc",
            "port=0",
            "port=65536",
            "port=%ff",
            "left=-1",
            "numwant=many",
            "event=bored",
            "ip=example.org",
            "ip=0.0.0.0",
            "ip=224.0.0.1",
            "cx=nan",
        ] {
            wrong(parameter);
        }
        assert_eq!(parsed("&cx=1&cy=2"), Err(BadRequest::Missing { name: "ch" }));
        assert_eq!(parsed(&"&x".repeat(8_192)), Err(BadRequest::TooLong));
    }

    #[test]
    fn a_stranger_is_where_it_comes_from_whatever_it_claims() {
        assert_eq!(placed("", "198.51.100.7"), at("198.51.100.7:6881"));
        assert_eq!(placed("", "::ffff:198.51.100.7"), at("198.51.100.7:6881"), "as IPv4, which it is");
        assert_eq!(placed("&ip=198.51.100.7", "198.51.100.7"), at("198.51.100.7:6881"));
        let claiming = placed("&ip=203.0.113.9&ipv6=2001:db8::9", "198.51.100.7");
        assert_eq!(claiming, Place { warning: Some(CLAIM_PASSED_OVER), ..at("198.51.100.7:6881") });
        assert_eq!(placed("", "2001:db8::7"), at("[2001:db8::7]:6881"));
    }

    #[test]
    fn a_peer_of_this_machine_or_a_private_network_is_believed() {
        assert_eq!(placed("&ip=203.0.113.9", "10.0.0.7"), at("203.0.113.9:6881"));
        assert_eq!(placed("", "10.0.0.7"), at("10.0.0.7:6881"));
        assert_eq!(placed("", "127.0.0.1"), at("192.168.1.10:6881"), "where others reach this machine");
        assert_eq!(placed("&ip=203.0.113.9", "::1"), at("203.0.113.9:6881"));
        let alone = parsed("").map(|request| request.place([127, 0, 0, 1].into(), [127, 0, 0, 1].into()));
        assert_eq!(alone, Ok(at("127.0.0.1:6881")), "a swarm on one machine");
        let both = placed("&ipv4=192.168.1.7&ipv6=%5B2001%3Adb8%3A%3A9%5D%3A7000", "127.0.0.1");
        let second = Some("[2001:db8::9]:7000".parse().expect("an address"));
        let useless = placed("&ipv4=2001:db8::9&ipv6=fe80::9%25eth0", "10.0.0.7");
        assert_eq!(
            useless,
            at("10.0.0.7:6881"),
            "addresses of the wrong family or of no use are passed over"
        );
        assert_eq!(both, Place { second, ..at("192.168.1.7:6881") }, "one address of each family");
    }

    #[test]
    fn a_scrape_names_each_torrent_once_and_not_too_many() {
        let name = |n: u8| format!("info_hash={}", percent_encode(&[n; 20], NON_ALPHANUMERIC));
        assert_eq!(scraped(&[name(1), name(2), name(1)].join("&")), Ok(vec![[1; 20], [2; 20]]));
        let most: Vec<_> = (0..50).map(name).collect();
        assert_eq!(scraped(&most.join("&")).map(|torrents| torrents.len()), Ok(50));
        assert_eq!(scraped(&(0..51).map(name).collect::<Vec<_>>().join("&")), Err(BadRequest::TooMany));
        assert_eq!(scraped(""), Err(BadRequest::Missing { name: "info_hash" }));
        assert_eq!(scraped("info_hash=1"), Err(BadRequest::Wrong { name: "info_hash", wants: "20 bytes" }));
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic(text in ".{0,200}", ip in any::<IpAddr>()) {
            for query in [text.clone(), query(&format!("&{text}"))] {
                scraped(&query).ok();
                if let Ok(request) = AnnounceRequest::parse(&query) {
                    let place = request.place(ip, HOME);
                    prop_assert!(place.address.port() != 0);
                }
            }
        }

        #[test]
        fn no_parameter_makes_it_panic(
            name in prop::sample::select(vec!["numwant", "event", "ip", "ipv4", "ipv6", "cx", "compact"]),
            value in "[0-9a-f.:%+-]{0,40}",
        ) {
            parsed(&format!("&{name}={value}")).ok();
        }

        #[test]
        fn any_hash_and_id_come_through_their_encoding(
            torrent in uniform20(any::<u8>()),
            peer in uniform20(any::<u8>()),
        ) {
            let [hash, id] = [torrent, peer].map(|bytes| percent_encode(&bytes, NON_ALPHANUMERIC).to_string());
            let query = format!("info_hash={hash}&peer_id={id}&port=1&left=0");
            let request = AnnounceRequest::parse(&query).expect("the announce is good");
            prop_assert_eq!((request.info_hash, request.peer_id), (torrent, peer));
            prop_assert_eq!(scraped(&query), Ok(vec![torrent]));
        }
    }
}
