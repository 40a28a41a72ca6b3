//! Publishers' signatures under handlers: making them, and taking them along with a put.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use comet_store::Code;
use serde_json::json;

use super::{CommandError, args::AppSignArgs, objects::read_text, owner::Owner, session::Form};
use crate::http::api::PublicationClaim;

/// `comet-node app sign`
pub(super) fn sign(args: &AppSignArgs, output: &mut dyn Write) -> Result<(), CommandError> {
    let AppSignArgs { code, key, network, json } = args;
    let publisher = Owner::load(key)?;
    let claim = publisher.publish(network, &Code::new(read_text(code)?));
    let path = beside(code);
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::Failed(format!("cannot write {}: {error}", path.display()))
    };
    let document = serde_json::to_string_pretty(&claim).map_err(|error| failed(&error))?;
    fs::write(&path, document + "\n").map_err(|error| failed(&error))?;
    let PublicationClaim { public_key, signature } = &claim;
    let (file, network) = (path.display().to_string(), network.as_str());
    let text = format!("{file}: signed for the network {network} by {public_key}\n");
    let document =
        json!({ "file": file, "network": network, "public_key": public_key, "signature": signature });
    Form::of(*json).write(&document, &text, output)
}

/// Reads what [`sign`] wrote.
pub(super) fn read_signature(path: &Path) -> Result<PublicationClaim, CommandError> {
    let text = read_text(path)?;
    let unusable = |error: &dyn std::fmt::Display| {
        CommandError::Failed(format!("{} is not a publisher's signature: {error}", path.display()))
    };
    let claim: PublicationClaim = serde_json::from_str(&text).map_err(|error| unusable(&error))?;
    claim.read().map_err(|error| unusable(&error))?;
    Ok(claim)
}

/// The path with `.sig` behind its last name.
fn beside(code: &Path) -> PathBuf {
    let mut path = code.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn signed(folder: &Path, json: bool) -> (PathBuf, String) {
        let (code, key) = (folder.join("a.lua"), folder.join("me.key"));
        fs::write(&code, "aso.n = 0").unwrap();
        if !key.exists() {
            Identity::create_at(&key).unwrap();
        }
        let args = AppSignArgs { code: code.clone(), key, network: "test".into(), json };
        let mut output = Vec::new();
        sign(&args, &mut output).expect("it is signed");
        (beside(&code), String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_signature_is_written_beside_the_handlers_and_can_be_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, said) = signed(folder.path(), false);
        assert_eq!(path, folder.path().join("a.lua.sig"));
        let claim = read_signature(&path).expect("it reads what it wrote");
        assert!(said.ends_with(&format!("signed for the network test by {}\n", claim.public_key)), "{said}");
        let publication = claim.read().unwrap();
        assert_eq!(publication.verify("test", &Code::new("aso.n = 0").hash), Ok(()));
        assert!(publication.verify("comet", &Code::new("aso.n = 0").hash).is_err(), "one network");
        let document: serde_json::Value = serde_json::from_str(&signed(folder.path(), true).1).unwrap();
        assert_eq!(document["signature"], claim.signature.as_str(), "Ed25519 signs the same twice");
    }

    #[test]
    fn what_is_no_signature_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sig");
        for text in ["", "{}", r#"{"public_key": "00", "signature": "00"}"#] {
            fs::write(&path, text).unwrap();
            let error = read_signature(&path).expect_err("no signature").to_string();
            let start = format!("{} is not a publisher's signature: ", path.display());
            assert!(error.starts_with(&start), "{error}");
        }
    }
}
