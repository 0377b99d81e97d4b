//! The one loop: drain outputs into effects, wait for the first of what may happen, feed it, again.
