//! A Comet node: transport between nodes, replication, and the interfaces for clients.

pub mod actors;
pub mod address_book;
pub mod bootstrap;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod discovery;
pub mod heartbeat;
pub mod http;
pub mod identity;
pub mod json;
pub mod key_text;
pub mod node;
pub mod operation;
pub mod process;
pub mod swarm;
pub mod threads;
pub mod tracker;
pub mod transport;
pub mod upkeep;
pub mod wire;
