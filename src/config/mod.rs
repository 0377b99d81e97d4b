//! The operator's file: tree → one walk that finds every error → `Config`.
