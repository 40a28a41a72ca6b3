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
