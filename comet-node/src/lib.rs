//! A Comet node: transport between nodes, replication, and the interfaces for clients.

// What strangers send must not end a node: these hold everywhere, but in modules that are excused one by one because
// they count and index what the node itself made.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable
    )
)]

#[allow(clippy::arithmetic_side_effects)]
pub mod actors;
#[allow(clippy::arithmetic_side_effects)]
pub mod address_book;
#[allow(clippy::arithmetic_side_effects)]
pub mod bootstrap;
#[allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::unreachable)]
pub mod cli;
pub mod client;
#[allow(clippy::arithmetic_side_effects, clippy::unreachable)]
pub mod config;
#[allow(clippy::arithmetic_side_effects, clippy::expect_used)]
pub mod demo;
pub mod discovery;
pub mod heartbeat;
pub mod http;
#[allow(clippy::expect_used)]
pub mod identity;
pub mod json;
pub mod key_text;
pub mod node;
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub mod operation;
pub mod process;
pub mod resp;
pub mod secret;
mod several;
pub mod shortcut;
#[allow(clippy::arithmetic_side_effects)]
pub mod swarm;
pub mod threads;
pub mod tracker;
pub mod transport;
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub mod upkeep;
pub mod wire;
