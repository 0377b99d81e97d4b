//! The whole stage: configuration in, terms begun and ended, until it is told to stop.
