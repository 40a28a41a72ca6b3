//! The stored form of everything the store keeps.
//!
//! Each value is sealed: a format byte, a checksum over the table, the key and the content, then the content
//! in MessagePack. So a value that was damaged, cut short or moved to another key is found when it is read,
//! and a wrong byte is never served. A record's data is held against its version's hash besides, the hash
//! that its owner signed.

use bytes::Bytes;
use comet_routing::{Key, clock::WallMs};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Code, Deletion, Hash, Ownership, Publication, Record, Source, Version, content_hash,
    engine::Table,
    publication::PUBLICATION_BYTES,
    quota::{Charge, Payer, Payers, RECORD_OVERHEAD_BYTES},
};

/// Bytes of data, state and code that one record may have at most, whatever the node's own limits are.
pub const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Bytes of one object's log.
pub const LOG_BYTES_MAX: u64 = 64 << 10;

/// Bytes of the name and the value of one entry that the node keeps about itself.
pub const META_BYTES_MAX: u64 = 1 << 20;

/// The first byte of every stored value; a reader refuses any other.
pub(crate) const FORMAT: u8 = 1;

const CHECKSUM_BYTES: usize = 16;

/// The format and the checksum.
const HEAD_BYTES: usize = 1 + CHECKSUM_BYTES;

/// Most sealed values are no longer.
const SEALED_BYTES_USUAL: usize = 256;

/// No sealed value is longer: the largest record with room for its envelope.
const SEALED_BYTES_MAX: usize = RECORD_BYTES_MAX as usize + 1_024;

const SEAL_TAG: &[u8] = b"comet/1 seal\0";

/// How much later than it expires a record may be swept out, in milliseconds. Nobody is served what has expired.
const EXPIRY_STEP_MS: u64 = 4_000;

/// A record as it is stored: without its key, its code by hash, and what only the store needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredRecord {
    pub(crate) ownership: Option<Box<Ownership>>,
    pub(crate) sequence: u64,
    #[serde(with = "serde_bytes")]
    pub(crate) hash: Hash,
    pub(crate) created_ms: WallMs,
    pub(crate) expires_ms: WallMs,
    pub(crate) ttl_seconds: u64,
    pub(crate) replicas: u8,
    pub(crate) code: Option<StoredCode>,
    pub(crate) data: Bytes,
    pub(crate) state: Bytes,
    /// When the object's timer is due.
    pub(crate) timer_ms: Option<WallMs>,
    /// Whom the record is charged to; `None` for this node's own clients.
    pub(crate) source: Option<Source>,
    /// Last and left out where there is none, which is also how records were stored before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) publication: Option<Box<Publication>>,
}

/// A record's reference to its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredCode {
    #[serde(with = "serde_bytes")]
    pub(crate) hash: Hash,
    /// Bytes of source charged to this record's owner and source, because it brought the code.
    pub(crate) charged_bytes: u64,
}

/// A deletion that is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tombstone {
    pub(crate) sequence: u64,
    #[serde(with = "serde_bytes")]
    pub(crate) hash: Hash,
    pub(crate) expires_ms: WallMs,
    /// Deletions were stored without it before it was kept.
    #[serde(default)]
    pub(crate) ownership: Option<Box<Ownership>>,
    /// Last, since deletions were stored without it before they were charged to anybody.
    #[serde(default)]
    pub(crate) payers: Payers,
}

/// What a store is: written once, before anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// The network whose objects are stored here.
    pub(crate) network: String,
}

/// Why stored bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// Too short or too long to be any value.
    #[error("{0} bytes cannot be a stored value")]
    Length(usize),
    /// Written by another version of Comet, or damaged.
    #[error("unknown format {0}")]
    Format(u8),
    /// The bytes are not the ones that were written for this key.
    #[error("the checksum does not match")]
    Checksum,
    /// The content is not what the table holds, or is followed by something.
    #[error("the content is malformed")]
    Content,
    /// The data does not have the hash that its version states.
    #[error("the data does not match its version")]
    Version,
}

impl StoredRecord {
    /// The stored form of a record.
    pub(crate) fn new(
        record: &Record,
        charged_bytes: u64,
        timer_ms: Option<WallMs>,
        source: Option<Source>,
    ) -> Self {
        Self {
            ownership: record.ownership.clone(),
            sequence: record.version.sequence,
            hash: record.version.hash,
            created_ms: record.created_ms,
            expires_ms: record.expires_ms,
            ttl_seconds: record.ttl_seconds,
            replicas: record.replicas,
            code: record.code.as_ref().map(|code| StoredCode { hash: code.hash, charged_bytes }),
            data: record.data.clone(),
            state: record.state.clone(),
            timer_ms,
            source,
            publication: record.publication.clone(),
        }
    }

