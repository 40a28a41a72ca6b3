//! Making the token of a node's HTTP interface.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use rand::{TryRng, rngs::SysRng};

use super::CommandError;

/// Random bytes of a token: 256 bits.
const TOKEN_BYTES: usize = 32;

/// `comet-node token`: writes a new token to a file that did not exist and that its owner alone can read.
///
/// It is not printed: a terminal keeps what it showed.
pub(super) fn token(path: &Path, output: &mut dyn Write) -> Result<(), CommandError> {
    let file = path.display();
    let mut bytes = [0; TOKEN_BYTES];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| CommandError::Failed(format!("the system gives no random bytes: {error}")))?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = created.and_then(|mut file| writeln!(file, "{token}").and_then(|()| file.sync_all()));
    written.map_err(|error| CommandError::Failed(format!("cannot write a token to {file}: {error}")))?;
    writeln!(
        output,
        "{file}: a new token\n\
         For the node:    COMET_HTTP_TOKEN=\"$(cat {file})\" comet-node run\n\
         For its clients: export COMET_TOKEN=\"$(cat {file})\""
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::config::NodeConfig;

    #[test]
    fn a_token_has_256_bits_in_a_private_file_and_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let mut tokens = Vec::new();
        for name in ["a", "b"] {
            let (path, mut said) = (folder.path().join(name), Vec::new());
            token(&path, &mut said).expect("it is made");
            let text = fs::read_to_string(&path).unwrap().trim_end().to_owned();
            assert!(text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit()), "{text}");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert!(!String::from_utf8(said).unwrap().contains(&text));
            let mut config = NodeConfig::default();
            config.http.token = Some(text.clone());
            config.check().expect("a node takes it");
            tokens.push(text);
        }
        assert_ne!(tokens[0], tokens[1]);
    }

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "mine").unwrap();
        let error = token(&path, &mut Vec::new()).expect_err("it exists").to_string();
        assert!(error.contains("cannot write a token to") && error.contains("exists"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
