//! A model of Constant Contact: one pure state machine, request in, response out.