    /// The sealed bytes to store under a key.
    pub(crate) fn seal(&self, key: &Key) -> Vec<u8> {
        seal(Table::Records, key.as_bytes(), self)
    }

    /// Opens what is stored under a key, and holds the data against the version.
    pub(crate) fn unseal(key: &Key, sealed: &[u8]) -> Result<Self, DecodeError> {
        let stored: Self = unseal(Table::Records, key.as_bytes(), sealed)?;
        let code = stored.code.map(|code| code.hash);
        if content_hash(code.as_ref(), &stored.data) == stored.hash {
            Ok(stored)
        } else {
            Err(DecodeError::Version)
        }
    }

    /// The record, with its code as found in the code table.
    pub(crate) fn into_record(self, key: Key, code: Option<Code>) -> Record {
        let version = self.version();
        Record {
            key,
            ownership: self.ownership,
            version,
            created_ms: self.created_ms,
            expires_ms: self.expires_ms,
            ttl_seconds: self.ttl_seconds,
            replicas: self.replicas,
            code,
            publication: self.publication,
            data: self.data,
            state: self.state,
        }
    }

    pub(crate) fn version(&self) -> Version {
        Version { sequence: self.sequence, hash: self.hash }
    }

    pub(crate) fn code_hash(&self) -> Option<Hash> {
        self.code.map(|code| code.hash)
    }

    /// What the record costs, and whom.
    pub(crate) fn charge(&self) -> Charge {
        Charge {
            bytes: (self.data.len() as u64)
                .saturating_add(self.state.len() as u64)
                .saturating_add(self.publication.as_ref().map_or(0, |_| PUBLICATION_BYTES))
                .saturating_add(RECORD_OVERHEAD_BYTES),
            code: self.code_hash(),
            code_bytes: self.code.map_or(0, |code| code.charged_bytes),
            owner: self.ownership.as_ref().map(|ownership| ownership.public_key),
            source: self.source,
        }
    }
}

impl Tombstone {
    pub(crate) fn new(deletion: Deletion, expires_ms: WallMs, payers: Payers) -> Self {
        let Deletion { version: Version { sequence, hash }, ownership } = deletion;
        Self { sequence, hash, expires_ms, ownership, payers }
    }

    pub(crate) fn deletion(self) -> Deletion {
        Deletion { version: self.version(), ownership: self.ownership }
    }

    pub(crate) fn version(&self) -> Version {
        Version { sequence: self.sequence, hash: self.hash }
    }

    pub(crate) fn is_charged_to(&self, payer: &Payer) -> bool {
        self.payers.each().any(|each| each == *payer)
    }
}

/// The sealed form of a value under a key of a table.
#[allow(clippy::expect_used, reason = "what is stored is the node's own, and memory takes it")]
pub(crate) fn seal(table: Table, key: &[u8], value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEALED_BYTES_USUAL);
    out.push(FORMAT);
    out.extend([0; CHECKSUM_BYTES]);
    rmp_serde::encode::write(&mut out, value).expect("stored values serialize into memory");
    if let Some((head, content)) = out.split_first_chunk_mut::<HEAD_BYTES>() {
        head[1..].copy_from_slice(&checksum(table, key, content));
    }
    out
}

/// An encoded value under its seal.
#[cfg(any(test, feature = "simulation"))]
pub(crate) fn sealed(table: Table, key: &[u8], content: &[u8]) -> Vec<u8> {
    [&[FORMAT][..], &checksum(table, key, content), content].concat()
}

/// Opens a sealed value, believing nothing about it.
pub(crate) fn unseal<T: DeserializeOwned>(table: Table, key: &[u8], sealed: &[u8]) -> Result<T, DecodeError> {
    if sealed.len() > SEALED_BYTES_MAX {
        return Err(DecodeError::Length(sealed.len()));
    }
    let cut_short = || DecodeError::Length(sealed.len());
    let (format, rest) = sealed.split_first().ok_or_else(cut_short)?;
    let (seal, content) = rest.split_first_chunk::<CHECKSUM_BYTES>().ok_or_else(cut_short)?;
    if *format != FORMAT {
        return Err(DecodeError::Format(*format));
    }
    if *seal != checksum(table, key, content) {
        return Err(DecodeError::Checksum);
    }
    let mut rest = content;
    let value =
        T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).map_err(|_| DecodeError::Content)?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::Content) }
}

