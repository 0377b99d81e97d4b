//! Each planted bug is found by the virtual world, and the table in the simulator's documents says by what.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use listkeeper::{
    engine::planted::Bug,
    simulator::teeth::{Bite, SEEDS, bite, table},
};

#[test]
fn each_planted_bug_is_found() {
    // Worlds that panic are counted, not told.
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut bites = Vec::new();
        while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            bites.push(bite(*bug));
        }
        bites
    };
    let mut bites: Vec<Bite> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it counts panics")).collect()
    });
    drop(std::panic::take_hook());
    bites.sort_by_key(|bite| bite.bug);
    let found = table(&bites);
    let missed: Vec<&str> = bites.iter().filter(|bite| bite.seeds == 0).map(|bite| bite.bug.as_str()).collect();
    assert!(missed.is_empty(), "not found in {SEEDS} seeds: {missed:?}\n{found}");
    if found != include_str!("../src/simulator/teeth.md") {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("teeth.md");
        std::fs::write(&file, &found).expect("a file");
        panic!("the table is another now: look at it, and copy {} to src/simulator/teeth.md\n{found}", file.display());
    }
}
