//! The token that a node's clients must show, if there is one, and how fast somebody may guess at it.

use std::{sync::Arc, time::Duration};

use ring::digest::{Digest, SHA256, digest};
use subtle::ConstantTimeEq;
use tokio::{sync::Mutex, time::sleep};

/// How long a wrong token keeps the turn of those that are refused.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_millis(250);

/// A token of which only the hash is kept.
#[derive(Clone)]
pub struct Secret {
    wanted: Option<Digest>,
    /// How long a wrong token keeps the turn of those that are refused.
    pub(crate) wrong_token_pause: Duration,
    /// Wrong tokens are answered one after the other, over all threads and connections: guessing at many of them is no
    /// faster than at one.
    refusals: Arc<Mutex<()>>,
}

impl Secret {
    /// The secret of a node with this token, or of one that wants none.
    pub fn new(token: Option<&str>) -> Self {
        Self {
            wanted: token.map(|token| digest(&SHA256, token.as_bytes())),
            wrong_token_pause: WRONG_TOKEN_PAUSE,
            refusals: Arc::default(),
        }
    }

    /// True if there is a token.
    pub fn is_set(&self) -> bool {
        self.wanted.is_some()
    }

    /// True if this is the token. The comparison takes the same time however much of it was guessed.
    pub fn is(&self, sent: &[u8]) -> bool {
        let sent = digest(&SHA256, sent);
        self.wanted.is_some_and(|wanted| bool::from(sent.as_ref().ct_eq(wanted.as_ref())))
    }

    /// Waits as long as whoever sent a wrong token has to. The right one never waits.
    pub async fn hold_up(&self) {
        let _turn = self.refusals.lock().await;
        sleep(self.wrong_token_pause).await;
    }
}
