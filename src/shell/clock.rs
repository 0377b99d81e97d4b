//! The only clock.
