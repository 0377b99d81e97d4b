//! The model of Constant Contact over HTTP.
