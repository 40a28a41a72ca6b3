//! One connection, from its first byte to its last.

use std::{future::poll_fn, io, net::SocketAddr, rc::Rc, time::Duration};

use bytes::{Buf, BytesMut};
use comet_routing::Key;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    Front,
    channels::{CHANNELS_MAX, Channels},
    command::{self, Ask, Command},
    last_get::LastGet,
    perform::perform,
    pipeline::{Claim, Done, Pipeline},
    reply::{Protocol, Reply},
    request::Intake,
    session::{Change, Listens, Next, Session},
    subscriber::{self, Subscriber, Told},
};
use crate::http::Backend;

/// Where so much is to be sent, it is sent before another command is begun, in bytes.
const OUT_BYTES_MAX: usize = 256 * 1024;

/// The memory for replies that a connection keeps when there are none, in bytes.
const OUT_BYTES_KEPT: usize = 16 * 1024;

/// Topics that are asked at the same time when somebody begins to listen.
const CHANNELS_AT_ONCE: usize = 16;

/// GETs of a pipeline that are asked for together. Less is done for each than if it came alone, and none is answered before all are.
const GETS_AT_ONCE: usize = 32;

/// How often a connection looks whether it waits in vain.
const TICK: Duration = Duration::from_secs(5);

/// Ticks that a request may take to arrive, and a stranger to show the token.
const REQUEST_TICKS_MAX: u64 = 2;

/// How long a client may leave the replies unread for which there is no more room.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);

/// Why no more commands were begun.
#[derive(Debug, PartialEq)]
enum Pause {
    /// All that came has been begun.
    Starved,
    /// The next command waits for one that is under way.
    Blocked,
    /// There is much to send.
    Full,
    /// The connection's channels change.
    Change(Change),
    /// Nothing more is taken from this client.
    Ended,
}

/// What a connection holds besides its commands under way.
struct Connection<B> {
    front: Rc<Front<B>>,
    stream: TcpStream,
    session: Session,
    intake: Intake,
    out: BytesMut,
    /// The next command, if it was taken from what arrived already.
    held: Option<(Claim, Command)>,
    ended: bool,
    last_get: LastGet,
}

/// Serves a connection until it ends, or until `closing` changes and what has begun is answered.
pub(super) async fn serve<B: Backend>(
    front: Rc<Front<B>>,
    stream: TcpStream,
    peer: SocketAddr,
    id: i64,
    mut closing: watch::Receiver<()>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let session = Session::new(id, peer, stream.local_addr()?, &front.secret);
    let idle_ticks_max = front.idle.as_secs().div_ceil(TICK.as_secs()).max(1);
    let served = front.clone();
    let (intake, out) = (Intake::default(), BytesMut::new());
    let last_get = LastGet::default();
    let mut connection =
        Connection { front, stream, session, intake, out, held: None, ended: false, last_get };
    let mut pipeline = Pipeline::default();
    let mut subscriber = Subscriber::new(connection.front.hub.bell());
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut quiet_ticks, mut partial_ticks) = (0_u64, 0_u64);
    let mut closed = std::pin::pin!(closing.changed());
    loop {
        let pause = connection.begin(&mut pipeline, perform, &subscriber.channels)?;
        let mut replied = false;
        while connection.out.len() < OUT_BYTES_MAX
            && let Some(reply) = poll_fn(|context| pipeline.poll_reply(context)).now_or_never()
        {
            connection.say(&reply)?;
            replied = true;
        }
        connection.flush().await?;
        match pause {
            // The command may have waited for one of these.
            Pause::Blocked if replied => continue,
            Pause::Full => {
                // A client that keeps up with its replies leaves no other gap for the objects of this thread.
                tokio::task::yield_now().await;
                continue;
            }
            Pause::Change(change) => {
                connection.change(change, &mut subscriber).await?;
                continue;
            }
            _ => {}
        }
        if pause == Pause::Ended && pipeline.is_empty() {
            return Ok(());
        }
        if connection.intake.is_empty() {
            partial_ticks = 0;
        }
        tokio::select! {
            biased;
            reply = poll_fn(|context| pipeline.poll_reply(context)) => connection.say(&reply)?,
            read = connection.read(), if pause == Pause::Starved => {
                quiet_ticks = 0;
                // What has begun is answered: the client may have closed its half only.
                connection.ended |= read? == 0;
            }
            heard = subscriber.hear(|question| subscriber::ask(served.clone(), question)),
                if !connection.ended && !subscriber.channels.is_empty() =>
            {
                quiet_ticks = 0;
                for reply in &heard {
                    connection.say(reply)?;
                }
            }
            _ = tick.tick() => {
                quiet_ticks = quiet_ticks.saturating_add(1);
                partial_ticks = partial_ticks.saturating_add(1);
                let waits = pipeline.is_empty() && pause == Pause::Starved;
                let begun = !connection.intake.is_empty() || connection.session.is_stranger();
                let slow = begun && partial_ticks > REQUEST_TICKS_MAX;
                let idle = quiet_ticks > idle_ticks_max && subscriber.channels.is_empty();
                if waits && (slow || idle) {
                    return Ok(());
                }
            }
            // It is not looked at again.
            _ = &mut closed, if !connection.ended => connection.ended = true,
        }
    }
}