/// The key of an index entry that is ordered by time: eight big-endian bytes, then the object's key.
pub(crate) fn time_key(at_ms: WallMs, key: &Key) -> [u8; 40] {
    let mut out = [0; 40];
    out[..8].copy_from_slice(&at_ms.to_be_bytes());
    out[8..].copy_from_slice(key.as_bytes());
    out
}

/// When a record's expiry is looked for in its index: up to a step later, so that overwriting a record again and again moves its
/// entry once in a while and not each time.
pub(crate) fn expiry_entry_ms(expires_ms: WallMs) -> WallMs {
    expires_ms.div_ceil(EXPIRY_STEP_MS).saturating_mul(EXPIRY_STEP_MS)
}

/// What [`time_key`] put together; `None` if it did not.
pub(crate) fn split_time_key(bytes: &[u8]) -> Option<(WallMs, Key)> {
    let (at_ms, key) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*at_ms), split_key(key)?))
}

/// A key of a table that is ordered by object.
pub(crate) fn split_key(bytes: &[u8]) -> Option<Key> {
    Some(Key::from_bytes(bytes.try_into().ok()?))
}

fn checksum(table: Table, key: &[u8], content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut context = Context::new(&SHA256);
    context.update(SEAL_TAG);
    context.update(table.name().as_bytes());
    context.update(&(key.len() as u64).to_be_bytes());
    context.update(key);
    context.update(content);
    let digest = context.finish();
    let mut out = [0; CHECKSUM_BYTES];
    out.iter_mut().zip(digest.as_ref()).for_each(|(out, byte)| *out = *byte);
    out
}

#[cfg(test)]
mod tests {
    use comet_routing::Prefix;
    use proptest::prelude::*;

    use super::*;
    use crate::sample::{active, owned, plain, published};

    fn stored(record: &Record) -> StoredRecord {
        StoredRecord::new(record, 5, Some(77), Some(Source::Copy(Prefix::of([192, 0, 2, 1].into()))))
    }

    #[test]
    fn a_record_comes_back_as_it_was_stored() {
        for record in [
            plain("a", 1, b"data"),
            active("b", 2, b"", "aso.n = 1"),
            owned(3, "c", 4, &[255; 9]),
            published(5, "d", 6, "aso.n = 1"),
        ] {
            let record = Record { state: Bytes::from_static(&[0, 200]), ..record };
            let stored = stored(&record);
            let back = StoredRecord::unseal(&record.key, &stored.seal(&record.key)).unwrap();
            assert_eq!(back, stored);
            assert_eq!(back.charge().source, Some(Source::Copy(Prefix::of([192, 0, 2, 9].into()))));
            assert_eq!(back.into_record(record.key, record.code.clone()), record);
        }
    }

    #[test]
    fn a_record_stored_before_there_were_publications_and_accounts_of_copies_is_still_read() {
        #[derive(Serialize)]
        struct Former {
            ownership: Option<Ownership>,
            sequence: u64,
            #[serde(with = "serde_bytes")]
            hash: Hash,
            created_ms: WallMs,
            expires_ms: WallMs,
            ttl_seconds: u64,
            replicas: u8,
            code: Option<StoredCode>,
            data: Bytes,
            state: Bytes,
            timer_ms: Option<WallMs>,
            #[serde(with = "serde_bytes")]
            source: Option<[u8; 6]>,
        }
        let prefix = Prefix::of([192, 0, 2, 1].into());
        for record in [owned(3, "c", 4, b"data"), active("b", 2, b"", "aso.n = 1")] {
            let now = StoredRecord { source: Some(Source::Put(prefix)), ..stored(&record) };
            let former = Former {
                ownership: now.ownership.as_deref().cloned(),
                sequence: now.sequence,
                hash: now.hash,
                created_ms: now.created_ms,
                expires_ms: now.expires_ms,
                ttl_seconds: now.ttl_seconds,
                replicas: now.replicas,
                code: now.code,
                data: now.data.clone(),
                state: now.state.clone(),
                timer_ms: now.timer_ms,
                source: Some(prefix.to_bytes()),
            };
            let sealed = seal(Table::Records, record.key.as_bytes(), &former);
            assert_eq!(StoredRecord::unseal(&record.key, &sealed), Ok(now));
        }
    }

    #[test]
    fn a_publication_is_charged_for() {
        let bytes = |record: &Record| stored(record).charge().bytes;
        let signed = published(5, "d", 6, "aso.n = 1");
        let unsigned = Record { publication: None, ..signed.clone() };
        assert_eq!(bytes(&signed), bytes(&unsigned) + 96);
    }

