//! What operators see: metrics and log lines, one exhaustive match over the engine's events.
