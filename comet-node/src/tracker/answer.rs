//! Answers as bencoded bytes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use bt_bencode::Value;
use comet_apps::{Introduction, Scrape};

use super::request::InfoHash;

/// The shortest time between two announces that a client is told to keep, whatever a replica says.
const INTERVAL_MIN: Duration = Duration::from_secs(60);

/// How a client wants to be told of peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PeerForm {
    /// Strings of addresses (BEP 23 and 7); what a client gets that does not choose.
    #[default]
    Compact,
    /// A list of dictionaries (BEP 3): `compact=0`.
    ListWithIds,
    /// The same without the peers' ids: `no_peer_id=1`.
    List,
}

/// The answer to an announce.
pub(super) fn introduction(met: &Introduction, form: PeerForm, warning: Option<&str>) -> Vec<u8> {
    let mut fields = counts(met.scrape);
    fields.push(("interval", number(met.interval.max(INTERVAL_MIN).as_secs())));
    fields.push(("min interval", number(INTERVAL_MIN.as_secs())));
    match form {
        PeerForm::Compact => {
            fields.push(("peers", text(&met.peers)));
            if !met.peers6.is_empty() {
                fields.push(("peers6", text(&met.peers6)));
            }
        }
        PeerForm::ListWithIds | PeerForm::List => fields.push(("peers", Value::List(listed(met)))),
    }
    if let Some(warning) = warning {
        fields.push(("warning message", text(warning)));
    }
    encoded(&dictionary(fields))
}

/// The answer to a scrape.
pub(super) fn scrape(torrents: impl IntoIterator<Item = (InfoHash, Scrape)>) -> Vec<u8> {
    let torrents = torrents.into_iter().map(|(torrent, scrape)| (torrent, dictionary(counts(scrape))));
    encoded(&dictionary([("files", dictionary(torrents))]))
}

/// The answer to a request that cannot be answered.
pub(super) fn failure(reason: &str) -> Vec<u8> {
    encoded(&dictionary([("failure reason", text(reason))]))
}

fn counts(scrape: Scrape) -> Vec<(&'static str, Value)> {
    let Scrape { complete, incomplete, downloaded } = scrape;
    vec![
        ("complete", number(complete)),
        ("downloaded", number(downloaded)),
        ("incomplete", number(incomplete)),
    ]
}

/// Peers as BEP 3 has them; those of the ids that the replica told.
fn listed(met: &Introduction) -> Vec<Value> {
    let mut ids = met.ids.chunks_exact(20);
    let peer = |address| {
        let (ip, port) = expanded(address)?;
        let mut fields = vec![("ip", text(ip.to_string())), ("port", number(port.into()))];
        fields.extend(ids.next().map(|id| ("peer id", text(id))));
        Some(dictionary(fields))
    };
    met.peers.chunks_exact(6).chain(met.peers6.chunks_exact(18)).filter_map(peer).collect()
}

fn expanded(compact: &[u8]) -> Option<(IpAddr, u16)> {
    let (ip, port) = compact.split_last_chunk::<2>()?;
    let short = <[u8; 4]>::try_from(ip).map(|ip| Ipv4Addr::from(ip).into()).ok();
    let ip = short.or_else(|| <[u8; 16]>::try_from(ip).map(|ip| Ipv6Addr::from(ip).into()).ok())?;
    Some((ip, u16::from_be_bytes(*port)))
}

/// The encoder sorts the keys.
fn dictionary<K: AsRef<[u8]>>(fields: impl IntoIterator<Item = (K, Value)>) -> Value {
    Value::Dict(fields.into_iter().map(|(name, value)| (name.as_ref().into(), value)).collect())
}

fn text(bytes: impl AsRef<[u8]>) -> Value {
    Value::ByteStr(bytes.as_ref().into())
}

fn number(n: u64) -> Value {
    Value::Int(n.into())
}

