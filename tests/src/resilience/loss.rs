//! Packets are lost.
//!
//! Three times the same swarm of 32 nodes, whose clients put 200 objects in fair weather and then make 3,000 gets,
//! one after the other: without loss, while a tenth of all packets are lost, and while three tenths are. Loss is
//! of single packets, handshakes, requests, acknowledgements and answers alike; QUIC's retransmission is
//! simulated.

use super::{Clients, Figure, Gets, simulate};
use crate::harness::{Cluster, Weather};

const NODES: usize = 32;
const OBJECTS: usize = 200;
const GETS: usize = 3_000;

/// Measures it.
pub fn measure(seed: u64) -> Vec<Figure> {
    let [fair, tenth, three_tenths] = [0, 10, 30].map(|percent| gets_while_lost(seed, percent));
    vec![
        Figure::share("gets without loss", fair.share, 100.0),
        Figure::share("gets, 10 % of packets lost", tenth.share, 99.9),
        Figure::time(
            "p99 of gets, 10 % of packets lost; at most 3 times that without",
            tenth.p99(),
            fair.p99() * 3,
        ),
        Figure::share("gets, 30 % of packets lost", three_tenths.share, 99.0),
    ]
}

fn gets_while_lost(seed: u64, loss_percent: u8) -> Gets {
    simulate(seed, "loss", async |sim| {
        let cluster = Cluster::start(&sim, NODES).await;
        let mut clients = Clients::new(&sim);
        clients.put_many(&cluster, OBJECTS).await?;
        sim.weather(Weather { loss_percent, ..Weather::default() });
        Ok(clients.get_many(&cluster, GETS).await)
    })
}
