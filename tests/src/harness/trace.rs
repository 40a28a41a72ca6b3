//! What happened on the wire, as a running hash: two runs are the same if their traces are.

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Events of which the text is kept, for the report of a story that fails.
const EVENTS_KEPT: usize = 24;

/// FNV-1a's offset and prime, 64 bit: the same on every machine, which the standard hasher does not promise.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The first half of a handshake.
    Hello,
    /// As [`Kind::Hello`], from another port than all that the host has used before.
    Probe,
    /// The second half.
    Welcome,
    /// A request.
    Request,
    /// The acknowledgement of a request.
    Acknowledgement,
    /// An answer.
    Answer,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was sent and is under way.
    Sent,
    /// It was sent in vain.
    Lost,
    /// It arrived.
    Arrived,
    /// It arrived once more.
    Repeated,
}

/// One entry of the trace.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Simulated time since the start.
    pub at: Duration,
    /// Who sent it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// What it is.
    pub kind: Kind,
    /// What became of it.
    pub event: Event,
}

/// Everything that happened on the wire.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    longest_bytes: usize,
    last: VecDeque<(Entry, usize)>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: FNV_OFFSET, events: 0, longest_bytes: 0, last: VecDeque::new() }
    }
}

impl Trace {
    /// Takes an event in, with the bytes that the packet carries.
    pub fn record(&mut self, entry: Entry, bytes: &[u8]) {
        self.events += 1;
        self.longest_bytes = self.longest_bytes.max(bytes.len());
        self.mix(&entry.at.as_nanos().to_le_bytes());
        for host in [entry.from, entry.to] {
            match host.ip() {
                IpAddr::V4(ip) => self.mix(&ip.octets()),
                IpAddr::V6(ip) => self.mix(&ip.octets()),
            }
            self.mix(&host.port().to_le_bytes());
        }
        self.mix(&[entry.kind as u8, entry.event as u8]);
        self.mix(&bytes.len().to_le_bytes());
        self.mix(bytes);
        if self.last.len() == EVENTS_KEPT {
            self.last.pop_front();
        }
        self.last.push_back((entry, bytes.len()));
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Bytes of the longest packet.
    pub fn longest_bytes(&self) -> usize {
        self.longest_bytes
    }

    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }
}

impl fmt::Display for Trace {
    /// The last events, one on each line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (Entry { at, from, to, kind, event }, bytes) in &self.last {
            writeln!(f, "{:>12.3} s  {from} → {to}  {kind:?} {event:?}, {bytes} bytes", at.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traced(at_ms: u64, bytes: &[u8]) -> Trace {
        let (from, to) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 1)));
        let mut trace = Trace::default();
        let at = Duration::from_millis(at_ms);
        trace.record(Entry { at, from, to, kind: Kind::Request, event: Event::Sent }, bytes);
        trace
    }

    #[test]
    fn a_millisecond_or_a_byte_makes_another_trace() {
        assert_eq!(traced(1, b"a").hash(), traced(1, b"a").hash());
        assert_ne!(traced(1, b"a").hash(), traced(2, b"a").hash());
        assert_ne!(traced(1, b"a").hash(), traced(1, b"b").hash());
    }

    #[test]
    fn only_the_last_events_are_kept_as_text() {
        let mut trace = traced(1, b"a");
        let entry = trace.last[0].0;
        (0..100).for_each(|_| trace.record(entry, b"abc"));
        assert_eq!((trace.events(), trace.longest_bytes()), (101, 3));
        assert_eq!(trace.to_string().lines().count(), EVENTS_KEPT);
    }
}