impl<B: Backend> Connection<B> {
    /// Takes what arrives; nothing at the end. Only a client that has sent something has memory for it.
    async fn read(&mut self) -> io::Result<usize> {
        self.stream.readable().await?;
        self.stream.read_buf(self.intake.buffer()).await
    }

    /// Begins every command that has arrived and may begin.
    fn begin<F: Future<Output = Done>>(
        &mut self,
        pipeline: &mut Pipeline<F>,
        perform: impl Fn(Rc<Front<B>>, Ask) -> F,
        channels: &Channels,
    ) -> io::Result<Pause> {
        loop {
            let apart = !channels.is_empty() && self.session.protocol() == Protocol::Resp2;
            let listens = if apart { Listens::Apart } else { Listens::No };
            if self.out.len() >= OUT_BYTES_MAX {
                return Ok(Pause::Full);
            }
            let Some((claim, command)) = self.held.take().or_else(|| self.next(listens)) else {
                return Ok(if self.ended { Pause::Ended } else { Pause::Starved });
            };
            if !pipeline.admits(&claim) {
                self.held = Some((claim, command));
                return Ok(Pause::Blocked);
            }
            let (claim, command, commands) = match command {
                Command::Ask(Ask::Get(key)) if !self.session.is_stranger() => {
                    self.with_its_like(key, listens, pipeline)
                }
                _ => (claim, command, 1),
            };
            self.front.counters.count(commands);
            let next = match command {
                Command::Ask(Ask::Answered(reply)) => Next::Answer(reply),
                command => self.session.take(command, listens, &self.front.secret),
            };
            let ask = match next {
                Next::Answer(reply) if pipeline.is_empty() => {
                    self.say(&reply)?;
                    continue;
                }
                Next::Answer(reply) => Ask::Answered(reply),
                Next::Farewell(reply) => {
                    self.ended = true;
                    self.intake = Intake::default();
                    Ask::Answered(reply)
                }
                Next::Wait(ask) => ask,
                Next::Change(change) => return Ok(Pause::Change(change)),
            };
            pipeline.start(claim, commands, perform(self.front.clone(), ask));
        }
    }

