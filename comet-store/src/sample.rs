//! Records for tests.

use bytes::Bytes;
use comet_routing::Key;

#[cfg(test)]
use crate::Publication;
use crate::{Code, Ownership, Record, Version, content_hash};

/// A time at which sample records live.
pub(crate) const NOW: u64 = 1_000_000;

/// An unowned plain record of 24 hours, created at [`NOW`].
pub(crate) fn plain(name: &str, sequence: u64, data: &[u8]) -> Record {
    Record {
        key: Key::of(name),
        ownership: None,
        version: Version { sequence, hash: content_hash(None, data) },
        created_ms: NOW,
        expires_ms: NOW + 86_400_000,
        ttl_seconds: 86_400,
        replicas: 8,
        code: None,
        publication: None,
        data: Bytes::copy_from_slice(data),
        state: Bytes::new(),
    }
}

/// As [`plain`], with handler code.
pub(crate) fn active(name: &str, sequence: u64, data: &[u8], source: &str) -> Record {
    let code = Code::new(source);
    let version = Version { sequence, hash: content_hash(Some(&code.hash), data) };
    Record { version, code: Some(code), ..plain(name, sequence, data) }
}

/// As [`active`], with a publisher's signature (which the store does not look at).
#[cfg(test)]
pub(crate) fn published(publisher: u8, name: &str, sequence: u64, source: &str) -> Record {
    let publication = Publication { public_key: [publisher; 32], signature: [publisher; 64] };
    Record { publication: Some(publication.into()), ..active(name, sequence, b"data", source) }
}

/// As [`plain`], of an owner with this public key (whose signature the store does not look at).
pub(crate) fn owned(owner: u8, name: &str, sequence: u64, data: &[u8]) -> Record {
    let salt = Key::salt(name);
    let ownership = Ownership { public_key: [owner; 32], salt, signature: [owner; 64] };
    let key = Key::owned_by_salt(&ownership.public_key, &salt);
    Record { key, ownership: Some(ownership.into()), ..plain(name, sequence, data) }
}
