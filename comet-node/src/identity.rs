//! Who a node, or an owner of objects, is: an Ed25519 key pair in a file.
//!
//! The file is PKCS#8 in PEM, which is what `openssl genpkey -algorithm ed25519` writes. It is created once,
//! atomically and readable by its user only, and never overwritten: a file that is there and is not a usable
//! key is an error for a person to look at.

use std::{
    fmt, fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use comet_routing::NodeId;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};

/// Name of the node's key file in its data directory.
pub const KEY_FILE: &str = "node.key";

/// Largest key file that is read; a key takes about 120 bytes.
const FILE_BYTES_MAX: u64 = 4096;
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
const PEM_LINE_BYTES: usize = 64;
/// What stands before the 32-byte seed in the PKCS#8 form of an Ed25519 key (RFC 8410, section 7).
const PKCS8_SEED_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// An Ed25519 key pair and the [`NodeId`] that its public half hashes to.
///
/// Cheap to clone; its secret half is never printed.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
    public_key: [u8; 32],
    node_id: NodeId,
}

/// Why a key file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no such file.
    #[error("there is no key file {path}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A key was to be created and the file is there already.
    #[error("{path} exists already; it is not overwritten")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others than its user may read or change the file.
    #[error("others may use the key file {path} (mode {mode:03o}); run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error(
        "{path} is not an Ed25519 private key (PKCS#8, PEM); move it away if the key in it is not needed, \
         or restore it from a backup"
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("cannot {act} {path}: {error}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
}

impl Identity {
    /// The identity kept in `directory`, created there on the first run.
    ///
    /// A directory that does not exist is created for its user only.
    pub fn of_directory(directory: &Path) -> Result<Self, IdentityError> {
        create_private_directory(directory)?;
        let path = directory.join(KEY_FILE);
        match Self::load(&path) {
            Err(IdentityError::Missing { .. }) => match Self::create_at(&path) {
                // Another process of the same user was faster.
                Err(IdentityError::Exists { .. }) => Self::load(&path),
                created => created,
            },
            loaded => loaded,
        }
    }

    /// Makes a new key and writes it to `path`, which must not exist yet.
    pub fn create_at(path: &Path) -> Result<Self, IdentityError> {
        let identity = Self::generate();
        let failed = |act| move |error| IdentityError::Io { act, path: path.to_owned(), error };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // A temporary file is made with mode 0600, and becomes the key file only when it is whole on disk.
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed("create"))?;
        file.write_all(identity.to_pem().as_bytes()).map_err(failed("write"))?;
        file.as_file().sync_all().map_err(failed("write"))?;
        file.persist_noclobber(path).map_err(|refused| match refused.error.kind() {
            io::ErrorKind::AlreadyExists => IdentityError::Exists { path: path.to_owned() },
            _ => failed("create")(refused.error),
        })?;
        fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("write"))?;
        Ok(identity)
    }

    /// Reads the key in `path`, if nobody but its user may.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => IdentityError::Missing { path: path.to_owned() },
            _ => IdentityError::Io { act: "read", path: path.to_owned(), error },
        };
        let file = fs::File::open(path).map_err(failed)?;
        check_private(path, &file.metadata().map_err(failed)?)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let not_a_key = || IdentityError::NotAKey { path: path.to_owned() };
        let text = std::str::from_utf8(&bytes).map_err(|_| not_a_key())?;
        Self::from_pem(text).ok_or_else(not_a_key)
    }

    /// A new key from the system's random numbers, not written anywhere.
    pub fn generate() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .expect("the system gives random numbers, or nothing is safe");
        Self::from_pkcs8(pkcs8.as_ref().to_vec()).expect("a key that was just generated is a key")
    }

    /// The key that this seed stands for; for tests and simulations, where every run must be the same.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let pkcs8 = [&PKCS8_SEED_PREFIX[..], &seed[..]].concat();
        Self::from_pkcs8(pkcs8).expect("any 32 bytes are an Ed25519 seed")
    }

    /// The id of the node that holds this key.
    pub fn node_id(&self) -> NodeId {
        self.0.node_id
    }

    /// The Ed25519 public key.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.0.public_key
    }

    /// The key pair, for signing.
    pub fn key_pair(&self) -> &Ed25519KeyPair {
        &self.0.pair
    }

    /// The private key as PKCS#8 (DER), for the TLS library.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.0.pkcs8
    }

    /// A secret that only this key's holder can compute, the same in every run and another for each purpose.
    pub(crate) fn derived_secret(&self, purpose: &str) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0.pkcs8);
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&key, purpose.as_bytes()).as_ref());
        secret
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Option<Self> {
        // A key written by openssl lacks the public half, which is then computed.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).ok()?;
        let mut public_key = [0; 32];
        public_key.copy_from_slice(pair.public_key().as_ref());
        let node_id = NodeId::of_public_key(&public_key);
        Some(Self(Arc::new(Inner { pair, pkcs8, public_key, node_id })))
    }

    fn to_pem(&self) -> String {
        let text = STANDARD.encode(&self.0.pkcs8);
        let mut pem = format!("{PEM_BEGIN}\n");
        for line in text.as_bytes().chunks(PEM_LINE_BYTES) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem + PEM_END + "\n"
    }

    fn from_pem(text: &str) -> Option<Self> {
        let body = text.trim().strip_prefix(PEM_BEGIN)?.strip_suffix(PEM_END)?;
        let body: String = body.split_whitespace().collect();
        Self::from_pkcs8(STANDARD.decode(body).ok()?)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.0.node_id)
    }
}