    #[test]
    fn a_deletion_comes_back_with_its_proof_and_one_stored_without_is_still_read() {
        let Record { key, ownership, version, .. } = owned(3, "c", 4, b"");
        let read = |sealed: &[u8]| unseal::<Tombstone>(Table::Tombstones, key.as_bytes(), sealed);
        let source = Some(Source::Put(Prefix::of([192, 0, 2, 1].into())));
        let payers = Payers { source, owner: Some([3; 32]) };
        for deletion in [Deletion::up_to(5, ownership), Deletion::unsigned(version)] {
            let tombstone = Tombstone::new(deletion.clone(), 77, payers);
            let back = read(&seal(Table::Tombstones, key.as_bytes(), &tombstone)).unwrap();
            assert_eq!((back.expires_ms, back.payers, back.deletion()), (77, payers, deletion));
        }

        #[derive(Serialize)]
        struct Former {
            sequence: u64,
            #[serde(with = "serde_bytes")]
            hash: Hash,
            expires_ms: WallMs,
        }
        let former = Former { sequence: version.sequence, hash: version.hash, expires_ms: 77 };
        let sealed = seal(Table::Tombstones, key.as_bytes(), &former);
        assert_eq!(read(&sealed), Ok(Tombstone::new(Deletion::unsigned(version), 77, Payers::default())));
    }

    #[test]
    fn no_flipped_bit_is_ever_served() {
        let record = Record { state: Bytes::from_static(b"state"), ..owned(1, "name", 1, b"data") };
        let sealed = stored(&record).seal(&record.key);
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 8 { DecodeError::Format(damaged[0]) } else { DecodeError::Checksum };
            assert_eq!(StoredRecord::unseal(&record.key, &damaged), Err(expected), "bit {bit}");
        }
    }

    #[test]
    fn a_value_is_good_under_its_own_key_and_table_only() {
        let record = plain("one", 1, b"data");
        let sealed = stored(&record).seal(&record.key);
        assert_eq!(StoredRecord::unseal(&Key::of("two"), &sealed), Err(DecodeError::Checksum));
        let elsewhere = unseal::<StoredRecord>(Table::Logs, record.key.as_bytes(), &sealed);
        assert_eq!(elsewhere, Err(DecodeError::Checksum));
    }

    #[test]
    fn data_that_its_version_does_not_name_is_refused() {
        let record = plain("name", 1, b"data");
        let forged = StoredRecord { data: Bytes::from_static(b"other"), ..stored(&record) };
        assert_eq!(StoredRecord::unseal(&record.key, &forged.seal(&record.key)), Err(DecodeError::Version));
    }

    #[test]
    fn nothing_may_follow_a_value_and_nothing_may_be_missing() {
        let key = Key::of("name");
        let longer = seal(Table::Logs, key.as_bytes(), &(1u8, 2u8));
        assert_eq!(unseal::<(u8, u8)>(Table::Logs, key.as_bytes(), &longer), Ok((1, 2)));
        let mut content = longer[1 + CHECKSUM_BYTES..].to_vec();
        content.push(3);
        let mut padded = vec![FORMAT];
        padded.extend(checksum(Table::Logs, key.as_bytes(), &content));
        padded.extend(content);
        assert_eq!(unseal::<(u8, u8)>(Table::Logs, key.as_bytes(), &padded), Err(DecodeError::Content));
        assert_eq!(
            unseal::<(u8, u8)>(Table::Logs, key.as_bytes(), &longer[..9]),
            Err(DecodeError::Length(9))
        );
        let huge = vec![FORMAT; SEALED_BYTES_MAX + 1];
        assert_eq!(
            unseal::<(u8, u8)>(Table::Logs, key.as_bytes(), &huge),
            Err(DecodeError::Length(SEALED_BYTES_MAX + 1))
        );
    }

    #[test]
    fn index_entries_sort_by_time_and_come_apart_again() {
        let key = Key::of("name");
        assert_eq!(split_time_key(&time_key(300, &key)), Some((300, key)));
        assert!(time_key(255, &key) < time_key(256, &key));
        assert_eq!(split_time_key(&[0; 39]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let key = Key::of("name");
            prop_assert!(StoredRecord::unseal(&key, &bytes).is_err());
            let mut sealed = vec![FORMAT];
            sealed.extend(checksum(Table::Records, key.as_bytes(), &bytes));
            sealed.extend(&bytes);
            prop_assert!(StoredRecord::unseal(&key, &sealed).is_err());
        }
    }
}
