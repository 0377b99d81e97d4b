//! Where tokens live, and how they are refreshed.
