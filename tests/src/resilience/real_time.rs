//! Real time, which a measurement over real processes has to let pass. Tests wait for events instead.

use std::{thread, time::Duration};

/// Lets time pass.
#[expect(clippy::disallowed_methods, reason = "what happens in a while is what is measured")]
pub(super) fn pass(time: Duration) {
    thread::sleep(time);
}
