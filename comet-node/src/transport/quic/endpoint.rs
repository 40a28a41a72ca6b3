//! The two ends of the transport's sockets, as QUIC has to be configured for them.

use std::{io, net::UdpSocket, sync::Arc, time::Duration};

use quinn::{
    AckFrequencyConfig, ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig,
    IdleTimeout, ServerConfig, TokioRuntime, VarInt,
};
use ring::{hmac, rand::SystemRandom};

use super::super::{TransportConfig, config::duration, tls};
use crate::{identity::Identity, wire::FRAME_BYTES_MAX};

/// Length of this node's connection ids.
const CONNECTION_ID_BYTES: usize = 8;

/// Longest that peers may delay an acknowledgement. QUIC's usual 25 ms would make every peer with a slow
/// handler suspect, as 25 ms is also the shortest timeout.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_millis(5);

/// Bytes kept of one, and of all, connections whose handshake was not decided upon yet.
const UNDECIDED_BYTES: u64 = 16 * 1024;
const UNDECIDED_BYTES_TOTAL: u64 = 4 * 1024 * 1024;

/// An endpoint that dials and is dialled, on this socket.
pub(super) fn open(
    socket: UdpSocket,
    identity: &Identity,
    network: &str,
    config: &TransportConfig,
) -> io::Result<Endpoint> {
    let limits = Arc::new(connection_limits(config));
    let server = server_config(identity, network, config, Arc::clone(&limits));
    let mut endpoint =
        Endpoint::new(endpoint_config(identity), Some(server), socket, Arc::new(TokioRuntime))?;
    endpoint.set_default_client_config(client_config(identity, network, limits));
    Ok(endpoint)
}

/// What this node wants of those who dial it.
///
/// They stay where they shook hands: QUIC would have a connection follow its peer to another address before the
/// peer has shown that it receives there, and then whoever has a connection could name a victim as its own address.
/// A peer whose address really changed dials anew.
pub(super) fn server_config(
    identity: &Identity,
    network: &str,
    config: &TransportConfig,
    limits: Arc<quinn::TransportConfig>,
) -> ServerConfig {
    let mut server = ServerConfig::with_crypto(tls::server(identity, network));
    server
        .transport_config(limits)
        .migration(false)
        .max_incoming(config.handshakes_max.max(1))
        .incoming_buffer_size(UNDECIDED_BYTES)
        .incoming_buffer_size_total(UNDECIDED_BYTES_TOTAL);
    server
}

/// An endpoint that only dials, on this socket.
pub(super) fn open_prober(
    socket: UdpSocket,
    identity: &Identity,
    network: &str,
    config: &TransportConfig,
) -> io::Result<Endpoint> {
    let mut endpoint = Endpoint::new(endpoint_config(identity), None, socket, Arc::new(TokioRuntime))?;
    endpoint.set_default_client_config(client_config(identity, network, Arc::new(connection_limits(config))));
    Ok(endpoint)
}

fn client_config(identity: &Identity, network: &str, limits: Arc<quinn::TransportConfig>) -> ClientConfig {
    let mut client = ClientConfig::new(tls::client(identity, network));
    client.transport_config(limits);
    client
}

/// The key outlives a restart, so that a restarted node can tell its peers at once that it no longer knows
/// their connections (RFC 9000, section 10.3) instead of leaving them to their timeouts.
fn endpoint_config(identity: &Identity) -> EndpointConfig {
    let reset = identity.derived_secret("quic stateless reset");
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset)));
    config.cid_generator(|| Box::new(RandomConnectionIds));
    config
}

/// Connection ids without a mark of the process that made them: quinn's own are ignored, rather than reset,
/// by a process that did not make them.
struct RandomConnectionIds;

impl ConnectionIdGenerator for RandomConnectionIds {
    #[allow(clippy::expect_used, reason = "without random numbers nothing is safe")]
    fn generate_cid(&mut self) -> ConnectionId {
        let id: [u8; CONNECTION_ID_BYTES] = ring::rand::generate(&SystemRandom::new())
            .expect("the system gives random numbers, or nothing is safe")
            .expose();
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[allow(clippy::expect_used, reason = "an hour is a valid idle timeout")]
pub(super) fn connection_limits(config: &TransportConfig) -> quinn::TransportConfig {
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.max_ack_delay(Some(ACKNOWLEDGE_WITHIN));
    let idle = IdleTimeout::try_from(duration(config.idle_ms)).expect("an hour is a valid idle timeout");
    let frame = VarInt::from_u32(FRAME_BYTES_MAX as u32);
    let mut limits = quinn::TransportConfig::default();
    limits
        .max_concurrent_bidi_streams(config.requests_per_connection_max.into())
        .max_concurrent_uni_streams(0_u32.into())
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(None)
        .stream_receive_window(frame)
        .receive_window(config.receive_window_bytes.into())
        .send_window(config.receive_window_bytes.into())
        .initial_rtt(duration(config.stranger_rtt_ms))
        .ack_frequency_config(Some(acknowledgements))
        .datagram_receive_buffer_size(None);
    limits
}