fn create_private_directory(directory: &Path) -> Result<(), IdentityError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|error| IdentityError::Io {
        act: "create the directory",
        path: directory.to_owned(),
        error,
    })
}

#[cfg(unix)]
fn check_private(path: &Path, file: &fs::Metadata) -> Result<(), IdentityError> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_path: &Path, _file: &fs::Metadata) -> Result<(), IdentityError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).expect("it was just written").permissions().mode() & 0o777
    }

    fn key_file_with(text: &str) -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().expect("a temporary directory");
        let path = home.path().join(KEY_FILE);
        fs::write(&path, text).expect("a writable directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
        (home, path)
    }

    #[test]
    fn the_first_run_creates_a_private_key_and_the_next_one_finds_it() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let directory = home.path().join("a/node");
        let first = Identity::of_directory(&directory).expect("a new directory");
        assert_eq!(mode_of(&directory), 0o700);
        assert_eq!(mode_of(&directory.join(KEY_FILE)), 0o600);
        let second = Identity::of_directory(&directory).expect("the same directory");
        assert_eq!(first.public_key(), second.public_key());
        assert_eq!(fs::read_dir(&directory).expect("a directory").count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let path = home.path().join(KEY_FILE);
        Identity::create_at(&path).expect("a new file");
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
            let error = Identity::of_directory(home.path()).expect_err("an exposed key").to_string();
            assert!(error.contains(&format!("{mode:03o}")) && error.contains("chmod 600"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("our own file");
        Identity::load(&path).expect("a read-only key is private too");
    }

    #[test]
    fn what_is_not_a_key_is_refused_and_left_alone() {
        let truncated = Identity::from_seed([1; 32]).to_pem().replace("MC4", "MC5");
        for text in ["", "hello", "-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n", &truncated]
        {
            let (home, path) = key_file_with(text);
            let refused = Identity::of_directory(home.path());
            assert!(matches!(refused, Err(IdentityError::NotAKey { .. })), "{text:?} gave {refused:?}");
            assert_eq!(fs::read_to_string(&path).expect("still there"), text);
        }
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let (_home, path) = key_file_with("precious");
        assert!(matches!(Identity::create_at(&path), Err(IdentityError::Exists { .. })));
        assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
    }

    #[test]
    fn a_key_from_openssl_is_the_key_of_its_seed() {
        // RFC 8410, section 10.3.
        let (_home, path) = key_file_with(
            "-----BEGIN PRIVATE KEY-----\n\
             MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
             -----END PRIVATE KEY-----\n",
        );
        let expected = [
            0x19, 0xbf, 0x44, 0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba, 0xc1, 0x67, 0xdc, 0x3b, 0x96,
            0xc8, 0x50, 0x86, 0xaa, 0x30, 0xb6, 0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31, 0x66, 0xe1,
        ];
        assert_eq!(Identity::load(&path).expect("a key").public_key(), &expected);
    }

    #[test]
    fn equal_seeds_are_equal_nodes_and_secrets_differ_by_purpose() {
        let (one, same, other) =
            (Identity::from_seed([1; 32]), Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        assert_eq!(one.node_id(), same.node_id());
        assert_ne!(one.node_id(), other.node_id());
        assert_eq!(one.derived_secret("a"), same.derived_secret("a"));
        assert_ne!(one.derived_secret("a"), one.derived_secret("b"));
        assert_ne!(one.derived_secret("a"), other.derived_secret("a"));
    }
}
