//! Commands of one connection that are under way: which may run beside each other, and whose reply comes first.
//!
//! Replies come in the order of the commands. Commands run at the same time, but for those that touch one key and
//! of which one writes it: the later waits for the earlier. So the writes of a pipeline can share a commit, and a client that writes a
//! key and reads it sees what it wrote.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use comet_routing::Key;
use futures_util::stream::{FuturesOrdered, Stream};

use super::{
    command::{Ask, Command},
    reply::Reply,
};

/// Commands of one connection that are under way at the same time.
pub const RUNNING_MAX: usize = 256;

/// What a command touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// No key.
    Nothing,
    /// These keys, to read them.
    Read(Keys),
    /// These keys, to change them.
    Write(Keys),
    /// The connection itself.
    Everything,
}

/// One key or several, without a list for the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// One.
    One(Key),
    /// Several.
    Many(Box<[Key]>),
}

impl Keys {
    fn as_slice(&self) -> &[Key] {
        match self {
            Self::One(key) => std::slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }

    fn meet(&self, other: &Self) -> bool {
        self.as_slice().iter().any(|key| other.as_slice().contains(key))
    }

    fn of(keys: &[Key]) -> Self {
        match keys {
            [key] => Self::One(*key),
            _ => Self::Many(keys.into()),
        }
    }
}

impl Claim {
    /// What a command touches.
    pub fn of(command: &Command) -> Self {
        match command {
            Command::Ask(ask) => Self::of_ask(ask),
            // These change what replies look like or what may be asked.
            Command::Hello(_)
            | Command::Auth(_)
            | Command::Quit
            | Command::Subscribe(_)
            | Command::Unsubscribe(_) => Self::Everything,
            _ => Self::Nothing,
        }
    }

    fn of_ask(ask: &Ask) -> Self {
        match ask {
            Ask::Get(key) | Ask::Ttl(key, _) | Ask::Perform(key, _) | Ask::Inspect(key) => {
                Self::Read(Keys::One(*key))
            }
            Ask::GetMany(keys) | Ask::Gets(keys) | Ask::Exists(keys) => Self::Read(Keys::of(keys)),
            Ask::Put(put) => Self::Write(Keys::One(put.key)),
            Ask::Publish(key, _) => Self::Write(Keys::One(*key)),
            Ask::PutMany(puts) => Self::Write(Keys::Many(puts.iter().map(|put| put.key).collect())),
            Ask::Delete(keys) => Self::Write(Keys::of(keys)),
            Ask::Info(_) | Ask::Answered(_) | Ask::WrongToken => Self::Nothing,
        }
    }

    /// True if the later of the two must wait for the earlier.
    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everything, _) | (_, Self::Everything) => true,
            (Self::Nothing, _) | (_, Self::Nothing) | (Self::Read(_), Self::Read(_)) => false,
            (Self::Write(ours), Self::Read(theirs) | Self::Write(theirs))
            | (Self::Read(ours), Self::Write(theirs)) => ours.meet(theirs),
        }
    }
}

/// What came of one command, or of several that were done together.
#[derive(Debug)]
pub enum Done {
    /// Its reply.
    One(Reply),
    /// Theirs, in their order.
    Several(Vec<Reply>),
}

/// The commands that are under way, oldest first.
pub struct Pipeline<F: Future<Output = Done>> {
    running: FuturesOrdered<F>,
    /// What each touches, and how many commands it is.
    claims: VecDeque<(Claim, usize)>,
    /// Replies to the oldest of all, which were done together.
    ready: VecDeque<Reply>,
    commands: usize,
    /// How many of the claims are not to read: a pipeline of reads need not be looked through.
    exclusive: usize,
}

impl<F: Future<Output = Done>> Default for Pipeline<F> {
    fn default() -> Self {
        Self {
            running: FuturesOrdered::new(),
            claims: VecDeque::new(),
            ready: VecDeque::new(),
            commands: 0,
            exclusive: 0,
        }
    }
}