#[allow(clippy::expect_used, reason = "the answer is the node's own")]
fn encoded(value: &Value) -> Vec<u8> {
    bt_bencode::to_vec(value).expect("numbers, strings, lists and dictionaries can be bencoded")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const V4: &[u8] = &[198, 51, 100, 7, 0x1a, 0xe1];
    const V6: &[u8] = &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x1a, 0xe2];

    fn met(peers: &[u8], peers6: &[u8], ids: &[u8]) -> Introduction {
        Introduction {
            interval: Duration::from_secs(1_800),
            scrape: Scrape { complete: 2, incomplete: 3, downloaded: 4 },
            peers: Bytes::copy_from_slice(peers),
            peers6: Bytes::copy_from_slice(peers6),
            ids: Bytes::copy_from_slice(ids),
        }
    }

    fn decoded(bytes: &[u8]) -> Value {
        bt_bencode::from_slice(bytes).expect("an answer is bencoded")
    }

    #[test]
    fn a_compact_answer_has_addresses_by_family_and_its_keys_in_order() {
        let expected = [
            &b"d8:completei2e10:downloadedi4e10:incompletei3e8:intervali1800e12:min intervali60e5:peers6:"[..],
            V4,
            b"6:peers618:",
            V6,
            b"e",
        ];
        assert_eq!(introduction(&met(V4, V6, &[]), PeerForm::Compact, None), expected.concat());
    }

    #[test]
    fn without_peers_there_is_still_a_list_of_them() {
        let nobody = decoded(&introduction(&met(&[], &[], &[]), PeerForm::Compact, None));
        assert_eq!((nobody.get("peers"), nobody.get("peers6")), (Some(&text("")), None));
        let nobody = decoded(&introduction(&met(&[], &[], &[]), PeerForm::List, None));
        assert_eq!(nobody.get("peers"), Some(&Value::List(Vec::new())));
    }

    #[test]
    fn a_listed_answer_has_a_dictionary_for_each_peer_with_ids_if_they_were_told() {
        let with = decoded(&introduction(&met(V4, V6, &[b'i'; 40]), PeerForm::ListWithIds, None));
        let peer = |ip: &str, port, id: Option<&[u8]>| {
            let mut fields = vec![("ip", text(ip)), ("port", number(port))];
            fields.extend(id.map(|id| ("peer id", text(id))));
            dictionary(fields)
        };
        let ids = Some(&[b'i'; 20][..]);
        let expected = vec![peer("198.51.100.7", 6881, ids), peer("2001:db8::9", 6882, ids)];
        assert_eq!(with.get("peers"), Some(&Value::List(expected)));
        let without = decoded(&introduction(&met(V4, &[], &[]), PeerForm::List, None));
        assert_eq!(without.get("peers"), Some(&Value::List(vec![peer("198.51.100.7", 6881, None)])));
    }

    #[test]
    fn no_replica_makes_clients_come_in_a_rush() {
        let eager = Introduction { interval: Duration::ZERO, ..met(V4, &[], &[]) };
        let answer = decoded(&introduction(&eager, PeerForm::Compact, None));
        assert_eq!(answer.get("interval"), Some(&number(60)));
    }

    #[test]
    fn warnings_and_failures_are_sentences_under_their_names() {
        let warned = decoded(&introduction(&met(V4, &[], &[]), PeerForm::Compact, Some("no")));
        assert_eq!(warned.get("warning message"), Some(&text("no")));
        assert_eq!(failure("no such thing"), b"d14:failure reason13:no such thinge");
    }

    #[test]
    fn a_scrape_has_counts_by_raw_hash() {
        let (first, second) = ([0xff; 20], [0; 20]);
        let counts = Scrape { complete: 5, incomplete: 10, downloaded: 50 };
        let answer = decoded(&scrape([(first, counts), (second, Scrape::default())]));
        let files = [
            (second, dictionary(super::counts(Scrape::default()))),
            (first, dictionary(super::counts(counts))),
        ];
        assert_eq!(answer, dictionary([("files", dictionary(files))]));
        assert_eq!(scrape([]), b"d5:filesdee");
    }

    proptest! {
        #[test]
        fn any_introduction_is_encoded_so_that_it_decodes_to_the_same(
            peers in vec(any::<u8>(), 0..80),
            peers6 in vec(any::<u8>(), 0..80),
            ids in vec(any::<u8>(), 0..80),
            seconds in any::<u64>(),
            warning in proptest::option::of(".*"),
        ) {
            let interval = Duration::from_secs(seconds);
            let met = Introduction { interval, ..met(&peers, &peers6, &ids) };
            for form in [PeerForm::Compact, PeerForm::ListWithIds, PeerForm::List] {
                let bytes = introduction(&met, form, warning.as_deref());
                let answer = decoded(&bytes);
                prop_assert_eq!(encoded(&answer), bytes);
                prop_assert_eq!(answer.get("interval"), Some(&number(seconds.max(60))));
                prop_assert_eq!(answer.get("warning message").cloned(), warning.as_ref().map(text));
                if form == PeerForm::Compact {
                    prop_assert_eq!(answer.get("peers"), Some(&text(&peers)));
                }
            }
        }
    }
}
