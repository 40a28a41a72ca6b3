//! What a node listens with for clients: HTTP, and what else is configured.

use std::{io, net::SocketAddr};

use actix_rt::task::JoinHandle;
use actix_web::dev::{Server, ServerHandle};

use crate::{
    client::Client,
    config::NodeConfig,
    http,
    resp::{self, RespServer},
    threads::Stage,
    tracker,
};

/// A node's open interfaces for clients.
pub struct Fronts {
    http: SocketAddr,
    tracker: Option<SocketAddr>,
    resp: Option<RespServer>,
    servers: Vec<(ServerHandle, JoinHandle<io::Result<()>>)>,
}

impl Fronts {
    /// Opens them all, or none. Must be called inside an actix system. Redis clients are served on the threads named,
    /// those of the objects.
    pub fn open(config: &NodeConfig, client: &Client, threads: &[Stage]) -> anyhow::Result<Self> {
        let (server, http) = http::serve(&config.http, &config.limits, &config.replication, client.clone())?;
        let tracker = match config.tracker.listen {
            Some(listen) => {
                let home = client.contact().addr.ip();
                Some(tracker::serve(&config.tracker, listen, home, client.clone(), client.tracker())?)
            }
            None => None,
        };
        let (tracking, tracker) = tracker.unzip();
        let resp = match config.resp.listen {
            Some(listen) => {
                let token = config.http.token.as_deref();
                let (limits, replication) = (&config.limits, &config.replication);
                Some(resp::serve(&config.resp, listen, token, limits, replication, threads, client)?)
            }
            None => None,
        };
        let servers = [Some(server), tracking].into_iter().flatten().map(spawned).collect();
        Ok(Self { http, tracker, resp, servers })
    }

    /// Where HTTP clients reach the node.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where BitTorrent clients reach it, if they do.
    pub fn tracker(&self) -> Option<SocketAddr> {
        self.tracker
    }

    /// Where Redis clients reach it, if they do.
    pub fn resp(&self) -> Option<SocketAddr> {
        self.resp.as_ref().map(RespServer::addr)
    }

    /// Closes them; requests that have begun are answered.
    pub async fn close(self) {
        if let Some(resp) = self.resp {
            resp.close().await;
        }
        for (handle, serving) in self.servers {
            handle.stop(true).await;
            serving.await.ok();
        }
    }
}

fn spawned(server: Server) -> (ServerHandle, JoinHandle<io::Result<()>>) {
    (server.handle(), actix_rt::spawn(server))
}
