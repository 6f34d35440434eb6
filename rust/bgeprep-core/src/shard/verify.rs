//! Finding what is damaged.
