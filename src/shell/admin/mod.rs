//! The admin port: `/metrics`, `/livez`, `/readyz`, `/health`.
