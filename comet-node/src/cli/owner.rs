//! Owners' keys: making and showing them, and signing with them.

use std::{io::Write, path::Path};

use bytes::Bytes;
use comet_routing::{Key, clock::Clock};
use comet_store::{Act, Code, Ownership, Publication, Statement, content_hash};
use serde_json::json;
use ureq::http::Method;

use super::{CommandError, args::IdArgs, client::Call, print, session::Session};
use crate::{
    http::api::{NodeReport, OwnerClaim, PublicationClaim},
    identity::{Identity, IdentityError},
    key_text::{KeyText, hex},
};

/// An owner whose key file could be read.
pub(super) struct Owner(Identity);

/// A put that is ready to be signed: everything but the sequence is what the replicas will check.
pub(super) struct UnsignedPut<'a> {
    pub(super) network: &'a str,
    pub(super) sequence: Option<u64>,
    pub(super) data: &'a Bytes,
    pub(super) code: Option<&'a Code>,
    pub(super) ttl_seconds: u64,
    pub(super) replicas: u8,
}

impl Owner {
    /// Reads a key file; a missing one is never made by the way.
    pub(super) fn load(path: &Path) -> Result<Self, CommandError> {
        Identity::load(path).map(Self).map_err(|error| match error {
            IdentityError::Missing { path } => {
                let path = path.display();
                CommandError::Failed(format!(
                    "there is no key file {path}; make one with: comet-node id --new {path}"
                ))
            }
            error => CommandError::Failed(error.to_string()),
        })
    }

    /// The key in this owner's space.
    pub(super) fn own(&self, key: KeyText) -> KeyText {
        key.in_space_of(*self.0.public_key())
    }

    /// Signs a put.
    pub(super) fn sign_put(&self, key: &KeyText, put: &UnsignedPut<'_>) -> Result<OwnerClaim, CommandError> {
        let content = content_hash(put.code.map(|code| &code.hash), put.data);
        let act = Act::Put { content: &content, ttl_seconds: put.ttl_seconds, replicas: put.replicas };
        let sequence = put.sequence.unwrap_or_else(|| Clock::System.wall_us());
        self.sign(put.network, key, sequence, act)
    }

    /// Signs a deletion, which counts from this sequence number on, by default the time.
    pub(super) fn sign_delete(
        &self,
        network: &str,
        key: &KeyText,
        sequence: Option<u64>,
    ) -> Result<OwnerClaim, CommandError> {
        let sequence = sequence.unwrap_or_else(|| Clock::System.wall_us());
        self.sign(network, key, sequence, Act::Delete)
    }

    /// Signs a request for the log; its sequence is the time in seconds.
    pub(super) fn sign_read_log(&self, network: &str, key: &KeyText) -> Result<OwnerClaim, CommandError> {
        self.sign(network, key, Clock::System.wall_ms() / 1000, Act::ReadLog)
    }

    /// Signs handlers, as their publisher.
    pub(super) fn publish(&self, network: &str, code: &Code) -> PublicationClaim {
        PublicationClaim::of(&Publication::sign(self.0.key_pair(), network, &code.hash))
    }

    fn sign(
        &self,
        network: &str,
        key: &KeyText,
        sequence: u64,
        act: Act<'_>,
    ) -> Result<OwnerClaim, CommandError> {
        let name = match key {
            KeyText::Owned { public_key, name } if public_key == self.0.public_key() => name,
            KeyText::Owned { .. } => {
                return Err(CommandError::Usage(
                    "the key belongs to another owner than the key file".to_owned(),
                ));
            }
            _ => return Err(CommandError::Usage("an owner signs for a name, not for a raw key".to_owned())),
        };
        let statement = Statement { network, key: &key.key(), sequence, act };
        let ownership = Ownership::sign(self.0.key_pair(), Key::salt(name), &statement);
        Ok(OwnerClaim::of(sequence, &ownership))
    }
}

/// `comet-node id`
pub(super) fn id(session: &Session, args: &IdArgs, output: &mut dyn Write) -> Result<(), CommandError> {
    let owner = match (&args.new, &args.owner) {
        (Some(path), _) => {
            Owner(Identity::create_at(path).map_err(|error| CommandError::Failed(error.to_string()))?)
        }
        (None, Some(path)) => Owner::load(path)?,
        (None, None) => {
            let call = Call::new(Method::GET, "/v1/node");
            return session.show(call, output, |node: &NodeReport, look| Ok(print::node(node, look)));
        }
    };
    let public_key = hex(owner.0.public_key());
    session.show_own(&json!({ "public_key": public_key }), &format!("{public_key}\n"), output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner(Identity::from_seed([7; 32]))
    }

    #[test]
    fn a_signed_put_convinces_whoever_knows_the_owner() {
        let owner = owner();
        let key = owner.own("note".parse().unwrap());
        let data = Bytes::from_static(b"\xc0");
        let put = UnsignedPut {
            network: "test",
            sequence: Some(9),
            data: &data,
            code: None,
            ttl_seconds: 60,
            replicas: 3,
        };
        let claim = owner.sign_put(&key, &put).expect("the owner signs for its own name");
        let (sequence, ownership) = claim.read().expect("a claim reads what it wrote");
        assert_eq!(sequence, 9);
        let content = content_hash(None, &data);
        let act = Act::Put { content: &content, ttl_seconds: 60, replicas: 3 };
        let statement = Statement { network: "test", key: &key.key(), sequence, act };
        assert_eq!(ownership.verify(&statement), Ok(()));
        let elsewhere = Statement { network: "main", ..statement };
        assert!(ownership.verify(&elsewhere).is_err(), "the signature is for one network");
    }

    #[test]
    fn a_deletion_has_the_chosen_sequence_or_the_time_in_microseconds() {
        let key = owner().own("note".parse().unwrap());
        let signed = |chosen| {
            let claim = owner().sign_delete("test", &key, chosen).expect("the owner signs for its own name");
            let (sequence, ownership) = claim.read().expect("a claim reads what it wrote");
            let statement = Statement { network: "test", key: &key.key(), sequence, act: Act::Delete };
            assert_eq!(ownership.verify(&statement), Ok(()));
            sequence
        };
        assert_eq!(signed(Some(u64::MAX)), u64::MAX);
        let before = Clock::System.wall_ms() * 1_000;
        let now = signed(None);
        assert!((before..=(Clock::System.wall_ms() + 1) * 1_000).contains(&now), "{now}");
    }

    #[test]
    fn nobody_signs_for_raw_keys_or_for_others() {
        for text in [format!("hex:{}", Key::of("a")), format!("owned:{}/a", hex(&[1; 32]))] {
            let key = owner().own(text.parse().unwrap());
            let error = owner().sign_delete("test", &key, None).expect_err("not this owner's name");
            assert_eq!(error.exit_code(), 2, "{error}");
        }
    }

    #[test]
    fn a_missing_key_file_says_how_to_make_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("me.key");
        let error = Owner::load(&path).err().expect("there is no such file");
        assert!(
            error.to_string().ends_with(&format!("make one with: comet-node id --new {}", path.display()))
        );
        assert!(!path.exists());
    }
}
