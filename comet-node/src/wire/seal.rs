//! How an owner's seal travels with the answer to a get.

use comet_store::{Ownership, Seal, SealedObject};
use serde::{Deserialize, Serialize};

use super::{field, request::OwnershipFields};

#[derive(Serialize, Deserialize)]
#[serde(remote = "Seal")]
struct SealFields {
    #[serde(rename = "own", with = "OwnershipFields")]
    ownership: Ownership,
    #[serde(rename = "ttl", deserialize_with = "field::ttl_seconds")]
    ttl_seconds: u64,
    #[serde(rename = "r", deserialize_with = "field::replicas")]
    replicas: u8,
    #[serde(rename = "o", with = "object_option", default, skip_serializing_if = "Option::is_none")]
    active: Option<SealedObject>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SealedObject")]
struct SealedObjectFields {
    #[serde(rename = "ch", with = "field::exact")]
    code: [u8; 32],
    #[serde(rename = "dh", with = "field::exact")]
    data: [u8; 32],
}

mod object_option {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        object: &Option<SealedObject>,
        target: S,
    ) -> Result<S::Ok, S::Error> {
        match object {
            Some(object) => SealedObjectFields::serialize(object, target),
            None => target.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Option<SealedObject>, D::Error> {
        SealedObjectFields::deserialize(source).map(Some)
    }
}

pub(super) mod seal_option {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(in crate::wire) fn serialize<S: Serializer>(
        seal: &Option<Box<Seal>>,
        target: S,
    ) -> Result<S::Ok, S::Error> {
        match seal {
            Some(seal) => SealFields::serialize(seal, target),
            None => target.serialize_none(),
        }
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Option<Box<Seal>>, D::Error> {
        SealFields::deserialize(source).map(|seal| Some(Box::new(seal)))
    }
}
