//! Publishers and their signatures.
//!
//! A publisher vouches for code, wherever and by whomever it is put: the signature covers the code's hash and
//! neither key nor data. What it is worth is each node's to say, whose operator names the publishers he trusts.

use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::Hash;

const PUBLISH_TAG: &[u8] = b"comet/1 publish\0";

/// Bytes that a publication adds to a record: the key and the signature.
pub(crate) const PUBLICATION_BYTES: u64 = 96;

/// A publisher's signature under one source of handlers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Ed25519 public key, 32 bytes.
    #[serde(with = "serde_bytes")]
    pub public_key: [u8; 32],
    /// Ed25519 signature, 64 bytes, over a tag, the network's name preceded by its length, and the code's hash.
    #[serde(with = "serde_bytes")]
    pub signature: [u8; 64],
}

/// Why a publication was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicationError {
    /// There are no handlers that the signature could be for.
    #[error("a publisher signs code, and the object has none")]
    NoCode,
    /// The signature does not match.
    #[error("the publisher's signature is not for this code on this network")]
    BadSignature,
}

impl Publication {
    /// Signs code for a network.
    pub fn sign(pair: &Ed25519KeyPair, network: &str, code_hash: &Hash) -> Self {
        use ring::signature::KeyPair;
        let mut public_key = [0; 32];
        public_key.copy_from_slice(pair.public_key().as_ref());
        let mut signature = [0; 64];
        signature.copy_from_slice(pair.sign(&signed_bytes(network, code_hash)).as_ref());
        Self { public_key, signature }
    }

    /// Checks that this publisher signed this code for this network.
    pub fn verify(&self, network: &str, code_hash: &Hash) -> Result<(), PublicationError> {
        UnparsedPublicKey::new(&ED25519, self.public_key)
            .verify(&signed_bytes(network, code_hash), &self.signature)
            .map_err(|_| PublicationError::BadSignature)
    }
}

fn signed_bytes(network: &str, code_hash: &Hash) -> Vec<u8> {
    let mut out = PUBLISH_TAG.to_vec();
    out.extend_from_slice(&(network.len() as u64).to_be_bytes());
    out.extend_from_slice(network.as_bytes());
    out.extend_from_slice(code_hash);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    #[test]
    fn what_the_publisher_signed_is_believed_and_nothing_else() {
        let publication = Publication::sign(&pair(1), "main", &[3; 32]);
        assert_eq!(publication.verify("main", &[3; 32]), Ok(()));
        let bad = Err(PublicationError::BadSignature);
        assert_eq!(publication.verify("test", &[3; 32]), bad, "another network");
        assert_eq!(publication.verify("main", &[4; 32]), bad, "other code");
        let foreign = Publication::sign(&pair(2), "main", &[3; 32]);
        let claimed = Publication { public_key: publication.public_key, ..foreign };
        assert_eq!(claimed.verify("main", &[3; 32]), bad, "another publisher");
    }

    #[test]
    fn the_signed_bytes_are_these() {
        let mut expected = b"comet/1 publish\0\0\0\0\0\0\0\0\x01n".to_vec();
        expected.extend([0xab; 32]);
        assert_eq!(signed_bytes("n", &[0xab; 32]), expected);
    }
}
