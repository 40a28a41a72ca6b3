//! TLS 1.3 with raw public keys (RFC 7250): both ends show their Ed25519 key and prove that they hold it.
//!
//! There are no certificates and no authorities: a node's id is the hash of its key, so whoever knows the id
//! can check the key. The handshake accepts any Ed25519 key, and [`peer_of`] tells whose it was.

use std::sync::Arc;

use comet_routing::NodeId;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::CertifiedKey,
    version::TLS13,
};

use crate::{identity::Identity, wire::alpn};

/// What stands before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The TLS side of dialling.
#[allow(clippy::expect_used, reason = "the provider is the one that this was built with")]
pub(super) fn client(identity: &Identity, network: &str) -> Arc<QuicClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let key = Arc::new(rustls::client::AlwaysResolvesClientRawPublicKeys::new(certified(identity)));
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyEd25519Key(provider)))
        .with_client_cert_resolver(key);
    config.alpn_protocols = vec![alpn(network)];
    config.enable_sni = false;
    // A resumed session would not show the peer's key again.
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(QuicClientConfig::try_from(config).expect("the provider has QUIC's initial cipher suite"))
}

/// The TLS side of being dialled.
#[allow(clippy::expect_used, reason = "the provider is the one that this was built with")]
pub(super) fn server(identity: &Identity, network: &str) -> Arc<QuicServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let key = Arc::new(rustls::server::AlwaysResolvesServerRawPublicKeys::new(certified(identity)));
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider speaks TLS 1.3")
        .with_client_cert_verifier(Arc::new(AnyEd25519Key(provider)))
        .with_cert_resolver(key);
    config.alpn_protocols = vec![alpn(network)];
    config.send_tls13_tickets = 0;
    Arc::new(QuicServerConfig::try_from(config).expect("the provider has QUIC's initial cipher suite"))
}

/// Who is at the other end of an established connection.
pub(super) fn peer_of(connection: &quinn::Connection) -> Option<NodeId> {
    let shown = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let public_key = ed25519_key(shown.first()?)?;
    Some(NodeId::of_public_key(public_key))
}

fn ed25519_key(spki: &[u8]) -> Option<&[u8; 32]> {
    spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()
}

#[allow(clippy::expect_used, reason = "the key is the node's own")]
fn certified(identity: &Identity) -> Arc<CertifiedKey> {
    let pkcs8 = PrivatePkcs8KeyDer::from(identity.pkcs8().to_vec());
    let key = ring::sign::any_eddsa_type(&pkcs8).expect("an identity is an Ed25519 key");
    let spki = [&SPKI_PREFIX[..], identity.public_key()].concat();
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key))
}

/// Accepts every peer that proves that it holds the Ed25519 key it shows.
#[derive(Debug)]
struct AnyEd25519Key(Arc<CryptoProvider>);

impl AnyEd25519Key {
    fn check(shown: &CertificateDer<'_>) -> Result<(), Error> {
        let refuse = || Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon);
        ed25519_key(shown).map(|_| ()).ok_or_else(refuse)
    }

    fn verify(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(shown.as_ref());
        verify_tls13_signature_with_raw_key(
            message,
            &spki,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }
}

/// TLS 1.2 is not offered, so nothing of it can be valid.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
}

impl ServerCertVerifier for AnyEd25519Key {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::check(shown).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for AnyEd25519Key {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::check(shown).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ed25519_key_of_the_right_length_is_a_key() {
        let identity = Identity::from_seed([1; 32]);
        let spki = [&SPKI_PREFIX[..], identity.public_key()].concat();
        assert_eq!(ed25519_key(&spki), Some(identity.public_key()));
        assert_eq!(ed25519_key(&spki[..43]), None);
        assert_eq!(ed25519_key(&[&spki[..], &[0]].concat()), None);
        let mut other_curve = spki.clone();
        other_curve[8] = 0x6e;
        assert_eq!(ed25519_key(&other_curve), None);
    }

    #[test]
    fn what_is_shown_is_what_the_tls_library_computes_from_the_key() {
        let identity = Identity::from_seed([1; 32]);
        let certified = certified(&identity);
        let computed = certified.key.public_key().expect("Ed25519 keys have a public half");
        assert_eq!(certified.cert.first().map(AsRef::as_ref), Some(computed.as_ref()));
    }
}
