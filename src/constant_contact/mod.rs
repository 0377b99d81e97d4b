//! THE PROTOCOL, pure: words to `http` requests, `http` responses to words.
