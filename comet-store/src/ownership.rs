//! Owners and their signatures.
//!
//! An owned key is the hash of the owner's public key and a salt ([`Key::owned_by_salt`]), so that the proof
//! of ownership needs no registry: whoever can sign for that public key may write there, nobody else may.

use comet_routing::Key;
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::Hash;

const PUT_TAG: &[u8] = b"comet/1 put\0";
const DELETE_TAG: &[u8] = b"comet/1 delete\0";
const READ_LOG_TAG: &[u8] = b"comet/1 read log\0";

/// An owner's claim to one version of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// Ed25519 public key, 32 bytes.
    #[serde(with = "serde_bytes")]
    pub public_key: [u8; 32],
    /// [`Key::salt`] of the object's name, 32 bytes.
    #[serde(with = "serde_bytes")]
    pub salt: [u8; 32],
    /// Ed25519 signature over the [`Statement`], 64 bytes.
    #[serde(with = "serde_bytes")]
    pub signature: [u8; 64],
}

/// What an owner signs.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// Name of the network, so that a put to a test network cannot be replayed on another.
    pub network: &'a str,
    /// The object.
    pub key: &'a Key,
    /// The owner's sequence number: replicas accept only a higher one.
    pub sequence: u64,
    /// What the owner wants done.
    pub act: Act<'a>,
}

/// The acts that take an owner's signature.
#[derive(Clone, Copy, Debug)]
pub enum Act<'a> {
    /// Store this content for this long on this many replicas.
    Put {
        /// [`crate::content_hash`] of code and data.
        content: &'a Hash,
        /// Lifetime from the put, in seconds.
        ttl_seconds: u64,
        /// Replicas asked for.
        replicas: u8,
    },
    /// Forget the object.
    Delete,
    /// Show the object's log. The sequence is the owner's clock in seconds, and a replica believes it for
    /// five minutes.
    ReadLog,
}

/// Why an ownership was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnershipError {
    /// The key is an owned one and no ownership came with the request.
    #[error("this key belongs to an owner and the request is not signed")]
    Unsigned,
    /// The key does not belong to this public key and salt.
    #[error("the key does not belong to the public key that signed")]
    ForeignKey,
    /// The signature does not match.
    #[error("the owner's signature does not match the request")]
    BadSignature,
}

impl Statement<'_> {
    /// The bytes that are signed: tagged, every variable part preceded by its length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tag = match self.act {
            Act::Put { .. } => PUT_TAG,
            Act::Delete => DELETE_TAG,
            Act::ReadLog => READ_LOG_TAG,
        };
        let mut out = tag.to_vec();
        out.extend_from_slice(&(self.network.len() as u64).to_be_bytes());
        out.extend_from_slice(self.network.as_bytes());
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        if let Act::Put { content, ttl_seconds, replicas } = self.act {
            out.extend_from_slice(content);
            out.extend_from_slice(&ttl_seconds.to_be_bytes());
            out.push(replicas);
        }
        out
    }
}

impl Ownership {
    /// Signs a statement about the object that `public_key` (of `pair`) and `salt` name.
    pub fn sign(pair: &Ed25519KeyPair, salt: [u8; 32], statement: &Statement<'_>) -> Self {
        use ring::signature::KeyPair;
        let mut public_key = [0; 32];
        public_key.copy_from_slice(pair.public_key().as_ref());
        let mut signature = [0; 64];
        signature.copy_from_slice(pair.sign(&statement.to_bytes()).as_ref());
        Self { public_key, salt, signature }
    }

    /// Checks that the key belongs to this owner and that the owner signed the statement.
    pub fn verify(&self, statement: &Statement<'_>) -> Result<(), OwnershipError> {
        if Key::owned_by_salt(&self.public_key, &self.salt) != *statement.key {
            return Err(OwnershipError::ForeignKey);
        }
        UnparsedPublicKey::new(&ED25519, self.public_key)
            .verify(&statement.to_bytes(), &self.signature)
            .map_err(|_| OwnershipError::BadSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn key_of(pair: &Ed25519KeyPair, name: &str) -> Key {
        use ring::signature::KeyPair;
        Key::owned(pair.public_key().as_ref().try_into().unwrap(), name)
    }

    fn statement(key: &Key) -> Statement<'_> {
        let act = Act::Put { content: &[3; 32], ttl_seconds: 60, replicas: 8 };
        Statement { network: "main", key, sequence: 5, act }
    }

    #[test]
    fn what_the_owner_signed_is_believed() {
        let key = key_of(&pair(1), "name");
        let ownership = Ownership::sign(&pair(1), Key::salt("name"), &statement(&key));
        assert_eq!(ownership.verify(&statement(&key)), Ok(()));
    }

    #[test]
    fn nothing_else_is_covered_by_the_signature() {
        let key = key_of(&pair(1), "name");
        let signed = statement(&key);
        let ownership = Ownership::sign(&pair(1), Key::salt("name"), &signed);
        let content = [4; 32];
        let put = |content, ttl_seconds, replicas| Act::Put { content, ttl_seconds, replicas };
        for other in [
            Statement { network: "test", ..signed },
            Statement { sequence: 6, ..signed },
            Statement { act: Act::Delete, ..signed },
            Statement { act: Act::ReadLog, ..signed },
            Statement { act: put(&content, 60, 8), ..signed },
            Statement { act: put(&[3; 32], 61, 8), ..signed },
            Statement { act: put(&[3; 32], 60, 9), ..signed },
        ] {
            assert_eq!(ownership.verify(&other), Err(OwnershipError::BadSignature), "{other:?}");
        }
    }

    #[test]
    fn nobody_signs_for_the_key_of_another() {
        let (key, other_name) = (key_of(&pair(1), "name"), key_of(&pair(1), "other"));
        let foreign = Ownership::sign(&pair(2), Key::salt("name"), &statement(&key));
        assert_eq!(foreign.verify(&statement(&key)), Err(OwnershipError::ForeignKey));
        let own = Ownership::sign(&pair(1), Key::salt("name"), &statement(&other_name));
        assert_eq!(own.verify(&statement(&other_name)), Err(OwnershipError::ForeignKey));
        let forged = Ownership { public_key: own.public_key, ..foreign };
        assert_eq!(forged.verify(&statement(&key)), Err(OwnershipError::BadSignature));
    }

    #[test]
    fn the_signed_bytes_are_these() {
        let key = Key::from_bytes([0xab; 32]);
        let delete = Statement { network: "n", key: &key, sequence: 258, act: Act::Delete };
        let mut expected = b"comet/1 delete\0\0\0\0\0\0\0\0\x01n".to_vec();
        expected.extend([0xab; 32]);
        expected.extend([0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(delete.to_bytes(), expected);
        let put = Statement { act: Act::Put { content: &[9; 32], ttl_seconds: 1, replicas: 8 }, ..delete };
        assert_eq!(
            put.to_bytes()[put.to_bytes().len() - 41..],
            [&[9; 32][..], &[0, 0, 0, 0, 0, 0, 0, 1, 8]].concat()
        );
    }
}
