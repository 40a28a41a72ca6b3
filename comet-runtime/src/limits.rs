//! What an object may be and use. One section of the configuration, printed by `comet-node limits`.

use serde::{Deserialize, Serialize};

use crate::{codec::Bounds, contact_policy::PostageLimits};

/// Sizes and budgets of objects and their handlers. All sizes in bytes, all times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest encoded value of a put, and largest encoded state.
    pub value_bytes: usize,
    /// Largest handler source.
    pub code_bytes: usize,
    /// Largest encoded reply of a handler.
    pub reply_bytes: usize,
    /// Longest name of an object.
    pub name_bytes: usize,
    /// Deepest nesting of lists and maps in a value; a scalar has depth 0.
    pub depth: usize,
    /// Interrupts that one turn may count; about one per loop turn and per call.
    pub steps: u64,
    /// Longest wall-clock time of one turn; the backstop behind `steps`.
    pub turn_ms: u64,
    /// Longest time from an event to its reply, waits for the network included.
    pub invocation_ms: u64,
    /// Live memory of one object, its state included.
    pub memory_bytes: usize,
    /// What one turn may allocate, garbage included.
    pub turn_alloc_bytes: usize,
    /// Waits for the network that one object may have open.
    pub waits: usize,
    /// Runs of one object that may wait for the network at the same time, and visits that may wait until its arrival is decided.
    pub queue: usize,
    /// Messages that one object may send in one timer interval, one for each node that is asked.
    pub messages: u32,
    /// Bytes that these messages may have together.
    pub message_bytes: u32,
    /// Shortest timer interval that an object may ask for, in seconds.
    pub timer_seconds_min: u64,
    /// Timer interval of an object that asks for none, in seconds (the paper's ten minutes).
    pub timer_seconds: u64,
    /// Lines that an object's log keeps.
    pub log_lines: usize,
    /// Longest line of an object's log, and longest error text of a handler.
    pub log_line_bytes: usize,
    /// One-shot callback capabilities that an object may hold.
    pub capabilities: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: 64 * 1024,
            code_bytes: 16 * 1024,
            reply_bytes: 64 * 1024,
            name_bytes: 1024,
            depth: 16,
            steps: 100_000,
            turn_ms: 50,
            invocation_ms: 10_000,
            memory_bytes: 256 * 1024,
            turn_alloc_bytes: 1024 * 1024,
            waits: 16,
            queue: 64,
            messages: 20,
            message_bytes: 256 * 1024,
            timer_seconds_min: 60,
            timer_seconds: 600,
            log_lines: 64,
            log_line_bytes: 256,
            capabilities: 256,
        }
    }
}

impl Limits {
    /// What a put's value and an object's state may measure.
    pub fn value_bounds(&self) -> Bounds {
        Bounds { bytes: self.value_bytes, depth: self.depth }
    }

    /// What an object may send in one timer interval to others than the replicas of its key.
    pub fn postage(&self) -> PostageLimits {
        PostageLimits { messages: self.messages, bytes: self.message_bytes }
    }

    /// What it may send to the replicas of its key: as many messages to each of the usual eight, and as many bytes as
    /// a copy to each of them has whose value and state are of the largest size.
    pub fn own_postage(&self) -> PostageLimits {
        PostageLimits {
            messages: self.messages.saturating_mul(8),
            bytes: self.message_bytes.saturating_mul(4),
        }
    }

    /// What a handler's reply may measure.
    pub fn reply_bounds(&self) -> Bounds {
        Bounds { bytes: self.reply_bytes, depth: self.depth }
    }
}
