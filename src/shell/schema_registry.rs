//! Writer schemas by id, from a registry.
