//! The power is cut 10,000 times while a store writes, or recovers from the cut before.
//!
//! The disk is simulated: of what was not synced each sector survives or not by itself, and some only in part
//! ([`comet_store::simulation`] says how). The same cuts on a disk that lies about syncing show that a loss would
//! be noticed.

use std::panic;

use comet_store::{
    catches_panics,
    simulation::{PowerCutReport, Syncing, power_cuts},
};

use super::Figure;

/// Power cuts on the disk that is measured.
const CUTS: u64 = 10_000;

/// Power cuts on the disk that lies.
const CONTROL_CUTS: u64 = 200;

/// Of these so many of a hundred are noticed at least. The others came before anything was acknowledged, or the
/// disk happened to have done what it said.
const NOTICED_PERCENT_MIN: u64 = 25;

/// Measures it.
pub fn measure(seed: u64) -> Vec<Figure> {
    let PowerCutReport { cuts, acknowledged_lost, torn, refused_to_open } =
        power_cuts(seed, CUTS, Syncing::Honest);
    let figure =
        |what: &str, found: u64| Figure::none(format!("of {cuts} power cuts, {what}"), found as usize);
    vec![
        figure("those that lost something acknowledged", acknowledged_lost),
        figure("those that left a group of writes in part", torn),
        figure("those after which the store did not open", refused_to_open),
        control(seed),
    ]
}

fn control(seed: u64) -> Figure {
    // What a lying disk leaves makes no sense to the engine, whose panics the store catches.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !catches_panics() {
            hook(info);
        }
    }));
    let report = power_cuts(seed, CONTROL_CUTS, Syncing::Lying);
    let noticed = report.acknowledged_lost + report.torn + report.refused_to_open;
    Figure {
        what: format!("of {} power cuts on a disk that lies, those that are noticed", report.cuts),
        aim: format!("at least {NOTICED_PERCENT_MIN} %"),
        measured: format!("{} %", noticed * 100 / report.cuts),
        reached: noticed * 100 >= report.cuts * NOTICED_PERCENT_MIN,
    }
}
