//! A simulated world: its seed, its clock, its wire, and the story that is told in it.

use std::{
    cell::RefCell,
    fmt,
    panic::{self, AssertUnwindSafe},
    rc::Rc,
    thread,
    time::Duration,
};

use actix::System;
use comet_node::threads::STACK_BYTES;
use comet_routing::clock::{Clock, Shift, WallMs};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use tokio::{
    runtime,
    time::{Instant, timeout},
};

use super::{
    network::{Network, Weather},
    panics,
    wire::Wire,
};

/// What the clocks show when a story begins: 1 January 2026, in milliseconds.
const EPOCH_MS: WallMs = 1_767_225_600_000;

/// Simulated time after which a story that has not ended never will.
const STORY_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The variable that replays a story with another seed than the one it was written with.
const SEED_VARIABLE: &str = "COMET_SEED";

/// A world to tell a story in. Cheap to clone; it is always the same world.
#[derive(Clone)]
pub struct Sim(Rc<World>);

struct World {
    seed: u64,
    rng: RefCell<ChaCha12Rng>,
    started: Instant,
    wire: Rc<Wire>,
}

/// A seed that waits for its story.
#[derive(Clone, Debug)]
pub struct Seeded {
    seed: u64,
    replay: Option<String>,
}

/// Why a story went wrong. Whatever error turns up on the way becomes one.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure that these words describe.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Sim {
    /// A world in which everything follows from this seed, or from the one in `COMET_SEED`.
    pub fn seeded(seed: u64) -> Seeded {
        let replayed = std::env::var(SEED_VARIABLE).ok();
        let replayed = replayed.map(|text| text.parse().expect("COMET_SEED is a whole number"));
        Self::exactly(replayed.unwrap_or(seed))
    }

    /// A world of this seed, whatever the environment says: for what compares seeds.
    pub fn exactly(seed: u64) -> Seeded {
        Seeded { seed, replay: None }
    }

    fn new(seed: u64) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let network = Network::new(ChaCha12Rng::seed_from_u64(rng.next_u64()));
        Self(Rc::new(World {
            seed,
            rng: RefCell::new(rng),
            started: Instant::now(),
            wire: Rc::new(Wire::new(network)),
        }))
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// A clock that shows the right time until somebody sets it otherwise.
    pub fn clock_to_set(&self) -> (Clock, Shift) {
        let elapsed_ms = u64::try_from(self.elapsed().as_millis()).expect("a story takes days");
        Clock::settable(EPOCH_MS + elapsed_ms)
    }

    /// Simulated time since the story began.
    pub fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// What connects the nodes.
    pub fn wire(&self) -> &Rc<Wire> {
        &self.0.wire
    }

    /// Changes what the network does to packets; how far two nodes are from each other is settled by their
    /// first packet.
    pub fn weather(&self, weather: Weather) {
        self.0.wire.change(|network| network.set_weather(weather));
    }

    /// A seed of its own for one node.
    pub fn draw_seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.0.rng.borrow_mut().fill_bytes(&mut seed);
        seed
    }

    /// Lets time pass. Fails if an actor has panicked by then.
    pub async fn run_for(&self, time: Duration) {
        tokio::time::sleep_until(Instant::now() + time).await;
        fail_on_panics();
    }
}

impl Seeded {
    /// The command that tells the story again with the same seed, if it is not a test of the suite.
    pub fn replayed_by(self, command: impl Into<String>) -> Self {
        Self { replay: Some(command.into()), ..self }
    }

    /// Tells a story in a world of its own and fails the test if the story fails, an assertion in it does, or
    /// any actor panics; then says how to tell it again.
    pub fn run<T: Send>(self, story: impl AsyncFnOnce(Sim) -> Result<T, Failure> + Send) -> T {
        let name = thread::current().name().unwrap_or_default().to_owned();
        // Handlers need deeper stacks than a test has, and actix one system for each thread.
        let told = thread::scope(|scope| {
            let thread = thread::Builder::new().name(name.clone()).stack_size(STACK_BYTES);
            let telling = thread.spawn_scoped(scope, || self.tell(&name, story));
            telling.expect("the machine has a thread to spare").join()
        });
        told.unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    fn tell<T>(self, name: &str, story: impl AsyncFnOnce(Sim) -> Result<T, Failure>) -> T {
        panics::note_from_now_on();
        let system = System::with_tokio_rt(|| {
            let paused = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            paused.expect("a runtime without input and output needs nothing")
        });
        let mut world = None;
        let told = panic::catch_unwind(AssertUnwindSafe(|| {
            system.block_on(async {
                let sim = world.insert(Sim::new(self.seed)).clone();
                let told = timeout(STORY_MAX, story(sim)).await;
                fail_on_panics();
                match told {
                    Ok(Ok(told)) => told,
                    Ok(Err(failure)) => panic!("the story failed: {failure}"),
                    Err(_) => panic!("the story did not end within a simulated week"),
                }
            })
        }));
        told.unwrap_or_else(|panic| {
            if let Some(sim) = world {
                eprintln!("The last packets were:\n{}", sim.wire().trace());
            }
            let replay = self.replay.unwrap_or_else(|| test_command(self.seed, name));
            eprintln!("To see it again:\n    {replay}");
            panic::resume_unwind(panic)
        })
    }
}

/// The command that runs one test of the running suite with this seed.
fn test_command(seed: u64, name: &str) -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let suite = program.file_stem().unwrap_or_default().to_string_lossy();
    // Cargo puts a hash behind the names of test programs.
    let suite = suite.rsplit_once('-').map_or(&*suite, |(suite, _)| suite);
    let target =
        if suite == env!("CARGO_CRATE_NAME") { "--lib".to_owned() } else { format!("--test {suite}") };
    format!("{SEED_VARIABLE}={seed} cargo test -p comet-tests {target} {name}")
}

fn fail_on_panics() {
    let noted = panics::noted();
    assert!(noted.is_empty(), "an actor panicked: {}", noted.join("; "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_the_suite_that_runs() {
        assert_eq!(test_command(7, "a::b"), "COMET_SEED=7 cargo test -p comet-tests --lib a::b");
    }
}