impl<F: Future<Output = Done>> Pipeline<F> {
    /// True if no reply is to come.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.ready.is_empty()
    }

    /// True if a command that touches this may start now.
    pub fn admits(&self, claim: &Claim) -> bool {
        if self.claims.is_empty() {
            // What changes the connection changes the replies after it, and those that are ready come before it.
            return self.ready.is_empty() || *claim != Claim::Everything;
        }
        let alone = self.exclusive == 0 && matches!(claim, Claim::Read(_) | Claim::Nothing);
        self.room() > 0 && (alone || !self.claims.iter().any(|(earlier, _)| earlier.excludes(claim)))
    }

    /// How many commands may start now besides those under way.
    pub fn room(&self) -> usize {
        RUNNING_MAX.saturating_sub(self.commands)
    }

    /// Starts what was admitted: one command, or several that are done together.
    pub fn start(&mut self, claim: Claim, commands: usize, work: F) {
        if matches!(claim, Claim::Write(_) | Claim::Everything) {
            self.exclusive = self.exclusive.saturating_add(1);
        }
        self.commands = self.commands.saturating_add(commands);
        self.claims.push_back((claim, commands));
        self.running.push_back(work);
    }

    /// The reply to the oldest command; pending for ever if there is none.
    pub fn poll_reply(&mut self, context: &mut Context<'_>) -> Poll<Reply> {
        loop {
            if let Some(reply) = self.ready.pop_front() {
                return Poll::Ready(reply);
            }
            let Poll::Ready(Some(done)) = Pin::new(&mut self.running).poll_next(context) else {
                return Poll::Pending;
            };
            if let Some((claim, commands)) = self.claims.pop_front() {
                self.commands = self.commands.saturating_sub(commands);
                if matches!(claim, Claim::Write(_) | Claim::Everything) {
                    self.exclusive = self.exclusive.saturating_sub(1);
                }
            }
            match done {
                Done::One(reply) => return Poll::Ready(reply),
                Done::Several(replies) => self.ready = replies.into(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap, future::poll_fn, rc::Rc};

    use futures_util::FutureExt;
    use proptest::prelude::*;
    use tokio::sync::oneshot;

    use super::*;

    fn key(n: u8) -> Key {
        Key::of(n.to_string())
    }

    fn read(n: u8) -> Claim {
        Claim::Read(Keys::One(key(n)))
    }

    fn write(n: u8) -> Claim {
        Claim::Write(Keys::One(key(n)))
    }

    /// A pipeline in which these are under way and do not end.
    fn under_way(claims: &[Claim]) -> Pipeline<std::future::Pending<Done>> {
        let mut pipeline = Pipeline::default();
        for claim in claims {
            pipeline.start(claim.clone(), 1, std::future::pending());
        }
        pipeline
    }

    #[test]
    fn what_writes_a_key_waits_for_what_touches_it_and_nothing_else_waits() {
        let both = Claim::Write(Keys::Many([key(1), key(2)].into()));
        for (earlier, later, admitted) in [
            (read(1), read(1), true),
            (read(1), write(1), false),
            (write(1), read(1), false),
            (write(1), write(1), false),
            (write(1), write(2), true),
            (write(1), read(2), true),
            (both.clone(), read(2), false),
            (read(2), both.clone(), false),
            (both, write(3), true),
            (write(1), Claim::Nothing, true),
            (Claim::Nothing, Claim::Everything, false),
            (Claim::Everything, Claim::Nothing, false),
        ] {
            assert_eq!(
                under_way(std::slice::from_ref(&earlier)).admits(&later),
                admitted,
                "{earlier:?} {later:?}"
            );
        }
        assert!(under_way(&[]).admits(&Claim::Everything));
    }

    #[test]
    fn no_more_than_256_are_under_way() {
        assert!(under_way(&vec![read(1); RUNNING_MAX - 1]).admits(&read(2)));
        assert!(!under_way(&vec![read(1); RUNNING_MAX]).admits(&read(2)));
        let mut pipeline = under_way(&[read(1)]);
        pipeline.start(read(1), RUNNING_MAX - 1, std::future::pending());
        assert!(!pipeline.admits(&read(2)), "several together are as many");
    }

    #[test]
    fn those_done_together_are_answered_one_after_the_other() {
        let mut pipeline = Pipeline::default();
        for done in
            [Done::Several([1, 2, 3].map(Reply::Int).into()), Done::Several(vec![]), Done::One(Reply::Int(4))]
        {
            pipeline.start(read(1), 1, std::future::ready(done));
        }
        for n in 1..=4 {
            assert!(!pipeline.is_empty());
            assert_eq!(poll_fn(|context| pipeline.poll_reply(context)).now_or_never(), Some(Reply::Int(n)));
        }
        assert!(pipeline.is_empty());
    }

    #[test]
    fn what_changes_the_connection_waits_for_all_that_were_done_together() {
        let mut pipeline = Pipeline::default();
        let done = Done::Several([1, 2].map(Reply::Int).into());
        pipeline.start(read(1), 2, std::future::ready(done));
        for n in 1..=2 {
            assert!(!pipeline.admits(&Claim::Everything), "reply {n} is to come");
            assert_eq!(poll_fn(|context| pipeline.poll_reply(context)).now_or_never(), Some(Reply::Int(n)));
            assert!(pipeline.admits(&read(1)) && pipeline.admits(&write(1)));
        }
        assert!(pipeline.admits(&Claim::Everything));
    }

    proptest! {
        /// Each command is begun as soon as it is admitted, and they end in the order of `ends`.
        #[test]
        fn replies_come_in_the_order_of_the_commands_in_whatever_order_they_end(
            ends in Just((0..20_i64).collect::<Vec<_>>()).prop_shuffle(),
            claims in prop::collection::vec((any::<bool>(), 0..4_u8), 20),
        ) {
            let mut pipeline = Pipeline::default();
            let mut waiting: VecDeque<(i64, Claim)> = claims
                .iter()
                .map(|(writes, n)| if *writes { write(*n) } else { read(*n) })
                .zip(0..)
                .map(|(claim, n)| (n, claim))
                .collect();
            let running = Rc::new(RefCell::new(BTreeMap::<i64, oneshot::Sender<()>>::new()));
            let mut replies = Vec::new();
            let mut ends: VecDeque<i64> = ends.into();
            while replies.len() < claims.len() {
                while waiting.front().is_some_and(|(_, claim)| pipeline.admits(claim)) {
                    let (n, claim) = waiting.pop_front().expect("there is one in front");
                    let (end, ended) = oneshot::channel();
                    running.borrow_mut().insert(n, end);
                    pipeline.start(claim, 1, async move {
                        ended.await.expect("it is told to end");
                        Done::One(Reply::Int(n))
                    });
                }
                // Whoever should end next and is not under way yet has its turn later.
                let at = ends.iter().position(|n| running.borrow().contains_key(n)).expect("something runs");
                let n = ends.remove(at).expect("it is at its place");
                let end = running.borrow_mut().remove(&n).expect("it runs");
                end.send(()).expect("somebody waits");
                while let Some(reply) = poll_fn(|context| pipeline.poll_reply(context)).now_or_never() {
                    replies.push(reply);
                }
            }
            prop_assert_eq!(replies, (0..20).map(Reply::Int).collect::<Vec<_>>());
            prop_assert!(pipeline.is_empty());
        }
    }
}
