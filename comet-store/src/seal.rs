//! What proves to a reader that the owner of a key put what a replica shows.

use comet_routing::Key;

use crate::{
    Act, Hash, Ownership, OwnershipError, Record, Statement, Version,
    record::{content_of, data_hash},
};

/// An owner's signature under a put, with all that it covers apart from what the reader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Who owns the key, and the signature.
    pub ownership: Ownership,
    /// The lifetime that was signed, in seconds.
    pub ttl_seconds: u64,
    /// The replicas that were signed.
    pub replicas: u8,
    /// What was put, if it has handlers; a plain value is in the answer itself.
    pub active: Option<SealedObject>,
}

/// The hashes of an object with handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedObject {
    /// [`crate::Code::hash_of`] its source.
    pub code: Hash,
    /// [`data_hash`] of its data.
    pub data: Hash,
}

/// What a replica shows a reader.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// The put's data.
    Value(&'a [u8]),
    /// What a handler made.
    Reply,
}

impl Seal {
    /// The seal of what a replica holds, `None` if nobody owns it.
    pub fn of(record: &Record) -> Option<Self> {
        let ownership = record.ownership.as_deref().cloned()?;
        let sealed = |code: Hash| SealedObject { code, data: data_hash(&record.data) };
        let active = record.code.as_ref().map(|code| sealed(code.hash));
        Some(Self { ownership, ttl_seconds: record.ttl_seconds, replicas: record.replicas, active })
    }

    /// Checks that the owner of `key` put what is shown under this version: the very value, or an object whose
    /// handlers may reply as they like.
    pub fn verify(
        &self,
        network: &str,
        key: &Key,
        version: &Version,
        shown: Shown<'_>,
    ) -> Result<(), OwnershipError> {
        let content = match (shown, &self.active) {
            (Shown::Value(data), None) => content_of(None, &data_hash(data)),
            // A code hash of zeros stands for a plain value, which no handler can have replied for.
            (Shown::Reply, Some(SealedObject { code, data })) if *code != [0; 32] => {
                content_of(Some(code), data)
            }
            _ => return Err(OwnershipError::BadSignature),
        };
        if content != version.hash {
            return Err(OwnershipError::BadSignature);
        }
        let act = Act::Put { content: &content, ttl_seconds: self.ttl_seconds, replicas: self.replicas };
        self.ownership.verify(&Statement { network, key, sequence: version.sequence, act })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;
    use crate::{Code, content_hash};

    const NETWORK: &str = "main";

    /// What the owner put, with handlers or without.
    fn signed(code: Option<&str>) -> Record {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let key = Key::owned(pair.public_key().as_ref().try_into().unwrap(), "name");
        let (code, data) = (code.map(Code::new), Bytes::from_static(b"\x2a"));
        let version =
            Version { sequence: 5, hash: content_hash(code.as_ref().map(|code| &code.hash), &data) };
        let act = Act::Put { content: &version.hash, ttl_seconds: 60, replicas: 8 };
        let statement = Statement { network: NETWORK, key: &key, sequence: 5, act };
        Record {
            key,
            ownership: Some(Ownership::sign(&pair, Key::salt("name"), &statement).into()),
            version,
            created_ms: 0,
            expires_ms: 1,
            ttl_seconds: 60,
            replicas: 8,
            code,
            publication: None,
            data,
            state: Bytes::new(),
        }
    }

    fn check(
        record: &Record,
        seal: &Seal,
        version: &Version,
        shown: Shown<'_>,
    ) -> Result<(), OwnershipError> {
        seal.verify(NETWORK, &record.key, version, shown)
    }

    #[test]
    fn the_owners_value_is_believed_and_no_other_value_or_version() {
        let record = signed(None);
        let (seal, version) = (Seal::of(&record).unwrap(), record.version);
        assert_eq!(check(&record, &seal, &version, Shown::Value(&record.data)), Ok(()), "the control");
        let false_hash = Version { hash: content_hash(None, b"\x2b"), ..version };
        let later = Version { sequence: 6, ..version };
        for (version, value) in [(version, b"\x2b"), (false_hash, b"\x2b"), (later, b"\x2a")] {
            assert!(check(&record, &seal, &version, Shown::Value(value)).is_err(), "{version:?}");
        }
        let longer = Seal { ttl_seconds: 61, ..seal };
        assert!(check(&record, &longer, &version, Shown::Value(&record.data)).is_err());
    }

    #[test]
    fn a_handler_replies_only_where_the_owner_put_handlers() {
        let active = signed(Some("aso = {}"));
        let seal = Seal::of(&active).unwrap();
        assert_eq!(check(&active, &seal, &active.version, Shown::Reply), Ok(()));
        assert!(check(&active, &seal, &active.version, Shown::Value(&active.data)).is_err());

        let plain = signed(None);
        let seal = Seal::of(&plain).unwrap();
        let made_up = Some(SealedObject { code: [0; 32], data: data_hash(&plain.data) });
        for active in [None, made_up] {
            let seal = Seal { active, ..seal.clone() };
            assert!(check(&plain, &seal, &plain.version, Shown::Reply).is_err(), "{active:?}");
        }
    }

    #[test]
    fn what_nobody_owns_has_no_seal() {
        assert_eq!(Seal::of(&Record { ownership: None, ..signed(None) }), None);
    }
}