    /// Joins to a GET those that come right behind it and may begin; how many commands that is.
    fn with_its_like<F: Future<Output = Done>>(
        &mut self,
        first: Key,
        listens: Listens,
        pipeline: &Pipeline<F>,
    ) -> (Claim, Command, usize) {
        let (mut keys, most) = (Vec::new(), GETS_AT_ONCE.min(pipeline.room()));
        while keys.len().max(1) < most {
            match self.next(listens) {
                Some((claim, Command::Ask(Ask::Get(key)))) if pipeline.admits(&claim) => {
                    if keys.is_empty() {
                        keys.push(first);
                    }
                    keys.push(key);
                }
                other => {
                    self.held = other;
                    break;
                }
            }
        }
        let commands = keys.len().max(1);
        let command = Command::Ask(if keys.is_empty() { Ask::Get(first) } else { Ask::Gets(keys) });
        (Claim::of(&command), command, commands)
    }

    /// The next command that has arrived as a whole. What asks for nothing becomes its own error, and so does what nothing can follow.
    fn next(&mut self, listens: Listens) -> Option<(Claim, Command)> {
        let words = match self.intake.next(self.session.request_limits()) {
            Ok(Some(words)) => words,
            Ok(None) => {
                self.intake.shrink();
                return None;
            }
            Err(error) => {
                self.ended = true;
                self.intake = Intake::default();
                let reply = Reply::error(format!("ERR {error}"));
                return Some((Claim::Nothing, Command::Ask(Ask::Answered(reply))));
            }
        };
        let again = self.last_get.again(&words);
        let command = again.map_or_else(|| command::parse(&words, &self.front.rules), Ok);
        let command = command
            .and_then(|command| match listens {
                Listens::Apart if !command.suits_subscriber() => Err(command::unsuitable(&words)),
                _ => Ok(command),
            })
            .unwrap_or_else(|error| Command::Ask(Ask::Answered(Reply::error(error.to_string()))));
        self.last_get.note(&words, &command);
        Some((Claim::of(&command), command))
    }

    /// Changes the connection's channels. Whoever has heard that it listens hears everything that is published from then on.
    async fn change<H: Future<Output = Told>>(
        &mut self,
        change: Change,
        subscriber: &mut Subscriber<H>,
    ) -> io::Result<()> {
        match change {
            Change::Add(channels) => {
                let front = self.front.clone();
                let ask = |(name, key)| {
                    let newest = subscriber::newest(&front.backend, key);
                    newest.map(move |heard| (name, key, heard))
                };
                let mut asking = stream::iter(channels).map(ask).buffered(CHANNELS_AT_ONCE);
                while let Some((name, key, heard)) = asking.next().await {
                    let reply = match heard {
                        Ok(heard) if subscriber.channels.takes(&name) => {
                            subscriber.channels.add(name, key, heard, &front.hub)
                        }
                        Ok(_) => Reply::error(format!(
                            "ERR a connection listens to at most {CHANNELS_MAX} channels"
                        )),
                        Err(refused) => refused,
                    };
                    self.say(&reply)?;
                }
            }
            Change::Remove(names) => {
                let names = if names.is_empty() { subscriber.channels.names() } else { names };
                if names.is_empty() {
                    self.say(&subscriber.channels.remove(None))?;
                }
                for name in names {
                    self.say(&subscriber.channels.remove(Some(name)))?;
                }
            }
        }
        Ok(())
    }

    fn say(&mut self, reply: &Reply) -> io::Result<()> {
        reply
            .write(self.session.protocol(), &mut self.out)
            .map_err(|error| io::Error::other(error.to_string()))
    }

    /// Sends what there is to send. Only a client that does not keep up has a clock set for it.
    async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        if !self.send()? {
            let rest = async {
                loop {
                    self.stream.writable().await?;
                    if self.send()? {
                        return io::Result::Ok(());
                    }
                }
            };
            timeout(WRITE_TIME_MAX, rest).await??;
        }
        if self.out.capacity() > OUT_BYTES_KEPT {
            self.out = BytesMut::new();
        }
        Ok(())
    }

    /// Sends what the system takes now; true if that was all.
    fn send(&mut self) -> io::Result<bool> {
        match self.stream.try_write(&self.out) {
            Ok(sent) => self.out.advance(sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(self.out.is_empty())
    }
}
