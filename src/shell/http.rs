//! Requests out: reqwest, deadlines, the lease looked at where the first byte is written.
