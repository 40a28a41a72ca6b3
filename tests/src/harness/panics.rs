//! Panics inside actors, which actix and tokio would swallow.

use std::{cell::RefCell, panic, sync::Once};

thread_local! {
    static NOTED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// From now on every panic of this process is noted for the thread that it happens on, and then reported as
/// before.
pub(super) fn note_from_now_on() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            NOTED.with_borrow_mut(|noted| noted.push(panic.to_string()));
            report(panic);
        }));
    });
}

/// The panics of this thread so far.
pub(super) fn noted() -> Vec<String> {
    NOTED.with_borrow(Clone::clone)
}
