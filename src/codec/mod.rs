//! BYTES ⇄ WORDS, pure: records of the source, state records, dead letters.
